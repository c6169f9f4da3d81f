import re
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from commands import read_manifest as manifest_of
from searches import climber, rows_of, search, stepper, timeless

import ads_gym
from ads_gym.agents.rankings import Residual
from ads_gym.errors import (
    BudgetExhausted,
    InvalidValue,
)
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.runs.record import RunRecord
from ads_gym.runs.recorder import RunWarning
from ads_gym.tasks import save_task


class Vectorised:
    """Three environments side by side."""

    num_envs = 3
    observation = "flat"

    def __init__(self, env, seed):
        self.env, self.rng = env, np.random.default_rng(seed)
        assert isinstance(env, gym.vector.VectorEnv)
        assert env.single_observation_space.shape == (96,)

    def learn(self, total_timesteps):
        self.env.reset()
        for _ in range(total_timesteps):
            self.env.step(self.rng.integers(0, 2, 3))


def unseeded(env, seed):
    stepper(env, None)


@pytest.mark.parametrize("agent", [stepper, climber, Vectorised, "random"])
def test_spends_exactly_its_budget_and_keeps_the_best_of_the_record(tmp_path, agent):
    with warnings.catch_warnings(action="error"):
        result = search(tmp_path, agent)
    rows = rows_of(result)
    assert (len(rows), result.evaluations, result.stopped_by) == (30, 30, "evaluations")
    assert len({row.mask for row in rows}) == 30
    best = max(rows, key=lambda row: (row.objective, -row.metrics.loss, -row.number))
    assert (result.objective, result.metrics) == (best.objective, best.metrics)
    assert result.architecture.topology.key(result.architecture.mask) == best.mask
    assert ads_gym.Architecture.read(result.folder / "best.json") == result.architecture
    names = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*") if path.suffix}
    pictures = {"pictures/best-so-far.png", "pictures/accuracy-macs.png", "pictures/adjacency.png"}
    assert {"manifest.json", "record.sqlite", "history.csv", "best.json", *pictures} <= names
    assert not [name for name in names if name.endswith((".tmp", "-wal", "-shm"))]


def test_objectives_in_the_record_are_the_problems(tmp_path):
    result = search(tmp_path, cost_weight=0.3, reward="loss")
    planted = PlantedEvaluator(result.architecture.config)
    for row in rows_of(result):
        (metrics,) = planted.evaluate(planted.topology.mask(row.mask)[None])
        assert row.metrics == metrics
        assert row.objective == -metrics.loss - 0.3 * metrics.relative_cost


def thrifty(metrics):
    return metrics.accuracy**2


def test_a_reward_of_ones_own(tmp_path):
    result = search(tmp_path, reward=thrifty, cost_weight=0)
    assert all(row.objective == row.metrics.accuracy**2 for row in rows_of(result))
    assert manifest_of(result.folder)["identity"]["reward"] == f"{__name__}:thrifty"
    with pytest.raises(InvalidValue, match="finite"):
        search(tmp_path / "nan", reward=lambda metrics: float("nan"), cost_weight=0)


def test_the_table_holds_what_best_must_beat(tmp_path):
    result = search(tmp_path)
    dense, chain, random, best = result.table
    assert [line.name for line in result.table] == ["dense", "chain", "random", "best"]
    assert dense.objective == pytest.approx(chain.objective)  # cost weight even
    assert (dense.relative_cost, chain.relative_cost, random.masks) == (1, 0, 30)
    assert best.relative_cost - 0.02 < random.relative_cost <= best.relative_cost
    assert (best.objective, best.accuracy) == (result.objective, result.metrics.accuracy)
    with RunRecord(result.folder / "record.sqlite") as record:
        assert len(record) == 30 + 2 + 30  # none of these counted as the agent's


def test_the_same_seed_gives_the_same_run_and_another_another(tmp_path):
    search(tmp_path / "a", climber)
    search(tmp_path / "b", climber)
    search(tmp_path / "c", climber, seed=1)
    one, same, other = (timeless(tmp_path / name / "run") for name in "abc")
    assert one == same
    assert one != other


played = []


def counted(env, seed):
    played.append(seed)
    climber(env, seed)


