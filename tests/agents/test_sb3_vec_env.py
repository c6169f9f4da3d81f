"""The adapter against SB3's own `DummyVecEnv` of single environments, and SB3's models on it."""

import inspect
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from ads_gym.agents.sb3 import vec_env
from ads_gym.agents.sb3_vec_env import DenseNetSparsifyVecEnv
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.errors import InvalidValue, UnknownName

N = 3


def flat(count=N, **keywords):
    return gym.make_vec("DenseNetSparsifyFlat-v0", count, **{"task": "planted-20", **keywords})


def assert_same_infos(theirs, ours):
    """But for Monitor's seconds."""
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert set(our) == set(their)
        for key, value in their.items():
            if key == "episode":
                assert {**our[key], "t": 0} == {**value, "t": 0}
                assert our[key]["t"] >= 0
            elif isinstance(value, np.ndarray):
                assert our[key].dtype == value.dtype
                np.testing.assert_array_equal(our[key], value)
            else:
                assert (type(our[key]), our[key]) == (type(value), value)


@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
@pytest.mark.parametrize("decision", ["connection", "layer", "network"])
@pytest.mark.parametrize("observation", ["flat", "matrix"])
def test_it_is_what_a_dummy_vec_env_of_monitored_single_environments_is(decision, observation, mode):
    keywords = {"decision": decision, "observation": observation, "max_macs": 0.7, "cost_weight": 0.3}
    keywords["task"] = "planted-20"
    theirs = DummyVecEnv([lambda: Monitor(DenseNetSparsifyEnv(**keywords))] * N)
    ours = vec_env(gym.make_vec("DenseNetSparsify-v0", N, autoreset_mode=mode, **keywords))
    assert isinstance(ours, DenseNetSparsifyVecEnv) and isinstance(ours, VecEnv)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    assert_same_infos(theirs.reset_infos, ours.reset_infos)
    ends = 0
    while ends < 2 * N:
        actions = rng.integers(0, 2, (N, *ours.action_space.shape))
        their, our = theirs.step(actions), ours.step(actions)
        for index in range(3):
            assert our[index].dtype == their[index].dtype
            np.testing.assert_array_equal(our[index], their[index])
        assert_same_infos(their[3], our[3])
        assert_same_infos(theirs.reset_infos, ours.reset_infos)
        np.testing.assert_array_equal(ours.env_method("action_masks"), theirs.env_method("action_masks"))
        ends += our[2].sum()


def test_the_terminal_observation_is_the_last_one():
    keywords = {"task": "planted-20", "reward": "soft", "cost_weight": "even"}
    one = DenseNetSparsifyEnv(observation="flat", **keywords)
    envs = vec_env(flat())
    one.reset()
    first = envs.reset()
    total = 0.0
    for _ in range(20):
        last = one.step(1)
        total += last[1]
        observations, _, over, infos = envs.step(np.ones(N, np.int64))
    assert over.all()
    for info in infos:
        np.testing.assert_array_equal(info["terminal_observation"], last[0])
        assert info["episode"]["l"] == 20
        assert info["episode"]["r"] == pytest.approx(total)
        assert info["TimeLimit.truncated"] is False
    assert not np.array_equal(observations[0], last[0])
    np.testing.assert_array_equal(observations, first)


def test_options_and_seeds_are_for_the_next_reset():
    theirs = DummyVecEnv([lambda: DenseNetSparsifyEnv(task="planted-20", observation="flat", cost_weight="even")] * N)
    ours = vec_env(flat())
    decided = np.full(20, -1, np.int8)
    decided[[0, 1, 7]] = [1, 0, 1]
    for envs in (theirs, ours):
        assert list(envs.seed(5)) == [5, 6, 7]
        envs.set_options([{"decided": decided}, {}, {"decided": np.roll(decided, 3)}])
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    assert ours.unwrapped._env.np_random_seed == 5
    np.testing.assert_array_equal(ours.reset(), theirs.reset())  # and only for that one
    ours.set_options({"decided": np.ones(20, int)})
    with pytest.raises(InvalidValue, match="nothing to decide"):
        ours.reset()
    ours.set_options([{}, {"decide": decided}, {}])
    with pytest.raises(UnknownName, match="Did you mean 'decided'"):
        ours.reset()
    for options in ([None] * N, 5, [{}], [5] * N, "abc"):
        with pytest.raises(InvalidValue, match="options are a dict, or 3 dicts, got"):
            ours.set_options(options)
    ours.set_options()
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    first, *rest = ours.seed()
    assert rest == [first + 1, first + 2] and 0 <= first < 2**32


