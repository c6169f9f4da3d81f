"""The recurrent agent, as a whole."""

import gymnasium as gym
import numpy as np
import pytest
from agentgames import given_bits, masks_of, planted, recorded, run, side_by_side, single
from stable_baselines3.common.evaluation import evaluate_policy

from ads_gym.agents.bernoulli import Bernoulli
from ads_gym.agents.recurrent.agent import Reinforce
from ads_gym.errors import AdsGymError, InvalidValue, UnknownName


def agreement(agent, envs, rounds):
    """Mean return of so many episodes in each of the envs, played by the agent's drawn predictions."""
    returns = []
    for _ in range(rounds):
        observation, _ = envs.reset()
        state, start, total = None, np.ones(envs.num_envs, bool), np.zeros(envs.num_envs)
        over = ~start
        while not over.any():
            action, state = agent.predict(observation, state, start)
            observation, reward, over, _, _ = envs.step(action)
            total, start = total + reward, over
        assert over.all()
        returns += total.tolist()
    return float(np.mean(returns))


def test_learns_a_hidden_mask(tmp_path):
    evaluator = planted(5, 5)
    agent = Reinforce(side_by_side(recorded(tmp_path, evaluator, 10_000)), seed=0)
    agent.learn(600 * 20)
    fresh = gym.vector.SyncVectorEnv([lambda: gym.make("DenseNetSparsify-v0", evaluator=evaluator)] * 8)
    assert agreement(agent, fresh, 5) > 0.93


def test_answers_what_was_given_and_a_blind_agent_cannot():
    evaluator = planted(4, kind="given")  # 6 bits: three given, three that follow them
    agent = Reinforce(given_bits(evaluator), seed=0)
    agent.learn(2500 * 3)
    fresh = given_bits(evaluator)
    assert agreement(agent, fresh, 25) > 0.9
    blind = Bernoulli(given_bits(evaluator, 1).envs[0], seed=0)
    blind.learn(1000 * 3)
    assert np.mean([blind.play(blind.propose(deterministic=False)).score for _ in range(200)]) < 0.6


def test_the_critic_finds_the_top_in_few_evaluations(tmp_path):
    evaluator = planted(6, 6, 6)
    record = recorded(tmp_path, evaluator, 200)
    run(Reinforce, side_by_side(record), seed=0)
    assert max(row.metrics.accuracy for row in record.history.rows) == 1
    assert len(record.history.rows) == 200


@pytest.mark.parametrize("vector", [True, False])
def test_the_seed_decides_and_a_longer_run_begins_like_a_shorter_one(tmp_path, vector):
    def masks(name, budget, seed):
        record = recorded(tmp_path / name, planted(5, 5), budget)
        run(Reinforce, side_by_side(record) if vector else single(record), seed=seed)
        return masks_of(record)

    short, long, other = masks("a", 70, 0), masks("b", 160, 0), masks("c", 70, 1)
    assert len(short) == 70
    assert long[:70] == short != other
    assert masks("d", 70, 0) == short


def test_a_learning_policy_ends_by_itself_where_there_is_nothing_new(tmp_path):
    record = recorded(tmp_path, planted(3), 20)  # 8 masks
    run(Reinforce, side_by_side(record), seed=0)
    assert (len(record.history.rows), record.stopped_by) == (8, "episodes")


def test_never_oversteps_a_limit(tmp_path):
    overruled = []

    class Watch(gym.Wrapper):
        def step(self, action):
            result = self.env.step(action)
            overruled.append(result[-1]["overruled"])
            return result

    record = recorded(tmp_path, planted(6, 6, 6), 150)
    envs = gym.vector.SyncVectorEnv([lambda: Watch(single(record, max_macs=0.5, cost_weight=0.1))] * 8)
    agent = run(Reinforce, envs, seed=0)
    assert sum(overruled) == 0
    assert len(overruled) >= 45 * 16
    assert max(row.metrics.relative_macs for row in record.history.rows) <= 0.5
    evaluation = gym.make("DenseNetSparsify-v0", evaluator=record.inner, max_macs=0.5)
    overruled.clear()
    evaluate_policy(agent, Watch(evaluation), 10, deterministic=False, warn=False)
    assert (sum(overruled), len(overruled)) == (0, 450)