def test_a_run_that_is_over_gives_its_result_again_without_playing(tmp_path):
    first = search(tmp_path, counted)
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    again = search(tmp_path, counted)
    assert replace(again, stored=None) == first
    assert (again.stored.evaluations, again.stored.date) == (30, manifest_of(first.folder)["ended"])
    assert played == [0]
    assert {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()} == before


def test_a_larger_budget_extends_a_run_to_what_a_longer_one_is(tmp_path):
    search(tmp_path / "short", climber, evaluations=20)
    with warnings.catch_warnings(action="error"):
        extended = search(tmp_path / "short", climber, evaluations=40)
    whole = search(tmp_path / "long", climber, evaluations=40)
    assert timeless(extended.folder) == timeless(whole.folder)
    assert (extended.table, extended.episodes) == (whole.table, whole.episodes)
    assert manifest_of(extended.folder)["result"] == manifest_of(whole.folder)["result"]


@pytest.mark.parametrize("moment", [0, 1, 3, 5])
def test_an_interrupted_run_goes_on(tmp_path, moment, monkeypatch):
    """Its calls of the evaluator: dense and chain, four batches, the closing table."""
    whole = search(tmp_path / "whole", climber)
    evaluate = PlantedEvaluator.evaluate_checked
    left = [moment]

    def failing(self, masks):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return evaluate(self, masks)

    monkeypatch.setattr(PlantedEvaluator, "evaluate_checked", failing)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "torn", climber)
    monkeypatch.undo()
    folder = tmp_path / "torn" / "run"
    assert manifest_of(folder)["result"] is None
    recorded = timeless(folder)
    assert recorded == timeless(whole.folder)[: len(recorded)]
    assert (len(recorded) > 1) == (folder / "best.json").exists() == (moment > 1)
    again = search(tmp_path / "torn", climber)
    assert timeless(again.folder) == timeless(whole.folder)
    assert manifest_of(again.folder)["result"] == manifest_of(whole.folder)["result"]
    assert (again.folder / "best.json").read_bytes() == (whole.folder / "best.json").read_bytes()


def test_an_agents_own_error_comes_out_and_loses_nothing(tmp_path):
    def failing(env, seed):
        env.unwrapped.problem.score(np.eye(45, dtype=bool)[:7])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search(tmp_path, failing)
    assert len(timeless(tmp_path / "run")) == 1 + 7


def test_an_agent_without_a_seed_is_told_so_and_goes_on(tmp_path):
    first = search(tmp_path, unseeded, evaluations=10)
    recorded = timeless(first.folder)
    with pytest.warns(RunWarning, match="does not repeat itself") as caught:
        second = search(tmp_path, unseeded, evaluations=15)
    assert len(caught) == 1
    assert timeless(second.folder)[:11] == recorded
    assert second.evaluations == 15
    assert manifest_of(second.folder)["differs_at"] == 1


def test_repeating_oneself_ends_at_20_episodes_an_evaluation(tmp_path):
    def stubborn(env, seed):
        stepper(env, seed, density=1.0)

    result = search(tmp_path, stubborn, evaluations=3)
    assert (result.stopped_by, result.evaluations, result.episodes) == ("episodes", 1, 60)


def test_an_agent_may_stop_early_but_not_before_it_began(tmp_path):
    def brief(env, seed):
        env.unwrapped.problem.score(np.eye(45, dtype=bool)[:7])

    result = search(tmp_path / "a", brief)
    assert (result.stopped_by, result.evaluations) == ("agent", 7)
    with pytest.raises(InvalidValue, match="before a single"):
        search(tmp_path / "b", lambda env, seed: None)


def test_every_step_and_reset_after_the_end_says_so(tmp_path):
    ends = []

    def deaf(env, seed):
        for _ in range(3):
            with pytest.raises(BudgetExhausted):
                stepper(env, seed)
            ends.append(1)

    assert search(tmp_path, deaf).stopped_by == "evaluations"
    assert len(ends) == 3


def test_a_limit_is_kept(tmp_path):
    result = search(tmp_path, max_macs=0.6)
    rows = rows_of(result)
    assert max(row.metrics.relative_macs for row in rows) <= 0.6
    assert result.table[0].relative_macs == 1  # dense is shown all the same


