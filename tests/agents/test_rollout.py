"""Rollouts: whatever vector environment it is, the same episodes, the same evaluations, the same cut."""

import functools

import gymnasium as gym
import numpy as np
import pytest
from planted_problems import Counted, learn, planted, problem_of, single, vector

from ads_gym.agents.recurrent.agent import Recurrent
from ads_gym.agents.recurrent.rollout import Rollout, choices, keep_is_legal
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.envs.vector import DenseNetSparsifyVectorEnv
from ads_gym.errors import InvalidValue


def sync(problem, count=8):
    return gym.vector.SyncVectorEnv([lambda: single(problem)] * count)


@pytest.mark.parametrize("settings", [{}, {"max_macs": 0.6, "cost_weight": "even"}])
def test_episodes_do_not_depend_on_the_kind_of_vector_env(settings):
    collected = []
    for kind in (sync, vector):
        problem, counted = problem_of(planted(5, 5), 1000, **settings)
        rollout, inputs, rng = Rollout(kind(problem)), [], np.random.default_rng(0)

        def choose(step, inputs=inputs, rng=rng):
            inputs.append([part.copy() for part in step])
            return rng.random(len(step.is_first)) < 0.5

        collected.append((rollout.collect(choose, 20), inputs, list(counted.history), rollout.steps))
    theirs, ours = collected
    assert len(ours[0]) == 24 and ours[2:] == theirs[2:]
    for our, their in zip(ours[0], theirs[0], strict=True):
        assert (our.mask.tolist(), our.objective, our.length) == (their.mask.tolist(), their.objective, their.length)
    for our, their in zip(ours[1], theirs[1], strict=True):
        [np.testing.assert_array_equal(*parts) for parts in zip(our, their, strict=True)]


def test_an_episodes_return_is_the_objective_of_its_mask():
    problem, _ = problem_of(planted(5, 5), max_macs=0.7, cost_weight=0.3)
    rng = np.random.default_rng(0)
    episodes = Rollout(vector(problem)).collect(lambda step: rng.random(8) < 0.5, 16)
    scores = problem.score(np.array([episode.mask for episode in episodes]))
    assert [episode.objective for episode in episodes] == pytest.approx([score.objective for score in scores])
    assert {episode.length for episode in episodes} == {20}


@pytest.mark.parametrize("budget", [37, 70])
def test_a_batch_beyond_the_budget_is_cut_in_environment_order(budget):
    histories = []
    for kind in (sync, vector):
        problem, counted = problem_of(planted(5, 5), budget)
        learn(Recurrent(kind(problem), seed=0))
        histories.append(list(counted.history))
    assert histories[0] == histories[1]
    assert len(histories[0]) == budget


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DenseNetSparsifyVectorEnv(2, task="planted-20", autoreset_mode="SameStep"), "NEXT_STEP"),
        (lambda: DenseNetSparsifyVectorEnv(2, task="planted-20", decision="layer"), "decision 'connection'"),
        (lambda: DenseNetSparsifyVectorEnv(2, task="planted-20", observation="flat"), "observation 'matrix'"),
        (lambda: None, "single env"),
        (gym.vector.VectorEnv, "SyncVectorEnv; got VectorEnv"),
        (lambda: gym.make_vec("CartPole-v1", 2), "got CartPoleVectorEnv"),
    ],
)
def test_environments_that_are_refused(make, says):
    with pytest.raises(InvalidValue, match=says):
        Rollout(make())


def test_environments_in_other_processes_are_refused():
    make = functools.partial(DenseNetSparsifyEnv, task="planted-20")
    envs = gym.vector.AsyncVectorEnv([make], context="spawn")
    try:
        with pytest.raises(InvalidValue, match="SyncVectorEnv; got AsyncVectorEnv"):
            Recurrent(envs)
    finally:
        envs.close()


@pytest.mark.parametrize("kind", [sync, vector])
def test_wrapped_environments_are_stepped(kind):
    problem, counted = problem_of(planted(3, 3), 40)
    learn(Recurrent(gym.wrappers.vector.RecordEpisodeStatistics(kind(problem)), warmup=4))
    assert isinstance(counted, Counted) and len(counted.history) > 4


def test_legal_actions_agree_with_the_action_masks():
    problem, _ = problem_of(planted(6, 6, 6), max_macs=0.55)
    env, rng, size = single(problem), np.random.default_rng(1), problem.topology.size
    for _ in range(20):
        given = np.where(rng.random(size) < 0.2, rng.integers(0, 2, size), -1).astype(np.int8)
        given[(given == 1) & (rng.random(size) < 0.5)] = -1
        _, info = env.reset(options={"decided": given})
        legal, over = np.zeros(size, bool), False
        while not over:
            decisions = info["decisions"]
            legal[(decisions == -1).argmax()] = info["action_mask"][1]
            assert keep_is_legal(problem, decisions) == info["action_mask"][1]
            _, _, over, _, info = env.step(int(rng.random() < 0.9))
        mask = info["decisions"] == 1
        assert np.array_equal(choices(problem, given, mask), legal)
        assert np.array_equal(choices(problem, given[None], mask[None])[0], legal)
    assert not legal.all()
