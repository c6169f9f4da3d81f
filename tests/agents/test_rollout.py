"""Episodes side by side: whatever vector env it is, the same is played, paid for and cut."""

import functools

import gymnasium as gym
import numpy as np
import pytest
from agentgames import masks_of, planted, recorded, run, side_by_side, single

from ads_gym.agents.recurrent.agent import Reinforce
from ads_gym.agents.recurrent.rollout import Lockstep
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.envs.vector import DenseNetSparsifyVectorEnv
from ads_gym.errors import BudgetExhausted, InvalidValue


def sync(record, count=8, **settings):
    return gym.vector.SyncVectorEnv([lambda: single(record, **settings)] * count)


def drawn(seed):
    rng = np.random.default_rng(seed)
    return lambda moment: rng.random(len(moment.fresh)) < 0.5


@pytest.mark.parametrize("settings", [{}, {"max_macs": 0.6, "cost_weight": "even"}])
def test_what_is_played_does_not_depend_on_the_kind_of_vector_env(tmp_path, settings):
    played = []
    for kind in (sync, side_by_side):
        record = recorded(tmp_path / kind.__name__, planted(5, 5), 1000)
        table = Lockstep(kind(record, **settings))
        moments, choose = [], drawn(0)

        def look(moment, moments=moments, choose=choose):
            moments.append([part.copy() for part in moment])
            return choose(moment)

        played.append((table.play(look, 20), moments, masks_of(record), table.steps, table.cost_weight))
    theirs, ours = played
    assert len(ours[0]) == 24 and ours[2:] == theirs[2:]
    for our, their in zip(ours[0], theirs[0], strict=True):
        assert (our.mask.tolist(), our.score, our.steps) == (their.mask.tolist(), their.score, their.steps)
    for our, their in zip(ours[1], theirs[1], strict=True):
        [np.testing.assert_array_equal(*parts) for parts in zip(our, their, strict=True)]


@pytest.mark.parametrize("budget", [37, 70])
def test_a_batch_beyond_the_budget_is_cut_in_environment_order(tmp_path, budget):
    histories = []
    for kind in (sync, side_by_side):
        record = recorded(tmp_path / kind.__name__, planted(5, 5), budget)
        run(Reinforce, kind(record), seed=0, asks=1)
        histories.append([(row.index, row.mask, row.metrics, row.reward, row.episode) for row in record.history.rows])
    assert histories[0] == histories[1]
    assert len(histories[0]) == budget


def test_after_the_budget_every_step_and_every_reset_is_refused(tmp_path):
    record = recorded(tmp_path, planted(3), 3)
    envs = side_by_side(record, decision="network")
    envs.reset()
    every = np.array([[bit >> index & 1 for index in range(3)] for bit in range(8)])
    with pytest.raises(BudgetExhausted):
        envs.step(every)
    assert masks_of(record) == [record.topology.key(mask) for mask in every[:3]]
    for call in (lambda: envs.step(every), envs.reset, lambda: envs.evaluate(every[:1])):
        with pytest.raises(BudgetExhausted):
            call()


def test_a_budgeted_vector_env_has_what_the_one_inside_has(tmp_path):
    envs = side_by_side(recorded(tmp_path, planted(3), 3), count=2)
    assert envs.topology == envs.unwrapped.topology
    assert envs.get_attr("cost_weight_value") == (0.0, 0.0)
    assert envs.num_envs == 2
    assert not hasattr(envs, "nothing_like_it")
    assert not hasattr(envs, "_over")
    assert not hasattr(object.__new__(type(envs)), "env")  # a copy in the making


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
def test_what_it_cannot_play(make, says):
    with pytest.raises(InvalidValue, match=says):
        Lockstep(make())


def test_environments_in_other_processes_are_refused():
    make = functools.partial(DenseNetSparsifyEnv, task="planted-20")
    envs = gym.vector.AsyncVectorEnv([make], context="spawn")
    try:
        with pytest.raises(InvalidValue, match="SyncVectorEnv; got AsyncVectorEnv"):
            Reinforce(envs)
    finally:
        envs.close()


@pytest.mark.parametrize("kind", [sync, side_by_side])
def test_wrapped_environments_are_played(tmp_path, kind):
    record = recorded(tmp_path, planted(3, 3), 40)
    run(Reinforce, gym.wrappers.vector.RecordEpisodeStatistics(kind(record)), warmup=4)
    assert len(record.history.rows) == len(set(masks_of(record))) > 4
