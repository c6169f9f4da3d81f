"""Searching on repaired weights, and taking repaired weights home: environment, problem, search, command line."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from commands import run_here

import ads_gym
from ads_gym.architecture import Architecture
from ads_gym.data.images import network_input
from ads_gym.data.spec import Split
from ads_gym.errors import InvalidValue, UnknownName
from ads_gym.evaluators.base import Weights
from ads_gym.evaluators.store import EvaluationStore
from ads_gym.nets.repair import repair
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import build_sparse
from ads_gym.tasks import Task


@pytest.fixture(scope="module")
def task():
    return Task.load("digits")


def half(task, seed=0):
    return np.random.default_rng(seed).random(45) < 0.5


def test_an_episode_is_paid_with_the_repaired_network(task):
    paid = {}
    for weights in Weights:
        env = gym.make("ads_gym:DenseNetSparsify-v0", task="digits", decision="network", weights=weights)
        env = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
        env.reset()
        _, reward, _, _, info = env.step(half(task).astype(int))
        paid[weights] = reward
        assert reward == info["accuracy"]
    network = task.repair(Architecture(task.config, half(task)))
    assert paid["repaired"] > paid["inherited"] + 0.05
    assert paid["repaired"] == pytest.approx(measure(network, task.images(Split.VALID)).accuracy, abs=0.003)


def test_a_problem_has_an_evaluator_for_each_kind_of_weights(tmp_path):
    problem = ads_gym.make_problem("digits", weights="repaired", store=tmp_path / "store.sqlite")
    masks = np.stack([problem.topology.dense(), problem.topology.chain()])
    both = {weights: problem.evaluators[weights].evaluate(masks) for weights in Weights}
    assert problem.weights is Weights.REPAIRED and problem.evaluator is problem.evaluators[Weights.REPAIRED]
    assert [score.metrics for score in problem.score(masks)] == both["repaired"] != both["inherited"]
    assert both["repaired"][0] == both["inherited"][0]  # nothing was dropped
    with EvaluationStore(tmp_path / "store.sqlite") as store:
        assert len(store) == 4
    problem.close()


def test_where_there_are_no_weights_to_repair():
    for given in ({"task": "planted-20"}, {"task": "digits", "evaluator": "planted:linear:0"}):
        with pytest.raises(InvalidValue, match="weights"):
            ads_gym.make_problem(**given, weights="repaired")
        assert ads_gym.make_problem(**given).weights is ads_gym.make_problem(**given, weights=None).weights is None
    assert ads_gym.make_problem("digits").weights is Weights.INHERITED
    assert ads_gym.make_problem("digits", weights=None).weights is Weights.REPAIRED
    with pytest.raises(InvalidValue, match="no weights"):
        Task.load("planted-20").evaluator(weights="repaired")
    with pytest.raises(UnknownName, match="Did you mean 'repaired'"):
        ads_gym.make_problem("digits", weights="repair")


def test_a_task_repairs_as_repair_does(task):
    architecture = Architecture(task.config, half(task))
    expected = build_sparse(architecture, task.supernet())
    repair(expected, task.supernet(), network_input(task.calibration().images))
    found = task.repair(architecture)
    assert not found.training
    for a, b in zip(found.state_dict().values(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_a_search_on_repaired_weights(tmp_path, monkeypatch, capsys, task):
    monkeypatch.chdir(tmp_path)
    command = ("search", "--agent", "random", "--evaluations", "3", "--max-macs", "0.7", "--run", "run")
    done = run_here(capsys, *command)
    assert done.code == 0 and "repaired" in done.out
    other = run_here(capsys, *command, "--weights", "inherited")
    assert other.code == 2 and "other settings" in other.err
    result = ads_gym.search(
        "digits", "random", 3, cost_weight="even", reward="soft", max_macs=0.7, weights="repaired", run="run"
    )
    assert result.stored is not None
    lines = {line.name: line for line in result.table}
    assert lines["best"].repaired_accuracy == lines["best"].accuracy == result.metrics.accuracy
    assert lines["random"].repaired_accuracy > lines["random"].inherited_accuracy
    right = measure(ads_gym.load("run"), task.images(Split.VALID)).accuracy
    assert right == pytest.approx(result.metrics.accuracy, abs=0.003)
