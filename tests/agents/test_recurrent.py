"""The recurrent policy as a whole."""

import json

import gymnasium as gym
import numpy as np
import pytest
from planted_problems import given_decisions, learn, planted, problem_of, single, vector
from stable_baselines3.common.evaluation import evaluate_policy

from ads_gym.agents.recurrent.agent import Recurrent
from ads_gym.errors import AdsGymError, DamagedFile, InvalidValue, NotFound, UnknownName

POLICIES = [Recurrent]


def agreement(agent, envs, rounds):
    """Mean return of so many episodes in each of the envs, from the agent's drawn predictions."""
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


@pytest.mark.parametrize("policy", POLICIES)
def test_learns_a_hidden_mask(policy):
    problem, _ = problem_of(planted(5, 5))
    agent = policy(vector(problem), seed=0).learn(600 * 20)
    assert agreement(agent, vector(problem), 5) > 0.93


@pytest.mark.slow
def test_follows_given_decisions():
    evaluator = planted(4, kind="given")  # 6 bits: three given, three that follow them
    agent = Recurrent(given_decisions(evaluator), seed=0).learn(2500 * 3)
    assert agreement(agent, given_decisions(evaluator), 25) > 0.9


@pytest.mark.slow
def test_without_memory_given_decisions_cannot_be_followed():
    evaluator = planted(4, kind="given")
    agent = Recurrent(given_decisions(evaluator), seed=0, learning_rate=0.0).learn(2500 * 3)
    assert agreement(agent, given_decisions(evaluator), 25) < 0.65


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("make", [vector, single])
def test_the_seed_decides_and_a_longer_run_begins_like_a_shorter_one(policy, make):
    def masks(budget, seed):
        problem, counted = problem_of(planted(5, 5), budget)
        learn(policy(make(problem), seed=seed))
        return list(counted.history)

    short, long = masks(70, 0), masks(160, 0)
    assert len(short) == 70
    assert long[:70] == short == masks(70, 0) != masks(70, 1)


@pytest.mark.parametrize("policy", POLICIES)
def test_where_there_is_nothing_new_it_plays_on(policy):
    problem, counted = problem_of(planted(3), 20)  # 8 masks
    learn(policy(vector(problem), seed=0))
    assert (len(counted.history), counted.episodes) == (8, 400)


@pytest.mark.parametrize("policy", POLICIES)
def test_is_never_overruled_by_a_limit(policy):
    overruled = []

    class Watch(gym.Wrapper):
        def step(self, action):
            result = self.env.step(action)
            overruled.append(result[-1]["overruled"])
            return result

    problem, counted = problem_of(planted(6, 6, 6), 150, max_macs=0.5, cost_weight=0.1)
    agent = learn(policy(gym.vector.SyncVectorEnv([lambda: Watch(single(problem))] * 8), seed=0))
    assert sum(overruled) == 0
    assert len(overruled) >= 45 * 16
    assert max(metrics.relative_macs for metrics in counted.metrics) <= 0.5
    free, _ = problem_of(planted(6, 6, 6), max_macs=0.5)
    overruled.clear()
    evaluate_policy(agent, Watch(single(free)), 10, deterministic=False, warn=False)
    assert (sum(overruled), len(overruled)) == (0, 450)


def test_a_limit_is_not_used_up_in_the_first_block():
    problem, counted = problem_of(planted(6, 6, 6), max_macs=0.5)
    Recurrent(vector(problem), seed=0, warmup=0).learn(1)
    kept = np.array(counted.masks)
    assert len(kept) == 8
    assert kept[:, -15:].mean() > 0.5 * kept[:, :15].mean() > 0


def test_sb3_evaluates_it():
    problem, _ = problem_of(planted(5, 5))
    agent = Recurrent(vector(problem), seed=0).learn(600 * 20)
    env = single(problem)
    reward, spread = evaluate_policy(agent, env, 4, deterministic=True, warn=False)
    assert reward > 0.9
    assert spread == 0
    observation, _ = env.reset()
    action, _ = agent.predict(observation, deterministic=True)
    assert env.action_space.contains(action)
    with pytest.raises(InvalidValue, match="adjacency"):
        agent.predict(np.zeros((3, 3), np.int8))


@pytest.mark.parametrize("policy", POLICIES)
def test_predictions_do_not_change_the_training(policy):
    problem, counted = problem_of(planted(5, 5))
    agent = policy(vector(problem), seed=0).learn(60 * 20)
    observation, _ = vector(problem).reset()
    for _ in range(7):
        agent.predict(observation)
    agent.learn(60 * 20)
    undisturbed, other = problem_of(planted(5, 5))
    policy(vector(undisturbed), seed=0).learn(60 * 20).learn(60 * 20)
    assert list(counted.history) == list(other.history)


