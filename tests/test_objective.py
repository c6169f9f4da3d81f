import pickle
import subprocess
import sys

import numpy as np
import pytest

import ads_gym
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.envs.vector import DenseNetSparsifyVectorEnv
from ads_gym.errors import AdsGymError, InvalidValue, MissingPackage, NotFound, UnknownName
from ads_gym.evaluators.base import Metrics
from ads_gym.imports import import_object, import_package
from ads_gym.objective import check_cost_weight, find_reward

METRICS = Metrics(0.9, 0.8, 0.3, 10, 20, 0.5, 0.25)


def cheap(metrics: Metrics) -> float:
    return metrics.accuracy - metrics.relative_macs


@pytest.mark.parametrize(
    ("reward", "value"),
    [("accuracy", 0.9), ("soft", 0.8), ("loss", -0.3), (cheap, 0.4), ("test_objective:cheap", 0.4)],
)
def test_rewards_by_name_and_as_functions(reward, value):
    assert find_reward(reward)(METRICS) == pytest.approx(value)


@pytest.mark.parametrize("make", [DenseNetSparsifyEnv, DenseNetSparsifyVectorEnv])
@pytest.mark.parametrize("reward", ["accuracy", "soft", "loss"])
def test_an_environment_pickles_with_each(reward, make):
    env = make(task="planted-20", reward=reward, decision="network")
    again = pickle.loads(pickle.dumps(env))
    env.reset()
    again.reset()
    actions = np.ones(env.action_space.shape, np.int64)
    assert again.step(actions)[1] == env.step(actions)[1] != 0


@pytest.mark.parametrize(
    ("reward", "error"),
    [("acuracy", UnknownName), (3, InvalidValue), ("nowhere:f", NotFound), ("test_objective:chep", UnknownName)],
)
def test_what_is_no_reward_is_told(reward, error):
    with pytest.raises(error):
        find_reward(reward)


def test_cost_weights():
    assert check_cost_weight("even") == "even" and check_cost_weight(2) == 2.0
    for bad in (-1, 101, float("nan"), float("inf"), "odd", None, True, []):
        with pytest.raises(InvalidValue, match="cost weight"):
            check_cost_weight(bad)


def test_an_error_inside_a_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError) as caught:
        import_object("broken:f", "agent")
    assert not isinstance(caught.value, AdsGymError)


def test_a_missing_package_comes_with_its_pip_line():
    with pytest.raises(MissingPackage, match="pip install something"):
        import_package("a_package_that_is_not_there", "something")


def test_public_names_are_loaded_when_first_used():
    code = (
        "import sys, ads_gym; assert not {'torch', 'pydantic', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "ads_gym.load; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    for name in ads_gym.__all__:
        assert getattr(ads_gym, name) is not None
    with pytest.raises(AttributeError, match="serch"):
        _ = ads_gym.serch
