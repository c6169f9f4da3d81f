"""The settings for rl-baselines3-zoo in examples/zoo: they are those of our own agents, and its command takes them.

rl_zoo3 is not installed with the tests: `pip install rl_zoo3`.
"""

import inspect
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import gymnasium as gym
import pytest
import yaml
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO

import ads_gym  # noqa: F401 - registers the environments
from ads_gym.agents.sb3 import EPISODES, dqn_settings, settings

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "zoo"
MODELS = {"ppo": PPO, "ppo_lstm": RecurrentPPO, "a2c": A2C, "dqn": DQN, "qrdqn": QRDQN}
OWN = {"n_timesteps", "n_envs"}  # keys that the zoo reads, and a model does not take


def hyperparameters(algorithm):
    (entry,) = yaml.safe_load((FOLDER / f"{algorithm}.yml").read_text()).items()
    assert entry[0] == "DenseNetSparsifyFlat-v0"
    return entry[1]


@pytest.mark.parametrize("algorithm", MODELS)
def test_every_setting_is_the_models_or_the_zoos(algorithm):
    assert {path.stem for path in FOLDER.glob("*.yml")} == set(MODELS)
    given = hyperparameters(algorithm)
    assert set(given) >= OWN and set(given) - OWN <= set(inspect.signature(MODELS[algorithm]).parameters)
    assert given["gamma"] == 1 and given.get("gae_lambda", 1) == 1
    assert given["n_timesteps"] % (given["n_envs"] * given["n_steps"]) == 0  # whole episodes


@pytest.mark.parametrize("algorithm", ["ppo", "ppo_lstm", "a2c", "dqn"])
def test_the_settings_are_those_of_our_own_agents(algorithm):
    envs = gym.make_vec("DenseNetSparsifyFlat-v0", num_envs=EPISODES)
    own = dqn_settings(envs) if algorithm == "dqn" else settings(envs)
    given = hyperparameters(algorithm)
    parameters = inspect.signature(MODELS[algorithm]).parameters
    wanted = {name: value for name, value in own.items() if name in parameters and name not in ("policy", "device")}
    assert {name: given[name] for name in wanted} == wanted and given["n_envs"] == EPISODES


def command(algorithm):
    """That of the README, for an algorithm."""
    (line,) = re.findall(r"^python (-m rl_zoo3.train.*)$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    return [sys.executable, *shlex.split(line.replace("ppo", algorithm))]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("rl_zoo3") is None, reason="needs pip install rl_zoo3")
@pytest.mark.parametrize("algorithm", MODELS)
def test_the_zoo_trains_with_the_command_of_its_readme(algorithm, tmp_path):
    environment = os.environ | {"ADS_GYM_HOME": str(tmp_path / "home")}
    options = ["--log-folder", tmp_path]
    if algorithm != "ppo":  # one of them on the real task
        options += ["--env-kwargs", "task:'planted-45'"]
    done = subprocess.run(
        [*command(algorithm), *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / algorithm / "DenseNetSparsifyFlat-v0_1" / "DenseNetSparsifyFlat-v0.zip").exists()
