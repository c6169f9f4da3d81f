"""SB3's algorithms as agents, by name."""

import contextlib
import importlib
import re
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from marks import slow
from planted_problems import planted, problem_of, vector
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy

import ads_gym
from ads_gym.agents import sb3
from ads_gym.agents.sb3 import settings, vec_env
from ads_gym.cli import main
from ads_gym.errors import BudgetExhausted, InvalidValue, MissingPackage, UnknownName


def flat(count=8, **keywords):
    return gym.make_vec("DenseNetSparsifyFlat-v0", count, **{"task": "planted-20", **keywords})


def test_rollouts_are_whole_episodes():
    for count, decision, steps in [(8, "connection", 20), (2, "connection", 80), (64, "connection", 20)]:
        assert settings(flat(count, decision=decision))["n_steps"] == steps
    assert settings(flat(3, decision="connection"))["n_steps"] == 40
    assert settings(flat(8, decision="layer"))["n_steps"] == 8  # layers 2 to 5, twice
    chosen = settings(flat(8))
    assert (chosen["gamma"], chosen["gae_lambda"], chosen["batch_size"]) == (1.0, 1.0, 160)


def play(name, budget, seed=0, options=None, blocks=(5, 5), **settings):
    """The count of what an agent pays for."""
    problem, counted = problem_of(planted(*blocks), budget, **settings)
    with contextlib.suppress(BudgetExhausted):
        getattr(sb3, name)(vector(problem, observation="flat"), seed, **(options or {}))
    return counted


@pytest.mark.parametrize("name", ["ppo", "a2c", "dqn", "recurrent", "maskable"])
def test_the_seed_decides_and_the_budget_ends_it(name):
    size = {"lstm_hidden_size": 8} if name == "recurrent" else {}
    options = {"policy_kwargs": {"net_arch": [8], **size}}
    first, again, other = (list(play(name, 48, seed, options).history) for seed in (0, 0, 1))
    assert len(first) == 48 and first == again != other


def test_maskable_ppo_is_never_overruled(monkeypatch):
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
        play(name, 100, max_macs=0.6)
        done[name] = (len(overruled), int(sum(overruled)))
    assert done["maskable"][0] > 200 and done["maskable"][1] == 0
    assert done["ppo"][1] > 0  # so the watch sees what there is to see


def test_ppo_learns():
    envs = vector(problem_of(planted(4, 4))[0], observation="flat")
    model = PPO(env=vec_env(envs), seed=0, **settings(envs.unwrapped) | {"learning_rate": 1e-2})
    model.learn(150 * 8 * envs.topology.size)
    returns = [episode["r"] for episode in list(model.ep_info_buffer)[-40:]]
    assert np.mean(returns) > 0.75  # a coin: 0.5


def test_options_are_sb3s_and_others_are_refused():
    with pytest.raises(UnknownName, match="Did you mean 'learning_rate'"):
        sb3.ppo(flat(), 0, learnin_rate=1)
    with pytest.raises(UnknownName, match="unknown option"):
        sb3.ppo(flat(), 0, _init_setup_model=False)


@pytest.mark.parametrize("name", ["a2c", "dqn"])
@pytest.mark.parametrize("seed", [0, slow(1), slow(2)])
def test_it_finds_a_hidden_mask(name, seed):
    assert max(metrics.accuracy for metrics in play(name, 300, seed, blocks=(4, 4)).metrics) == 1


@pytest.mark.parametrize(
    ("name", "option", "value", "says"),
    [
        ("a2c", "use_rms_prop", 1, "boolean"),
        ("a2c", "rms_prop_eps", -1, "rms_prop_eps"),
        ("a2c", "n_epochs", 3, "unknown option"),
        ("dqn", "buffer_size", 0, "buffer_size"),
        ("dqn", "exploration_final_eps", 1.5, "exploration_final_eps"),
        ("dqn", "tau", "x", "tau"),
        ("dqn", "gradient_steps", -2, "gradient_steps"),
        ("dqn", "ent_coef", 0.1, "unknown option"),
    ],
)
def test_bad_values_of_their_own_options(name, option, value, says):
    with pytest.raises((InvalidValue, UnknownName), match=f"agent sb3:{name}") as told:
        getattr(sb3, name)(flat(8), 0, **{option: value})
    assert re.search(says, str(told.value))