def test_it_uses_what_sb3_documents():
    """No name with an underscore of SB3's base class: such names change with any release."""
    ours = set(vars(DenseNetSparsifyVecEnv)) | set(vars(vec_env(flat())))
    private = {name for name in vars(VecEnv) if name.startswith("_") and not name.startswith("__")}
    source = inspect.getsource(inspect.getmodule(DenseNetSparsifyVecEnv))
    assert private and not [name for name in private - {"_abc_impl"} if name in ours or f".{name}" in source]


def test_attributes_and_methods():
    envs = vec_env(flat(max_macs=0.9, cost_weight=0.5, render_mode="rgb_array"))
    assert is_masking_supported(envs)
    assert not envs.has_attr("nothing_like_it")
    envs.reset()
    assert get_action_masks(envs).shape == (N, 2)
    (first, second) = envs.get_attr("problem", indices=[0, 2])
    assert first is second and first.objective.cost_weight == 0.5
    assert envs.env_method("action_masks", indices=1)[0].tolist() == [True, True]
    envs.set_attr("render_mode", "ansi")
    assert envs.get_attr("render_mode") == ["ansi"] * N
    with pytest.raises(InvalidValue, match="share"):
        envs.set_attr("render_mode", None, indices=[1])
    envs.set_attr("render_mode", "rgb_array")
    assert [image.dtype for image in envs.get_images()] == [np.uint8] * N
    assert envs.render().ndim == 3
    assert envs.env_is_wrapped(Monitor) == [True] * N
    assert envs.env_is_wrapped(gym.wrappers.TimeLimit, indices=0) == [False]
    envs.close()


def test_what_it_does_not_take():
    for env in (DenseNetSparsifyEnv(task="planted-20"), gym.make_vec("CartPole-v1", 2), None):
        with pytest.raises(InvalidValue, match="make_vec"):
            vec_env(env)


def test_evaluate_policy_takes_it_without_a_warning():
    class Dense:
        def predict(self, observations, **_):
            return np.ones(len(observations), np.int64), None

    envs = vec_env(flat(cost_weight=0.25))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returns, lengths = evaluate_policy(Dense(), envs, n_eval_episodes=7, return_episode_rewards=True)
    (score,) = envs.get_attr("problem")[0].score(np.ones((1, 20), bool))
    assert lengths == [20] * 7
    assert returns == pytest.approx([score.objective] * 7, abs=1e-6)


@pytest.mark.parametrize("model", [PPO, A2C, MaskablePPO, RecurrentPPO])
def test_models_train_on_it_and_see_returns(model):
    policy = "MlpLstmPolicy" if model is RecurrentPPO else "MlpPolicy"
    size = {} if model is A2C else {"batch_size": 60, "n_epochs": 1}
    made = model(policy, vec_env(flat()), n_steps=20, gamma=1.0, seed=0, device="cpu", **size)
    made.learn(120)
    episodes = list(made.ep_info_buffer)
    assert [episode["l"] for episode in episodes] == [20] * 6
    assert all(0 <= episode["r"] <= 1 for episode in episodes)


def test_vec_normalize_goes_around_it():
    envs = VecNormalize(vec_env(flat()), norm_obs=False, gamma=1.0)
    envs.reset()
    assert envs.get_attr("topology")[0].size == 20
    envs.step(np.ones(N, np.int64))
