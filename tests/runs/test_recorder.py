import os
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest

from ads_gym.architecture import DenseNetConfig
from ads_gym.errors import BudgetExhausted, DamagedFile, NotFound, StorageError
from ads_gym.evaluators.base import Evaluator
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.runs.history import History, best_of, read_history
from ads_gym.runs.recorder import BudgetedEnv, RecordedEvaluator, RunWarning, StoppedBy

PLANTED = PlantedEvaluator(DenseNetConfig((5, 5)))
KEY_BYTES = 3


def random_masks(count, seed=0):
    return np.random.default_rng(seed).random((count, 20)) < 0.5


def record_in(folder, budget=100, **hooks):
    history = History(folder / "history.csv", KEY_BYTES)
    return RecordedEvaluator(
        PLANTED, history, budget, lambda metrics: metrics.accuracy - metrics.relative_cost, **hooks
    )


class Unasked(PlantedEvaluator):
    def evaluate(self, masks):
        raise AssertionError("paid twice")


def killed(record):
    """As a kill would leave it."""
    record.history.close()


def test_an_evaluation_is_the_first_time_a_mask_is_asked_for(tmp_path):
    batches = []
    record = record_in(tmp_path, on_rows=batches.append)
    assert isinstance(record, Evaluator)
    masks = random_masks(10)
    assert record.evaluate(masks[[0, 1, 0, 2]]) == PLANTED.evaluate(masks[[0, 1, 0, 2]])
    assert record.evaluate(masks[:2]) == PLANTED.evaluate(masks[:2])
    record.evaluate(masks[3:])
    assert [row.index for row in record.history.rows] == list(range(1, 11))
    assert [row.mask for row in record.history.rows] == [PLANTED.topology.key(mask) for mask in masks]
    assert [row.episode for row in record.history.rows] == [1, 2, 4, *range(7, 14)]
    assert [len(batch) for batch in batches] == [3, 7]
    record.uncounted(random_masks(5, seed=1))
    assert (len(record.history.rows), record.episodes) == (10, 13)


def test_the_budget_is_spent_to_the_last_evaluation_and_not_beyond(tmp_path):
    record = record_in(tmp_path, budget=5)
    masks = random_masks(8)
    record.evaluate(masks[:5])
    record.evaluate(masks[:5])  # what is known costs nothing
    with pytest.raises(BudgetExhausted, match="5 of 5"):
        record.evaluate(masks[5:6])
    with pytest.raises(BudgetExhausted):
        record.evaluate(masks[:1])
    assert record.stopped_by is StoppedBy.EVALUATIONS


def test_the_last_batch_is_cut_in_its_order(tmp_path):
    record = record_in(tmp_path, budget=5)
    masks = random_masks(8)
    record.evaluate(masks[:3])
    with pytest.raises(BudgetExhausted):
        record.evaluate(masks[[0, 3, 4, 5, 6]])
    assert [row.mask for row in record.history.rows] == [PLANTED.topology.key(mask) for mask in masks[:5]]


def test_repeating_oneself_ends_too(tmp_path):
    record = record_in(tmp_path, budget=3)
    mask = random_masks(1)
    for _ in range(60):
        record.evaluate(mask)
    with pytest.raises(BudgetExhausted):
        record.evaluate(mask)
    assert (record.stopped_by, record.episodes, len(record.history.rows)) == (StoppedBy.EPISODES, 60, 1)


def test_a_replay_is_answered_by_the_record_and_goes_on(tmp_path):
    masks = random_masks(30)
    first = record_in(tmp_path)
    first.evaluate(masks[:8])
    first.evaluate(masks[4:12])
    killed(first)

    second = record_in(tmp_path)
    second.inner = Unasked(PLANTED.config)
    with warnings.catch_warnings(action="error"):
        assert second.replaying
        assert second.evaluate(masks[:8]) == PLANTED.evaluate(masks[:8])
        assert second.evaluate(masks[4:12]) == PLANTED.evaluate(masks[4:12])
        assert not second.replaying
        second.inner = PLANTED
        second.evaluate(masks[:20])
    assert [row.mask for row in second.history.rows] == [PLANTED.topology.key(mask) for mask in masks[:20]]
    assert second.history.rows[12].episode == 29


