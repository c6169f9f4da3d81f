"""What is no evaluation and costs as much is taken off the budget."""

import csv
import time
from dataclasses import replace

import numpy as np
import pytest
from commands import read_rows
from searches import timeless

import ads_gym
from ads_gym.agents.base import Optimiser
from ads_gym.errors import BudgetExhausted, InvalidValue
from ads_gym.problem import make_problem
from ads_gym.runs.record import RunRecord
from ads_gym.runs.recorder import Recorder, StoppedBy


class Charging(Optimiser):
    """Random masks, after something that costs as much as five evaluations, and again after ten."""

    batch_size = 4

    def __init__(self, problem, *, seed=0, price=5):
        super().__init__(problem, seed=seed)
        self.price, self.told = price, 0
        problem.charge("looking", price)

    def ask(self, n):
        if self.told == 12:
            self.problem.charge("looking", self.price)  # known already
            self.problem.charge("looking again", self.price)
        return np.stack([self.problem.sample(self.rng) for _ in range(n)])

    def tell(self, masks, scores):
        self.told += len(masks)


def search(folder, evaluations, agent=Charging, **options):
    return ads_gym.search("planted-45", agent, evaluations, run=folder, progress=False, **options)


def test_charges_are_of_the_budget_and_of_the_record(tmp_path):
    result = search(tmp_path / "run", 40)
    rows = read_rows(tmp_path / "run")
    assert (len(rows), result.evaluations, result.charged, result.stopped_by) == (30, 30, 10, "evaluations")
    assert [row.charged for row in rows] == [5] * 12 + [10] * 18 and rows[-1].spent == 40
    assert result.counts == "30 evaluations (and what costs as much as 10 more) in 30 episodes"
    with (tmp_path / "run/history.csv").open() as file:
        assert [int(line["charged"]) for line in csv.DictReader(file)] == [row.charged for row in rows]


def test_a_smaller_budget_is_answered_with_what_it_would_have_been(tmp_path):
    search(tmp_path / "long", 60)
    for budget in (8, 17, 20, 22, 25, 40):
        alone, shown = search(tmp_path / f"run-{budget}", budget), search(tmp_path / "long", budget)
        assert shown.stored is not None and alone.stored is None
        assert replace(shown, folder=alone.folder, stored=None) == alone
        assert shown.evaluations + shown.charged <= budget
    with pytest.raises(InvalidValue, match="scores its first network after 5 evaluations of its budget"):
        search(tmp_path / "long", 5)


def test_a_larger_budget_goes_on(tmp_path):
    search(tmp_path / "run", 20)
    search(tmp_path / "run", 50)
    search(tmp_path / "other", 50)
    assert timeless(tmp_path / "run") == timeless(tmp_path / "other")


def test_a_budget_that_looking_uses_up_is_refused(tmp_path):
    with pytest.raises(InvalidValue, match="costs more than the 4 evaluations of its budget"):
        search(tmp_path / "run", 4)
    assert not (tmp_path / "run/manifest.json").exists()
    with pytest.raises(InvalidValue, match="costs more than the 3 evaluations"):
        ads_gym.search("digits", "residual", 3, run=tmp_path / "digits", progress=False)


def test_a_recorder_ends_at_a_charge_that_is_not_left(tmp_path):
    problem = make_problem("planted-20")
    with RunRecord(tmp_path / "record.sqlite") as record:
        recorder = Recorder(problem, record, 6)
        recorder.charge("one", 4)
        recorder.charge("one", 4)
        assert recorder.charged == 4
        with pytest.raises(BudgetExhausted, match="two takes as long as 3 evaluations, and of 6 2 are left"):
            recorder.charge("two", 3)
        assert recorder.stopped_by is StoppedBy.EVALUATIONS
        with pytest.raises(BudgetExhausted, match="4 of 6 evaluations"):
            recorder.evaluate(problem.topology.dense()[None])


def test_the_time_of_what_is_charged_is_not_the_agents(tmp_path):
    with RunRecord(tmp_path / "record.sqlite") as record:
        recorder = Recorder(make_problem("planted-20"), record, 6)
        began = time.process_time()
        with recorder.charged_time():
            while time.process_time() < began + 0.1:
                pass
        assert 0.1 <= recorder.cpu_seconds <= time.process_time() - began + 0.01
    problem = replace(make_problem("digits-table"), charged_time=recorder.charged_time)
    before = recorder.cpu_seconds
    problem.feature("residual")
    assert recorder.cpu_seconds > before


def test_features_are_charged_in_a_search(tmp_path):
    options = {"weights": "inherited", "agent_options": {"networks": "dense"}, "progress": False}
    result = ads_gym.search("digits", "saliency", 5, run=tmp_path / "s", **options)
    assert (result.evaluations, result.charged) == (3, 2)


def test_a_record_is_whole_where_an_agent_charges_later_than_it_did(tmp_path):
    problem = make_problem("planted-20")
    with RunRecord(tmp_path / "record.sqlite") as record:
        first = Recorder(problem, record, 20)
        first.charge("x", 5)
        first.evaluate(problem.topology.dense()[None])
        with pytest.warns(UserWarning, match="does not repeat itself"):
            Recorder(problem, record, 20).evaluate(problem.topology.chain()[None])
        assert [row.charged for row in record.history(first.fingerprint)] == [5, 5]