@pytest.mark.slow
def test_given_decisions_of_many_lengths():
    class Ragged(gym.Wrapper):
        def __init__(self, env, seed):
            super().__init__(env)
            self.rng = np.random.default_rng(seed)

        def reset(self, *, seed=None, options=None):
            decided = np.where(self.rng.random(20) < 0.5, self.rng.integers(0, 2, 20), -1)
            decided[-1] = -1
            return self.env.reset(options={"decided": decided})

    problem, _ = problem_of(planted(5, 5))
    make = [lambda i=i: Ragged(single(problem), i) for i in range(8)]
    agent = Recurrent(gym.vector.SyncVectorEnv(make), seed=0).learn(10_000)
    reward, _ = evaluate_policy(agent, single(problem), 20, warn=False)
    assert reward > 0.8


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"warmpu": 3}, UnknownName, "Did you mean 'warmup'"),
        ({"batch_size": 1}, InvalidValue, "batch_size should be greater than or equal to 2, got 1"),
        ({"n_epochs": 1.5}, InvalidValue, "n_epochs"),
        ({"learning_rate": "fast"}, InvalidValue, "learning_rate should be a valid number"),
        ({"learning_rate": float("nan")}, InvalidValue, "learning_rate should be a finite number"),
        ({"initial_keep": 1.0}, InvalidValue, "initial_keep should be less than 1"),
        ({"min_probability": 0.5}, InvalidValue, "min_probability should be less than 0.5"),
        ({"exact_cost": 1}, InvalidValue, "exact_cost should be a valid boolean"),
    ],
)
@pytest.mark.parametrize("policy", POLICIES)
def test_bad_options_are_refused(policy, options, kind, words):
    with pytest.raises(kind, match=words) as caught:
        policy(single(problem_of(planted(5, 5))[0]), **options)
    assert isinstance(caught.value, AdsGymError)


def test_an_unknown_option_is_refused():
    env = single(problem_of(planted(5, 5))[0])
    with pytest.raises(UnknownName, match="unknown option of agent recurrent: 'kappa'"):
        Recurrent(env, kappa=1.0)


@pytest.mark.parametrize("settings", [{"decision": "layer"}, {"observation": "flat"}])
def test_environments_that_it_cannot_step_are_refused(settings):
    with pytest.raises(InvalidValue, match=r"use (decision 'connection'|observation 'matrix')"):
        Recurrent(single(problem_of(planted(5, 5))[0], **settings))


# Saving and loading


@pytest.fixture
def trained():
    problem, _ = problem_of(planted(5, 5), max_macs=0.8)
    return Recurrent(vector(problem), seed=3, hidden_size=16).learn(200 * 20), problem


def actions_of(agent, problem, deterministic):
    envs = vector(problem)
    observation, _ = envs.reset()
    state, actions = None, []
    for _ in range(20):
        action, state = agent.predict(observation, state, deterministic=deterministic)
        observation, *_ = envs.step(action)
        actions.append(action)
    return np.array(actions)


@pytest.mark.parametrize("ending", ["", ".json", ".safetensors"])
def test_a_loaded_policy_predicts_the_same(trained, tmp_path, ending):
    agent, problem = trained
    agent.save(tmp_path / f"folder/policy{ending}")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["policy.json", "policy.safetensors"]
    loaded = Recurrent.load(tmp_path / "folder/policy", single(problem))
    assert loaded.config == agent.config
    for deterministic in (True, False):
        ours, theirs = (actions_of(each, problem, deterministic) for each in (agent, loaded))
        np.testing.assert_array_equal(ours, theirs)
    untrained = Recurrent(single(problem), seed=3, hidden_size=16)
    assert not np.array_equal(actions_of(untrained, problem, True), actions_of(loaded, problem, True))


def test_a_loaded_policy_can_be_trained_further(trained, tmp_path):
    agent, problem = trained
    agent.save(tmp_path / "policy")
    loaded = Recurrent.load(tmp_path / "policy", vector(problem))
    before = loaded.policy.logits.detach().clone()
    loaded.learn(100 * 20)
    assert (loaded.policy.logits.detach() != before).any()


def test_policies_that_cannot_be_loaded(trained, tmp_path):
    agent, problem = trained
    with pytest.raises(NotFound, match=r"there is no policy .*policy\.json"):
        Recurrent.load(tmp_path / "policy", single(problem))
    agent.save(tmp_path / "policy")
    with pytest.raises(InvalidValue, match=r"of blocks \(5, 5\), the environment .* of blocks \(4, 4\)"):
        Recurrent.load(tmp_path / "policy", single(problem_of(planted(4, 4))[0]))
    weights, description = tmp_path / "policy.safetensors", tmp_path / "policy.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedFile, match=r"policy\.safetensors"):
        Recurrent.load(tmp_path / "policy", single(problem))
    weights.write_bytes(whole)
    text = description.read_text()
    values = json.loads(text)
    for wrong in ({"seed": "x"}, {"options": {"hidden_size": 8}}, {"options": {"hiden": 1}}, {"topology": 3}):
        description.write_text(json.dumps(values | wrong))
        with pytest.raises(DamagedFile, match="policy"):
            Recurrent.load(tmp_path / "policy", single(problem))
    description.write_text(text)
    weights.unlink()
    with pytest.raises(NotFound, match=r"policy\.safetensors"):
        Recurrent.load(tmp_path / "policy", single(problem))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_45_within_10_000_episodes(seed):
    problem, _ = problem_of(planted(6, 6, 6, seed=seed))
    agent = Recurrent(vector(problem), seed=seed).learn(10_000 * 45)
    assert agreement(agent, vector(problem), 25) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_given_20_within_30_000_episodes(seed):
    evaluator = planted(5, 5, kind="given", seed=seed)
    agent = Recurrent(given_decisions(evaluator), seed=seed).learn(30_000 * 17)
    assert agreement(agent, given_decisions(evaluator), 25) >= 0.95
