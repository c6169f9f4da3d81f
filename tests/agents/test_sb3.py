"""The adapter against SB3's own `DummyVecEnv` of single environments, and SB3's models on it."""

import builtins
import importlib
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
from agentgames import planted, recorded, side_by_side
from gymnasium.vector import AutoresetMode
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

import ads_gym
from ads_gym.agents import sb3
from ads_gym.agents.sb3 import settings, vec_env
from ads_gym.cli import main
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.errors import InvalidValue, MissingPackage, UnknownName

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
    assert isinstance(ours, VecEnv)
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
    one = gym.make("DenseNetSparsifyFlat-v0", task="planted-20")
    envs = vec_env(flat())
    one.reset()
    first = envs.reset()
    for _ in range(20):
        last = one.step(1)
        observations, _, over, infos = envs.step(np.ones(N, np.int64))
    assert over.all()
    for info in infos:
        np.testing.assert_array_equal(info["terminal_observation"], last[0])
        assert info["episode"]["l"] == 20
        assert info["episode"]["r"] == pytest.approx(last[1])
        assert info["TimeLimit.truncated"] is False
    assert not np.array_equal(observations[0], last[0])
    np.testing.assert_array_equal(observations, first)


def test_options_and_seeds_are_for_the_next_reset():
    theirs = DummyVecEnv([lambda: DenseNetSparsifyEnv(task="planted-20", observation="flat")] * N)
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


def test_attributes_and_methods():
    envs = vec_env(flat(max_macs=0.9, cost_weight=0.5, render_mode="rgb_array"))
    assert is_masking_supported(envs)
    assert not envs.has_attr("nothing_like_it")
    envs.reset()
    assert get_action_masks(envs).shape == (N, 2)
    assert envs.get_attr("cost_weight_value", indices=[0, 2]) == [0.5, 0.5]
    ((metrics,), *_) = envs.env_method("evaluate", np.zeros((1, 20), bool))
    assert envs.env_method("score", metrics) == [metrics.accuracy] * N
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
    plain = envs.unwrapped._plain
    assert lengths == [20] * 7
    assert returns == pytest.approx([plain.score(plain.evaluate(np.ones((1, 20), bool))[0])] * 7, abs=1e-6)


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


def test_rollouts_are_whole_episodes():
    for count, decision, steps in [(8, "connection", 20), (2, "connection", 80), (64, "connection", 20)]:
        assert settings(flat(count, decision=decision))["n_steps"] == steps
    assert settings(flat(3, decision="connection"))["n_steps"] == 40
    assert settings(flat(8, decision="layer"))["n_steps"] == 8  # layers 2 to 5, twice
    chosen = settings(flat(8))
    assert (chosen["gamma"], chosen["gae_lambda"], chosen["batch_size"]) == (1.0, 1.0, 160)


@pytest.mark.parametrize("name", ["ppo", "recurrent", "maskable"])
def test_a_search_by_name_repeats_and_counts(name, tmp_path):
    options = {"policy_kwargs": {"net_arch": [8], "lstm_hidden_size": 8} if name == "recurrent" else {"net_arch": [8]}}
    results = [
        ads_gym.search(
            "planted-20", f"sb3:{name}", evaluations=48, run=tmp_path / place, agent_options=options, progress=False
        )
        for place in ("a", "b")
    ]
    assert [result.evaluations for result in results] == [48, 48]
    histories = [(tmp_path / place / "history.csv").read_text().splitlines() for place in ("a", "b")]
    untimed = [[line.rpartition(",")[0] for line in lines] for lines in histories]
    assert untimed[0] == untimed[1]


def test_maskable_ppo_is_never_overruled_in_a_search(tmp_path, monkeypatch):
    overruled = []
    step = ads_gym.envs.vector.DenseNetSparsifyVectorEnv.step

    def watch(self, actions):
        outcome = step(self, actions)
        overruled.append(outcome[-1]["overruled"].sum())
        return outcome

    monkeypatch.setattr("ads_gym.envs.vector.DenseNetSparsifyVectorEnv.step", watch)
    done = {}
    for name in ("maskable", "ppo"):
        overruled.clear()
        ads_gym.search("planted-20", f"sb3:{name}", 100, max_macs=0.6, run=tmp_path / name, progress=False)
        done[name] = (len(overruled), int(sum(overruled)))
    assert done["maskable"][0] > 200 and done["maskable"][1] == 0
    assert done["ppo"][1] > 0  # so the watch sees what there is to see


