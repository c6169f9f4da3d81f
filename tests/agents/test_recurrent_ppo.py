"""PPO with memory and action masks, on environments of its own and on ours."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from marks import slow
from planted_problems import learn, planted, problem_of, vector
from recalls import MODES, SMALL, Recall, recalls
from stable_baselines3.common.evaluation import evaluate_policy

import ads_gym
from ads_gym.agents.recurrent_ppo.agent import RecurrentPPO
from ads_gym.agents.recurrent_ppo.rollout import advantages
from ads_gym.agents.registry import find_agent
from ads_gym.errors import DamagedFile, InvalidValue, NotFound, UnknownName


def score(agent, env, episodes=200, **keywords):
    """Mean reward of deterministic actions."""
    total = 0.0
    for episode in range(episodes):
        observation, _ = env.reset(seed=1000 + episode)
        state, over = None, False
        while not over:
            action, state = agent.predict(
                observation, state, deterministic=True, action_masks=env.unwrapped.action_masks(), **keywords
            )
            observation, reward, terminated, truncated, _ = env.step(action)
            over, total = terminated or truncated, total + reward
    return total / episodes


@pytest.mark.parametrize(("mode", "seed"), [(MODES[0], 0), *(slow(mode, seed) for mode in MODES for seed in (1, 2))])
def test_it_remembers_what_it_saw_first(mode, seed):
    """Without memory three quarters are the most: by an order of preference among legal actions."""
    agent = RecurrentPPO(recalls(mode=mode), seed=seed, **SMALL).learn(40_000)
    assert score(agent, Recall()) > 0.95


@pytest.mark.slow
def test_what_it_forgets_it_cannot_recall():
    agent = RecurrentPPO(recalls(), seed=0, **SMALL).learn(40_000)
    env, right = Recall(), []
    for episode in range(200):
        observation, _ = env.reset(seed=episode)
        over = False
        while not over:  # without the state of the last call
            action, _ = agent.predict(observation, deterministic=True, action_masks=env.action_masks())
            observation, reward, over, _, _ = env.step(action)
        right.append(reward)
    assert np.mean(right) < 0.85


@pytest.mark.slow
def test_actions_of_several_parts():
    agent = RecurrentPPO(recalls(parts=2), seed=0, **SMALL).learn(40_000)
    assert score(agent, Recall(parts=2)) > 0.9


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_advantages_are_those_of_the_definition(mode, gamma):
    """Each episode by itself; a cut one goes on with the value of its last observation."""
    agent = RecurrentPPO(
        recalls(3, mode, length=5, cut=3) if gamma == 1 else recalls(3, mode), **SMALL, gamma=gamma, gae_lambda=0.8
    )
    step, seen, rollout = agent._envs.step, [], agent._rollout

    def watch(actions):
        made = step(actions)
        seen.append(made)
        return made

    agent._envs.step = watch
    first, state = torch.from_numpy(agent._envs.reset(0)), agent.policy.initial_state(3)
    played, _ = rollout.play(32)
    assert torch.equal(played.observations[0], first)
    found = advantages(played, gamma, 0.8)
    with torch.no_grad():
        features, state = agent.policy.features(played.observations, played.starts, state)
        values = agent.policy.values(features)
        following, _ = agent.policy.features(rollout._observations[None], rollout._starts[None], state)
        values = torch.cat([values, agent.policy.values(following)])
        for env in range(3):
            steps = [number for number in range(32) if played.counts[number, env]]
            assert len(steps) == 32 or mode is AutoresetMode.NEXT_STEP
            for number in steps:
                total, weight, at = 0.0, 1.0, number
                while True:
                    made, after = seen[at], float(values[at + 1, env])
                    if made.last is not None and (made.terminated | made.truncated)[env]:
                        # the state after step `at`, then its last observation
                        _, reached = agent.policy.features(
                            played.observations[: at + 1], played.starts[: at + 1], agent.policy.initial_state(3)
                        )
                        last, _ = agent.policy.features(
                            torch.from_numpy(made.last)[None], torch.zeros(1, 3, dtype=torch.bool), reached
                        )
                        after = float(agent.policy.values(last)[0, env])
                    after = 0.0 if made.terminated[env] else after
                    error = made.rewards[env] + gamma * after - float(values[at, env])
                    total, weight = total + weight * error, weight * gamma * 0.8
                    if (made.terminated | made.truncated)[env] or at == 31:
                        break
                    at += 1
                assert float(found[number, env]) == pytest.approx(total, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_finds_a_hidden_mask(seed):
    problem, counted = problem_of(planted(4, 4), 300)
    learn(RecurrentPPO(vector(problem, observation="flat"), seed=seed))
    assert max(metrics.accuracy for metrics in counted.metrics) == 1


def test_it_is_an_agent_of_a_search(tmp_path):
    assert find_agent("recurrent-ppo").make is RecurrentPPO
    result = ads_gym.search("planted-20", "recurrent-ppo", 60, run=tmp_path / "run", progress=False, max_macs=0.7)
    assert result.evaluations == 60 and result.metrics.relative_macs <= 0.7
    env = gym.make("DenseNetSparsify-v0", task="planted-20", observation="flat", max_macs=0.7)
    agent = RecurrentPPO.load(tmp_path / "run/policy", env)
    mean, _ = evaluate_policy(agent, env, n_eval_episodes=3, warn=False)
    assert 0 <= mean <= 1
    again = ads_gym.search("planted-20", "recurrent-ppo", 60, run=tmp_path / "again", progress=False, max_macs=0.7)
    assert again.objective == result.objective and again.episodes == result.episodes


def test_saved_and_loaded_it_predicts_the_same(tmp_path):
    agent = RecurrentPPO(recalls(2), seed=3, **SMALL).learn(128)
    agent.save(tmp_path / "policy")
    again = RecurrentPPO.load(tmp_path / "policy", Recall())
    assert again.config == agent.config
    observations = np.random.default_rng(0).random((6, 5)).astype(np.float32)
    state = other = None
    for _ in range(3):
        actions, state = agent.predict(observations, state, deterministic=True)
        found, other = again.predict(observations, other, deterministic=True)
        assert np.array_equal(actions, found) and np.array_equal(state[0], other[0])
    with pytest.raises(InvalidValue, match="chooses among"):
        RecurrentPPO.load(tmp_path / "policy", gym.make("CartPole-v1"))
    with pytest.raises(NotFound):
        RecurrentPPO.load(tmp_path / "nothing", Recall())
    (tmp_path / "policy.safetensors").write_bytes(b"junk")
    with pytest.raises(DamagedFile):
        RecurrentPPO.load(tmp_path / "policy", Recall())


def test_prediction_changes_nothing_in_training():
    def trained(predicts):
        agent = RecurrentPPO(recalls(2), seed=0, **SMALL)
        for _ in range(2):
            agent.learn(64)
            if predicts:
                agent.predict(np.zeros((4, 5), np.float32))
        return agent.policy.state_dict()

    first, second = trained(False), trained(True)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("env", ["CartPole-v1", "Taxi-v4", "Blackjack-v1"])
def test_any_environment(env):
    """Numbers, one number, several."""
    agent = RecurrentPPO(gym.make_vec(env, 3), **SMALL).learn(200)
    made = gym.make(env)
    action, state = agent.predict(made.reset(seed=0)[0])
    assert made.action_space.contains(int(action)) and state[0].shape == (1, 16)
    assert agent.num_timesteps >= 200


def test_a_single_environment_and_other_processes():
    assert RecurrentPPO(Recall(), **SMALL).learn(64).num_timesteps == 64
    envs = recalls(2, kind=AsyncVectorEnv)
    try:
        assert RecurrentPPO(envs, **SMALL).learn(64).num_timesteps == 64
    finally:
        envs.close()


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (lambda: 3, "steps a Gymnasium environment"),
        (lambda: gym.make("Pendulum-v1"), "numbered from 0"),
        (lambda: recalls(2, AutoresetMode.DISABLED), "autoreset_mode"),
    ],
)
def test_environments_that_it_cannot_step(env, says):
    with pytest.raises(InvalidValue, match=says):
        RecurrentPPO(env())


@pytest.mark.parametrize(
    ("option", "value"), [("n_steps", 0), ("gamma", 2), ("learning_rate", -1), ("hidden_size", "x")]
)
def test_options_out_of_range(option, value):
    with pytest.raises(InvalidValue, match=option):
        RecurrentPPO(Recall(), **{option: value})
    with pytest.raises(UnknownName, match="Did you mean 'n_steps'"):
        RecurrentPPO(Recall(), n_step=3)


def test_observations_of_another_environment():
    agent = RecurrentPPO(Recall(), **SMALL)
    for wrong in (np.zeros((2, 7)), "x", None):
        with pytest.raises(InvalidValue, match="observations are of"):
            agent.predict(wrong)