def test_decisions_by_layer_and_by_network(tmp_path):
    def any_action(env, seed):
        env.action_space.seed(seed)
        while True:
            env.reset()
            while not env.step(env.action_space.sample())[2]:
                pass

    for decision in ("layer", "network"):
        result = search(tmp_path / decision, any_action, decision=decision, scope="all")
        assert result.evaluations == 30
        assert len(result.architecture.mask) == 3 * 21


def test_options_reach_the_agent(tmp_path):
    result = search(tmp_path, agent_options={"density": 0.9})
    assert np.mean([row.metrics.relative_cost for row in rows_of(result)]) > 0.8
    assert manifest_of(result.folder)["identity"]["agent's options"] == {"density": 0.9}


def test_the_default_folder_tells_settings_apart_but_not_budgets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def folder(**keywords):
        return ads_gym.search("planted-20", "random", progress=False, **{"evaluations": 3} | keywords).folder

    first = folder()
    assert first.parent == tmp_path / "runs" and re.fullmatch(r"planted-20-random-s0-[0-9a-f]{8}", first.name)
    assert folder(evaluations=4) == first == folder(data_root=tmp_path)
    others = [folder(seed=1), folder(reward="loss"), folder(max_macs=0.7), folder(evaluator="planted:pairwise:1")]
    assert len({first, *others}) == 5


def test_own_evaluators(tmp_path, monkeypatch):
    (tmp_path / "my_evaluator.py").write_text(
        "from ads_gym.evaluators.planted import PlantedEvaluator\n"
        "def make(task, scope): return PlantedEvaluator(task.config, scope, 'linear', 5)\n"
    )
    monkeypatch.chdir(tmp_path)
    by_name = search(tmp_path / "a", climber, evaluator="my_evaluator:make")
    config = by_name.architecture.config
    by_object = search(tmp_path / "b", climber, evaluator=PlantedEvaluator(config, seed=5))
    assert timeless(by_name.folder) == timeless(by_object.folder)
    # Another network than the default task's: it stands in for it.
    small = PlantedEvaluator(type(config)((3, 3)))
    result = ads_gym.search(
        agent=climber, evaluations=20, evaluator=small, run=tmp_path / "c", progress=False, cost_weight=0
    )
    assert result.architecture.config.blocks == (3, 3)


@pytest.mark.usefixtures("few_random_masks")
def test_on_real_data_the_network_is_saved_with_statistics_of_its_own(tmp_path):
    import torch

    from ads_gym.data.images import network_input
    from ads_gym.data.splits import Split

    task = ads_gym.Task.load("digits")
    result = ads_gym.search(task, "random", 4, run=tmp_path / "run", progress=False)
    network = ads_gym.load(result.folder / "best.json")
    assert network.architecture == result.architecture
    valid = task.images(Split.VALID)
    with torch.no_grad():
        right = network(network_input(valid.images)).argmax(1) == valid.labels
    best = result.table[-1]
    assert best.repaired_accuracy == result.metrics.accuracy == best.accuracy
    assert float(right.float().mean()) == pytest.approx(best.repaired_accuracy, abs=1.5 / len(valid))
    # The closing table has what needs no search: the first mask of agent `residual` within the best's MACs.
    assert [line.name for line in result.table] == ["dense", "chain", "random", "residual", "best"]
    problem = ads_gym.make_problem(task, weights="repaired", max_macs=best.relative_macs)
    asked = Residual(problem).ask(1)[0]
    residual, (score,) = result.table[-2], problem.score(asked[None])
    assert residual.relative_macs == score.metrics.relative_macs <= best.relative_macs
    assert residual.accuracy == score.metrics.accuracy > residual.inherited_accuracy


@pytest.mark.usefixtures("few_random_masks")
def test_a_task_in_a_folder_can_be_found_again_from_anywhere(tmp_path, monkeypatch):
    digits = ads_gym.Task.load("digits")
    monkeypatch.chdir(tmp_path)
    save_task("mine", "mine", digits.config, digits.data, digits.state_dict())
    result = ads_gym.search("mine", "random", 2, data_root="data", progress=False)
    assert result.folder.name.startswith("mine-random-s0-")
    manifest = manifest_of(result.folder)
    assert manifest["task"] == str(tmp_path / "mine")
    assert manifest["data_root"] == str(tmp_path / "data")