def test_ppo_learns(tmp_path):
    record = recorded(tmp_path, planted(4, 4), 10_000)
    envs = side_by_side(record, observation="flat")
    model = PPO(env=vec_env(envs), seed=0, **settings(envs.unwrapped) | {"learning_rate": 1e-2})
    model.learn(150 * 8 * envs.topology.size)
    returns = [episode["r"] for episode in list(model.ep_info_buffer)[-40:]]
    assert np.mean(returns) > 0.75  # a coin: 0.5


def test_options_are_sb3s_and_others_are_refused(tmp_path):
    with pytest.raises(UnknownName, match="Did you mean 'learning_rate'"):
        ads_gym.search(
            "planted-20", "sb3:ppo", 8, run=tmp_path / "run", agent_options={"learnin_rate": 1}, progress=False
        )
    with pytest.raises(UnknownName, match="unknown option"):
        sb3.ppo(flat(), 0, _init_setup_model=False)


@pytest.mark.parametrize("name", ["ppo", "recurrent", "maskable"])
@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("n_steps", "abc", "n_steps .* whole number .* 'abc'"),
        ("n_steps", 0, "n_steps .* at least 1"),
        ("n_steps", 2.5, "n_steps"),
        ("batch_size", 0, "batch_size"),
        ("batch_size", 2.5, "whole number"),
        ("batch_size", None, "whole number"),
        ("learning_rate", "abc", "abc"),
        ("learning_rate", -1, "learning rate"),
        ("clip_range", "x", "cannot be built"),
        ("policy", "Foo", "Policy Foo unknown"),
        ("policy", "CnnPolicy", "cannot be built"),
        ("device", "foo", "foo"),
        ("policy_kwargs", 3, "cannot be built"),
        ("policy_kwargs", {"nat_arch": [8]}, "nat_arch"),
        ("rollout_buffer_class", "x", "rollout_buffer_class"),  # RecurrentPPO has no such option
        ("n_epochs", 0, "n_epochs .* at least 1"),
        ("n_epochs", "two", "n_epochs"),
        ("gamma", 7, "gamma .* from 0 to 1"),
        ("gamma", True, "gamma"),
        ("gae_lambda", float("nan"), "gae_lambda"),
        ("ent_coef", "x", "ent_coef .* a number"),
        ("max_grad_norm", None, "max_grad_norm"),
        ("target_kl", "x", "target_kl"),
    ],
)
def test_bad_values_of_options_are_told_before_a_step(name, option, value, says, monkeypatch):
    envs = flat(8)
    monkeypatch.setattr(type(envs), "step", None)
    with pytest.raises((InvalidValue, UnknownName), match=f"agent sb3:{name}") as told:
        getattr(sb3, name)(envs, 0, **{option: value})
    assert re.search(says, str(told.value))
    assert "\n" not in str(told.value) and len(str(told.value)) < 500


def test_good_values_at_the_borders_are_taken(tmp_path):
    options = {"gamma": 0, "gae_lambda": 1, "n_epochs": 1, "target_kl": None, "ent_coef": -0.1, "max_grad_norm": 0.5}
    result = ads_gym.search("planted-20", "sb3:ppo", 8, run=tmp_path / "run", agent_options=options, progress=False)
    assert result.evaluations == 8


def test_a_bad_value_is_one_line_on_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["search", "--task", "planted-45", "--agent", "sb3:ppo", "--agent-option", "learning_rate=abc"])
    assert ended.value.code == 2
    assert re.fullmatch(r"Error: agent sb3:ppo .*abc.*\n", capsys.readouterr().err)


def test_without_sb3_contrib_there_is_the_line_that_installs_it(monkeypatch):
    importing = importlib.import_module

    def without(name, *rest):
        if name.startswith("sb3_contrib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return importing(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    for play in (sb3.recurrent, sb3.maskable):
        with pytest.raises(MissingPackage, match="pip install sb3-contrib"):
            play(flat(), 0)


def test_importing_it_imports_no_sb3(monkeypatch):
    original = builtins.__import__

    def guarded(name, *rest):
        assert not name.startswith(("stable_baselines3", "sb3_contrib"))
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", guarded)
    importlib.reload(sb3)
