import csv
import io
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from ads_gym.architecture import DenseNetConfig
from ads_gym.errors import AdsGymError, BudgetExhausted, InvalidValue
from ads_gym.evaluators.base import Evaluator
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.problem import make_problem
from ads_gym.runs.record import RunRecord, best_of, to_csv
from ads_gym.runs.recorder import BudgetedEnv, Recorder, RunWarning, StoppedBy

PLANTED = PlantedEvaluator(DenseNetConfig((5, 5)))


def random_masks(count, seed=0):
    return np.random.default_rng(seed).random((count, 20)) < 0.5


def squared(metrics):
    return metrics.accuracy**2


def recorder_in(folder, budget=100, reward="accuracy", **hooks):
    problem = make_problem("planted-20", evaluator=PLANTED, reward=reward, cost_weight=1)
    return Recorder(problem, RunRecord(folder / "record.sqlite"), budget, **hooks)


class Unasked(PlantedEvaluator):
    def evaluate_checked(self, masks):
        raise AssertionError("paid twice")


def killed(recorder):
    """As a kill would leave it."""
    recorder.record.close()


def test_an_evaluation_is_the_first_time_a_mask_is_asked_for(tmp_path):
    batches = []
    recorder = recorder_in(tmp_path, on_rows=batches.append)
    assert isinstance(recorder, Evaluator)
    masks = random_masks(10)
    assert recorder.evaluate(masks[[0, 1, 0, 2]]) == PLANTED.evaluate(masks[[0, 1, 0, 2]])
    assert recorder.evaluate(masks[:2]) == PLANTED.evaluate(masks[:2])
    recorder.evaluate(masks[3:])
    assert [row.number for row in recorder.rows] == list(range(1, 11))
    assert [row.mask for row in recorder.rows] == [PLANTED.topology.key(mask) for mask in masks]
    assert [row.episode for row in recorder.rows] == [1, 2, 4, *range(7, 14)]
    assert [len(batch) for batch in batches] == [3, 7]
    assert recorder.record.history(recorder.fingerprint) == recorder.rows


def test_the_budget_is_spent_to_the_last_evaluation_and_not_beyond(tmp_path):
    recorder = recorder_in(tmp_path, budget=5)
    masks = random_masks(8)
    recorder.evaluate(masks[:5])
    recorder.evaluate(masks[:5])  # what is known costs nothing
    with pytest.raises(BudgetExhausted, match="5 of 5"):
        recorder.evaluate(masks[5:6])
    with pytest.raises(BudgetExhausted):
        recorder.evaluate(masks[:1])
    assert recorder.stopped_by is StoppedBy.EVALUATIONS


def test_the_last_batch_is_cut_in_its_order(tmp_path):
    recorder = recorder_in(tmp_path, budget=5)
    masks = random_masks(8)
    recorder.evaluate(masks[:3])
    with pytest.raises(BudgetExhausted):
        recorder.evaluate(masks[[0, 3, 4, 5, 6]])
    assert [row.mask for row in recorder.rows] == [PLANTED.topology.key(mask) for mask in masks[:5]]


def test_repeating_oneself_ends_too(tmp_path):
    recorder = recorder_in(tmp_path, budget=3)
    mask = random_masks(1)
    for _ in range(60):
        recorder.evaluate(mask)
    with pytest.raises(BudgetExhausted):
        recorder.evaluate(mask)
    assert (recorder.stopped_by, recorder.episodes, len(recorder.rows)) == (StoppedBy.EPISODES, 60, 1)


def test_a_replay_is_answered_by_the_record_and_goes_on(tmp_path):
    masks = random_masks(30)
    first = recorder_in(tmp_path)
    first.evaluate(masks[:8])
    first.evaluate(masks[4:12])
    killed(first)

    second = recorder_in(tmp_path)
    second.inner = Unasked(PLANTED.config)
    with warnings.catch_warnings(action="error"):
        assert second.evaluate(masks[:8]) == PLANTED.evaluate(masks[:8])
        assert second.evaluate(masks[4:12]) == PLANTED.evaluate(masks[4:12])
        second.inner = PLANTED
        second.evaluate(masks[:20])
    assert [row.mask for row in second.rows] == [PLANTED.topology.key(mask) for mask in masks[:20]]
    assert second.rows[12].episode == 29