def test_the_first_difference_is_told_once_and_what_is_recorded_counts(tmp_path):
    masks, others = random_masks(10), random_masks(10, seed=1)
    first = record_in(tmp_path)
    first.evaluate(masks)
    killed(first)

    differences = []
    second = record_in(tmp_path, budget=12, on_difference=differences.append)
    second.evaluate(masks[:3])
    with pytest.warns(RunWarning, match="evaluation 4 is another") as caught:
        second.evaluate(others[:1])
        second.evaluate(masks[::-1])
    assert (len(caught), differences) == (1, [4])
    with pytest.raises(BudgetExhausted):
        second.evaluate(others)
    assert [row.mask for row in second.history.rows] == [PLANTED.topology.key(m) for m in (*masks, *others[:2])]


def test_a_mask_that_was_recorded_later_is_a_difference_too(tmp_path):
    masks = random_masks(4)
    first = record_in(tmp_path)
    first.evaluate(masks)
    killed(first)
    with pytest.warns(RunWarning, match="evaluation 2"):
        record_in(tmp_path).evaluate(masks[[0, 2]])


def test_an_environment_ends_with_its_run(tmp_path):
    record = record_in(tmp_path, budget=2)
    env = BudgetedEnv(gym.make("ads_gym:DenseNetSparsify-v0", evaluator=record, decision="network"), record)
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
        env.unwrapped.evaluate(masks[:1])


# The file


def test_a_history_reads_back_to_the_bit(tmp_path):
    record = record_in(tmp_path)
    record.evaluate(random_masks(40))
    rows = read_history(tmp_path / "history.csv", KEY_BYTES)
    assert [vars(row) | {"seconds": 0} for row in rows] == [vars(row) | {"seconds": 0} for row in record.history.rows]
    best = best_of(rows)
    assert best.reward == max(row.reward for row in rows)


@pytest.mark.parametrize("cut", [1, 5, 40, 200])
def test_a_torn_last_line_is_cut_off(tmp_path, cut):
    record = record_in(tmp_path)
    record.evaluate(random_masks(5))
    killed(record)
    path = tmp_path / "history.csv"
    whole = path.read_bytes()
    os.truncate(path, len(whole) - cut)
    lines_left = whole[:-cut].count(b"\n") - 1
    assert len(read_history(path, KEY_BYTES)) == lines_left
    again = record_in(tmp_path)
    assert len(again.history.rows) == lines_left
    again.evaluate(random_masks(5))
    strip = [line.rsplit(b",", 1)[0] for line in whole.splitlines()]
    assert [line.rsplit(b",", 1)[0] for line in path.read_bytes().splitlines()] == strip


def test_a_torn_header_is_written_again(tmp_path):
    (tmp_path / "history.csv").write_text("index,ma")
    record_in(tmp_path).evaluate(random_masks(1))
    assert len(read_history(tmp_path / "history.csv", KEY_BYTES)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "title,year\n" + text,
        lambda text: "no line end",
        lambda text: text.replace("\n2,", "\n3,"),
        lambda text: text.replace("\n2,", "\n2,ff"),
        lambda text: text.replace(",0.", ",O.", 1),
        lambda text: text + "6,\n",
        lambda text: text.replace("\n4,", "\n\0,"),
    ],
)
def test_a_damaged_history_is_refused_and_unchanged(tmp_path, damage):
    record = record_in(tmp_path)
    record.evaluate(random_masks(5))
    killed(record)
    path = tmp_path / "history.csv"
    path.write_text(damaged := damage(path.read_text()))
    with pytest.raises(DamagedFile, match="history"):
        record_in(tmp_path)
    with pytest.raises(DamagedFile):
        read_history(path, KEY_BYTES)
    assert path.read_text() == damaged


def test_one_process_at_a_time(tmp_path):
    with History(tmp_path / "history.csv", KEY_BYTES):
        code = f"from ads_gym.runs.history import *; History(Path({str(tmp_path / 'history.csv')!r}), 3)"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "StorageError: another process is searching" in other.stderr
    History(tmp_path / "history.csv", KEY_BYTES).close()


def test_where_no_history_can_be(tmp_path):
    with pytest.raises(NotFound):
        read_history(tmp_path / "history.csv", KEY_BYTES)
    with pytest.raises(StorageError):
        read_history(tmp_path, KEY_BYTES)
    with pytest.raises(StorageError):
        History(tmp_path, KEY_BYTES)


def test_ties_go_to_lower_loss_then_to_the_earlier(tmp_path):
    record = record_in(tmp_path)
    record._score = lambda metrics: 1.0
    record.evaluate(random_masks(30))
    least = min(row.metrics.loss for row in record.history.rows)
    best = best_of(record.history.rows)
    assert best.metrics.loss == least
    assert best.index == min(row.index for row in record.history.rows if row.metrics.loss == least)