@pytest.mark.parametrize("name", ["ppo", "recurrent", "maskable"])
@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("n_steps", "abc", "n_steps .* integer, got 'abc'"),
        ("n_steps", 0, "n_steps .* greater than or equal to 1"),
        ("n_steps", 2.5, "n_steps"),
        ("batch_size", 1, "batch_size .* greater than or equal to 2"),
        ("batch_size", 2.5, "integer"),
        ("batch_size", None, "integer"),
        ("learning_rate", "abc", "abc"),
        ("learning_rate", -1, "learning_rate .* greater than or equal to 0"),
        ("clip_range", "x", "clip_range .* number"),
        ("clip_range_vf", -1, "clip_range_vf"),
        ("policy", "Foo", "unknown policy .* 'Foo'"),
        ("policy", "CnnPolicy", "unknown policy .* flat observations"),
        ("policy", 3, "unknown policy"),
        ("device", "foo", "foo"),
        ("device", 1.5, "device"),
        ("use_sde", True, "use_sde"),
        ("verbose", 3, "verbose .* less than or equal to 2"),
        ("normalize_advantage", 1, "boolean"),
        ("tensorboard_log", 3, "tensorboard_log .* string"),
        ("policy_kwargs", 3, "policy_kwargs .* dictionary"),
        ("policy_kwargs", {"nat_arch": [8]}, "nat_arch"),
        ("rollout_buffer_class", "x", "rollout_buffer_class"),  # RecurrentPPO has no such option
        ("n_epochs", 0, "n_epochs .* greater than or equal to 1"),
        ("n_epochs", "two", "n_epochs"),
        ("gamma", 7, "gamma .* less than or equal to 1"),
        ("gamma", True, "gamma"),
        ("gae_lambda", float("nan"), "gae_lambda"),
        ("ent_coef", "x", "ent_coef .* number"),
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


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": 0, "gae_lambda": 1, "n_epochs": 1, "target_kl": None, "ent_coef": -0.1, "max_grad_norm": 0.5},
        {"learning_rate": lambda left: 1e-3 * left, "clip_range": lambda left: 0.2, "clip_range_vf": None},
        {"policy": ActorCriticPolicy, "policy_kwargs": {"net_arch": {"pi": [8], "vf": [8]}}, "device": "auto"},
        {"rollout_buffer_class": RolloutBuffer, "verbose": 0, "normalize_advantage": False, "policy_kwargs": None},
    ],
)
def test_good_values_at_the_borders_are_taken(options):
    assert len(play("ppo", 8, options=options).history) == 8


def test_a_bad_value_is_one_line_on_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["search", "--task", "planted-45", "--agent", "sb3:ppo", "--agent-option", "learning_rate=abc"])
    assert ended.value.code == 2
    assert re.fullmatch(r"Error: option learning_rate of agent sb3:ppo .*abc.*\n", capsys.readouterr().err)


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


def test_a_bug_inside_sb3_keeps_its_own_traceback(monkeypatch):
    """Raised while a model is made, it is no wrong option."""

    def fails(self):
        raise TypeError("a bug in SB3")

    monkeypatch.setattr(PPO, "_setup_model", fails)
    with pytest.raises(TypeError, match="a bug in SB3") as raised:
        sb3.ppo(flat(), 0)
    assert type(raised.value) is TypeError


def test_importing_it_imports_neither_torch_nor_sb3():
    code = (
        "import sys; import ads_gym.agents.sb3; print({'torch', 'stable_baselines3', 'sb3_contrib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "set()", done.stderr
