"""Agents that begin at what a ranking keeps, or at an architecture."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import run_here
from marks import slow
from planted_problems import Counted, optimise, vector

import ads_gym
from ads_gym.agents.bayes.agent import Bayes
from ads_gym.agents.bernoulli import Bernoulli
from ads_gym.agents.density import Density
from ads_gym.agents.evolution import Evolution
from ads_gym.agents.local_search import LocalSearch
from ads_gym.agents.nsga2 import NSGA2
from ads_gym.agents.rankings import Magnitude
from ads_gym.agents.recurrent.agent import Recurrent
from ads_gym.agents.starts import RANKINGS, STARTS, start_logits, start_masks
from ads_gym.agents.tpe import TPE
from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.errors import InvalidValue, UnknownName
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.problem import make_problem

OPTIMISERS = [LocalSearch, Bayes, Evolution, TPE, NSGA2]


@pytest.fixture
def problem():
    """Of digits, so that there are features, and with a planted score."""
    made = make_problem("digits", max_macs=0.8)
    planted = PlantedEvaluator(made.config)
    return replace(made, evaluator=Counted(planted, 60), objective=replace(made.objective, evaluator=planted))


@pytest.mark.parametrize("name", [*[*RANKINGS][:3], slow("gates")])
def test_masks_are_nested_from_the_largest_that_fits_to_the_chain(problem, name):
    masks = start_masks(problem, name, STARTS)
    assert len(masks) == STARTS and problem.fits(masks).all() and not masks[-1].any()
    assert (masks[1:] <= masks[:-1]).all() and np.diff(masks.sum(axis=1)).max() < 0
    assert np.array_equal(masks[0], RANKINGS[name](problem).ask(1)[0])
    assert len(start_masks(problem, name, 3)) == 3 and len(start_masks(problem, None, 3)) == 0


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_they_are_asked_for_first(problem, optimiser):
    agent = optimiser(problem, seed=0, start="magnitude")
    optimise(agent, problem)
    asked = np.stack(problem.evaluator.masks)
    assert np.array_equal(asked[:STARTS], start_masks(problem, "magnitude", STARTS)) and len(asked) == 60


@pytest.mark.parametrize(
    ("optimiser", "options", "most"),
    [
        (Bayes, {"warmup": 3}, STARTS),
        (TPE, {"warmup": 3}, STARTS),
        (Evolution, {"population": 3}, 3),
        (NSGA2, {"population": 3}, 3),
    ],
)
def test_none_is_dropped_where_few_random_masks_are_asked_for(problem, optimiser, options, most):
    optimise(optimiser(problem, seed=0, start="magnitude", batch_size=2, **options), problem)
    assert np.array_equal(problem.evaluator.masks[:most], start_masks(problem, "magnitude", most))


def test_a_local_search_climbs_from_them(problem):
    agent = LocalSearch(problem, seed=0, start="magnitude")
    optimise(agent, problem)
    masks, metrics = np.stack(problem.evaluator.masks), problem.evaluator.metrics
    best = max(range(STARTS), key=lambda number: metrics[number].accuracy)
    assert (masks[STARTS] ^ masks[best]).sum() == 1  # no random mask between


@pytest.mark.parametrize("optimiser", [Bernoulli, Density])
def test_logits_follow_them(problem, optimiser):
    masks = start_masks(problem, "magnitude", STARTS)
    logits = optimiser(problem, seed=0, start="magnitude").logits
    if optimiser is Density:
        assert len(logits) == 1
        return
    assert np.corrcoef(logits, masks.sum(axis=0))[0, 1] > 0.95
    assert np.array_equal(np.argsort(logits), np.argsort(masks.sum(axis=0)))


def test_a_policy_keeps_more_often_what_they_keep(problem):
    agent = Recurrent(vector(problem), seed=0, start="magnitude", warmup=0)
    masks = start_masks(problem, "magnitude", STARTS)
    assert np.allclose(agent.policy.logits.detach(), start_logits(masks, 0.0), atol=1e-6)
    with pytest.raises(ads_gym.BudgetExhausted):
        agent.learn(10**6)
    assert np.array_equal(problem.evaluator.masks[: len(masks)], masks)


def test_a_policy_is_loaded_without_the_file_that_it_began_at(problem, tmp_path):
    start = tmp_path / "start.json"
    start.write_text(problem.architecture(Magnitude(problem).ask(5)[4]).to_json())
    agent = Recurrent(vector(problem), seed=0, start=str(start))
    agent.save(tmp_path / "policy")
    start.unlink()
    loaded = Recurrent.load(tmp_path / "policy", vector(problem))
    assert loaded.config == agent.config and loaded.config.start == str(start)
    assert torch.equal(loaded.policy.logits, agent.policy.logits)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "policy.json").read_text()


def test_logits_without_masks_are_as_they_were():
    assert start_logits(np.empty((0, 3), np.bool_), 0.7).tolist() == [0.7] * 3
    assert start_logits(np.array([[True, False]]), 0.7).tolist() == pytest.approx([np.log(3), -np.log(3)])


def test_an_architecture(problem, tmp_path):
    mask = Magnitude(problem).ask(5)[4]
    path = tmp_path / "found.json"
    path.write_text(problem.architecture(mask).to_json())
    for name in (path, tmp_path / "found"):
        assert np.array_equal(start_masks(problem, str(name), 5), mask[None])
    (tmp_path / "dense.json").write_text(problem.architecture(problem.topology.dense()).to_json())
    with pytest.raises(InvalidValue, match="max_macs allows"):
        start_masks(problem, str(tmp_path / "dense.json"), 5)
    other = Architecture(DenseNetConfig((3, 3)), np.ones(6, np.bool_))
    (tmp_path / "other.json").write_text(other.to_json())
    with pytest.raises(InvalidValue, match="of another network"):
        start_masks(problem, str(tmp_path / "other.json"), 5)
    with pytest.raises(UnknownName, match="Did you mean 'residual'"):
        start_masks(problem, "residuals", 5)
    with pytest.raises(InvalidValue, match="planted-45 has none"):
        LocalSearch(make_problem("planted-45"), start="magnitude")


def test_another_architecture_in_a_run_folder_is_another_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problem = make_problem("digits-table")
    (tmp_path / "rd").mkdir()
    masks = Magnitude(problem).ask(5)
    for mask in masks[3:]:
        (tmp_path / "rd/best.json").write_text(problem.architecture(mask).to_json())
        options = {"agent_options": {"start": "rd"}, "run": "r", "progress": False}
        if (tmp_path / "r").exists():
            with pytest.raises(InvalidValue, match="files that options name"):
                ads_gym.search("digits-table", "local", 12, **options)
        else:
            ads_gym.search("digits-table", "local", 12, **options)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ("search", "--task", "digits-table", "--evaluations", 12, "--run", "r")
    assert run_here(capsys, *command, "--agent", "local", "--start", "magnitude").code == 0
    assert run_here(capsys, *command, "--agent", "local", "--start", "saliency").code == 2  # another run
    done = run_here(capsys, *command[:-1], "other", "--agent", "random", "--start", "magnitude")
    assert done.code == 2 and "option of agent random" in done.err