def test_a_limit_does_not_use_itself_up_in_the_first_block(tmp_path):
    record = recorded(tmp_path, planted(6, 6, 6), 10_000)
    envs = side_by_side(record, max_macs=0.5)
    agent = Reinforce(envs, seed=0, warmup=0, asks=0)
    agent.learn(1)
    kept = np.array([record.topology.mask(mask) for mask in masks_of(record)])
    assert len(kept) == 8
    assert kept[:, -15:].mean() > 0.5 * kept[:, :15].mean() > 0


def test_sb3_evaluates_it(tmp_path):
    evaluator = planted(5, 5)
    agent = Reinforce(side_by_side(recorded(tmp_path, evaluator, 10_000)), seed=0)
    agent.learn(300 * 20)
    env = gym.make("DenseNetSparsify-v0", evaluator=evaluator)
    reward, spread = evaluate_policy(agent, env, 4, deterministic=True, warn=False)
    assert reward > 0.9
    assert spread == 0
    observation, _ = env.reset()
    action, _ = agent.predict(observation, deterministic=True)
    assert env.action_space.contains(action)


def test_given_bits_of_many_lengths_are_played_too():
    class Ragged(gym.Wrapper):
        def __init__(self, env, seed):
            super().__init__(env)
            self.rng = np.random.default_rng(seed)

        def reset(self, *, seed=None, options=None):
            decided = np.where(self.rng.random(20) < 0.5, self.rng.integers(0, 2, 20), -1)
            decided[-1] = -1
            return self.env.reset(options={"decided": decided})

    evaluator = planted(5, 5)
    make = [lambda i=i: Ragged(gym.make("DenseNetSparsify-v0", evaluator=evaluator), i) for i in range(8)]
    agent = Reinforce(gym.vector.SyncVectorEnv(make), seed=0)
    agent.learn(10_000)
    reward, _ = evaluate_policy(agent, gym.make("DenseNetSparsify-v0", evaluator=evaluator), 20, warn=False)
    assert reward > 0.8


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"warmpu": 3}, UnknownName, "Did you mean 'warmup'"),
        ({"batch": 1}, InvalidValue, "batch must be a whole number of at least 2, got 1"),
        ({"updates": 1.5}, InvalidValue, "updates"),
        ({"rate": "fast"}, InvalidValue, "rate must be a number"),
        ({"rate": float("nan")}, InvalidValue, "rate must be a number"),
        ({"start": 1.0}, InvalidValue, "start must lie between 0 and 1"),
        ({"floor": 0.5}, InvalidValue, "floor below 0.5"),
        ({"exact_cost": 1}, InvalidValue, "exact_cost must be true or false"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, kind, words):
    with pytest.raises(kind, match=words) as caught:
        Reinforce(single(recorded(tmp_path, planted(5, 5), 10)), **options)
    assert isinstance(caught.value, AdsGymError)


@pytest.mark.parametrize("settings", [{"decision": "layer"}, {"observation": "flat"}])
def test_envs_that_it_cannot_play_are_refused(tmp_path, settings):
    with pytest.raises(InvalidValue, match=r"use (decision 'connection'|observation 'matrix')"):
        Reinforce(single(recorded(tmp_path, planted(5, 5), 10), **settings))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_45_within_10_000_episodes(seed):
    evaluator = planted(6, 6, 6, seed=seed)
    envs = gym.vector.SyncVectorEnv([lambda: gym.make("DenseNetSparsify-v0", evaluator=evaluator)] * 8)
    agent = Reinforce(envs, seed=seed)
    agent.learn(10_000 * 45)
    assert agreement(agent, envs, 25) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_given_20_within_30_000_episodes(seed):
    evaluator = planted(5, 5, kind="given", seed=seed)
    agent = Reinforce(given_bits(evaluator), seed=seed)
    agent.learn(30_000 * 17)
    assert agreement(agent, given_bits(evaluator), 25) >= 0.95
    blind = Bernoulli(given_bits(evaluator, 1).envs[0], seed=seed)
    blind.learn(30_000 * 17)
    assert np.mean([blind.play(blind.propose(deterministic=False)).score for _ in range(400)]) <= 0.6