def test_the_first_difference_is_told_once_and_what_is_recorded_counts(tmp_path):
    masks, others = random_masks(10), random_masks(10, seed=1)
    first = recorder_in(tmp_path)
    first.evaluate(masks)
    killed(first)

    differences = []
    second = recorder_in(tmp_path, budget=12, on_difference=differences.append)
    second.evaluate(masks[:3])
    with pytest.warns(RunWarning, match="evaluation 4 is another") as caught:
        second.evaluate(others[:1])
        second.evaluate(masks[::-1])
    assert (len(caught), differences) == (1, [4])
    with pytest.raises(BudgetExhausted):
        second.evaluate(others)
    assert [row.mask for row in second.rows] == [PLANTED.topology.key(m) for m in (*masks, *others[:2])]


def test_a_mask_that_was_recorded_later_is_a_difference_too(tmp_path):
    masks = random_masks(4)
    first = recorder_in(tmp_path)
    first.evaluate(masks)
    killed(first)
    with pytest.warns(RunWarning, match="evaluation 2"):
        recorder_in(tmp_path).evaluate(masks[[0, 2]])


def test_an_environment_ends_with_its_run(tmp_path):
    recorder = recorder_in(tmp_path, budget=2)
    problem = replace(make_problem("planted-20", evaluator=PLANTED), evaluator=recorder)
    env = BudgetedEnv(gym.make("ads_gym:DenseNetSparsify-v0", problem=problem, decision="network"), recorder)
    masks = random_masks(3)
    for mask in masks[:2]:
        env.reset()
        assert env.step(mask.astype(int))[2]
    env.reset()
    with pytest.raises(BudgetExhausted):
        env.step(masks[2].astype(int))
    with pytest.raises(BudgetExhausted):
        env.step(masks[0].astype(int))
    with pytest.raises(BudgetExhausted):
        env.reset()
    with pytest.raises(BudgetExhausted):
        problem.score(masks[:1])


def test_metrics_and_order_are_committed_together_or_not_at_all(tmp_path):
    """A kill between them, here an error: no evaluation without its place in the order, and none paid twice."""
    masks = random_masks(6)
    recorder = recorder_in(tmp_path)
    recorder.evaluate(masks[:2])
    broken = [
        replace(recorder.rows[0], number=3, mask=b"abc"),
        recorder.rows[0],
    ]
    with pytest.raises(AdsGymError):
        recorder.record.append(recorder.fingerprint, broken)
    assert recorder.record.history(recorder.fingerprint) == recorder.rows
    assert len(recorder.record) == 2


def test_metrics_that_the_run_itself_needed_are_paid_once_and_get_a_place_when_an_agent_asks(tmp_path):
    masks = random_masks(2)
    recorder = recorder_in(tmp_path)
    recorder.record.add(PLANTED.fingerprint, {PLANTED.topology.key(masks[0]): PLANTED.evaluate(masks)[0]})
    recorder.inner = Unasked(PLANTED.config)
    assert recorder.evaluate(masks[:1]) == PLANTED.evaluate(masks[:1])
    assert [row.number for row in recorder.rows] == [1]


def test_another_reward_function_under_a_record_is_found(tmp_path):
    killed_recorder = recorder_in(tmp_path)
    killed_recorder.evaluate(random_masks(3))
    killed(killed_recorder)
    with pytest.raises(InvalidValue, match="reward function"):
        recorder_in(tmp_path, reward=squared)


def test_ties_go_to_lower_loss_then_to_the_earlier(tmp_path):
    recorder = recorder_in(tmp_path, reward=lambda metrics: 1.0 + metrics.relative_cost)
    recorder.evaluate(random_masks(30))
    rows = [replace(row, objective=1.0) for row in recorder.rows]
    least = min(row.metrics.loss for row in rows)
    best = best_of(rows)
    assert best.metrics.loss == least
    assert best.number == min(row.number for row in rows if row.metrics.loss == least)


def test_csv_reads_back_to_the_bit(tmp_path):
    recorder = recorder_in(tmp_path)
    recorder.evaluate(random_masks(40))
    read = list(csv.DictReader(io.StringIO(to_csv(recorder.rows))))
    for row, line in zip(recorder.rows, read, strict=True):
        assert (int(line["number"]), bytes.fromhex(line["mask"])) == (row.number, row.mask)
        assert float(line["objective"]) == row.objective
        assert all(float(line[name]) == value for name, value in vars(row.metrics).items())
