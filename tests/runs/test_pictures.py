import io
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.errors import StorageError
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.problem import make_problem
from ads_gym.runs import progress
from ads_gym.runs.comparison import compare, masks_that_cost
from ads_gym.runs.pictures import (
    accuracy_against_macs,
    adjacency,
    best_so_far,
    draw_pictures,
    pareto_front,
    print_result,
)
from ads_gym.runs.progress import ProgressLine, Scalars
from ads_gym.runs.record import Row, best_of
from ads_gym.runs.recorder import StoppedBy
from ads_gym.runs.result import SearchResult, Stored

CONFIG = DenseNetConfig((6, 6, 6), growth=4)
PLANTED = PlantedEvaluator(CONFIG)
PROBLEM = make_problem(evaluator=PLANTED, cost_weight=0.5)
COST = PROBLEM.cost


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    masks = rng.random((200, 45)) < rng.random((200, 1))
    return [
        Row(index, PLANTED.topology.key(mask), metrics, PROBLEM.objective(metrics), index, 0.1)
        for index, (mask, metrics) in enumerate(zip(masks, PLANTED.evaluate(masks), strict=True), start=1)
    ]


@pytest.fixture
def result(tmp_path, rows):
    best = best_of(rows)
    mask = PLANTED.topology.mask(best.mask)
    table = compare(PROBLEM, mask, seed=0)
    architecture = Architecture(CONFIG, mask)
    return SearchResult(tmp_path, architecture, best.metrics, best.objective, 200, 321, StoppedBy.EVALUATIONS, table)


def printed(result, width=80):
    console = Console(file=io.StringIO(), width=width)
    print_result(result, console)
    return console.file.getvalue()


def test_the_table_shows_every_number_whole_at_80_columns(result, tmp_path):
    (tmp_path / "best.json").touch()
    text = printed(result)
    lines = text.splitlines()
    for line in result.table:
        row = next(text for text in lines if text.split()[:1] == [line.name])
        assert [f"{line.objective:.4f}", f"{line.relative_macs:.3f}", f"{line.parameters:,.0f}"] == [
            row.split()[index] for index in (1, 5, 7)
        ]
    assert "200 evaluations in 321 episodes" in text
    assert f"{tmp_path / 'best.json'}" in text
    assert "history.csv" not in text  # which is not there


@pytest.mark.parametrize(
    ("why", "says"), [(StoppedBy.EPISODES, "20 episodes for each"), (StoppedBy.AGENT, "the agent stopped before")]
)
def test_the_title_says_why_a_run_ended_early(result, why, says):
    assert says in " ".join(printed(replace(result, stopped_by=why), 200).split())


def test_random_masks_cost_what_the_best_costs():
    rng = np.random.default_rng(0)
    for share in (0, 0.1, 0.5, 0.9, 1):
        macs = int(COST.least_macs + share * (COST.dense_macs - COST.least_macs))
        masks = masks_that_cost(COST, macs, 50, rng)
        costs = COST.macs(masks)
        assert costs.max() <= macs
        assert macs - costs.min() < COST.connection_macs.max()
        different = len({mask.tobytes() for mask in masks})
        assert different == 1 if share in (0, 1) else different > 40


def test_the_front_is_what_none_beats(rows):
    points = {(row.metrics.accuracy, -row.metrics.macs) for row in rows}
    front = [(row.metrics.accuracy, -row.metrics.macs) for row in pareto_front(rows)]
    assert len(front) == len(set(front)) > 3
    for point in points:
        beaten = any(other != point and other[0] >= point[0] and other[1] >= point[1] for other in points)
        assert (point in front) == (not beaten)


def test_pictures_show_what_they_say(rows, result):
    axes = best_so_far(rows, result.table).axes[0]
    curve = axes.lines[1].get_ydata()
    assert curve[-1] == result.objective
    assert (np.diff(curve) >= 0).all()
    labels = [text.get_text() for text in accuracy_against_macs(rows, result.table).axes[0].get_legend().get_texts()]
    assert labels == ["each", "front", "dense", "chain", "random", "best objective"]
    dense, best = adjacency(result.architecture).axes
    assert not np.array_equal(dense.images[0].get_array(), best.images[0].get_array())
    assert f"{result.architecture.mask.mean():.0%}" in best.get_title()


def test_pictures_are_written(rows, result, tmp_path):
    draw_pictures(tmp_path / "pictures", rows, result)
    for name in ("best-so-far.png", "accuracy-macs.png", "adjacency.png"):
        picture = imread(tmp_path / "pictures" / name)
        assert picture.shape[0] > 300
        assert picture.std() > 0.05  # not blank
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="pictures"):
        draw_pictures(tmp_path / "file", rows, result)


def test_a_result_reads_back(result):
    stored = Stored("2024-05-06T07:08:09+00:00", 200)
    assert SearchResult.from_record(result.folder, result.to_record(), stored.date) == replace(result, stored=stored)


def test_a_stored_result_says_so_with_date_and_size(result):
    assert "Stored" not in printed(result, 200)
    stored = Stored("2024-05-06T07:08:09+00:00", 200)
    first, *_ = printed(replace(result, stored=stored), 80).splitlines()
    assert first == (
        f"Stored result of 2024-05-06T07:08:09+00:00, 200 evaluations, in {result.folder}. --restart plays it again."
    )
    shorter = printed(replace(result, evaluations=20, stored=stored), 80).splitlines()[0]
    assert "200 evaluations, of which the first 20 are shown" in shorter


def test_tensorboard_reads_the_scalars(rows, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    with Scalars(tmp_path / "tb") as scalars:
        scalars.write(rows[:10], rows[3])
        scalars.write(rows[10:20], rows[12])
    with Scalars(tmp_path / "tb") as scalars:  # the process that goes on
        scalars.write(rows[20:25], rows[12])
    accumulator = EventAccumulator(str(tmp_path / "tb"), {"tensors": 0})  # all of them, no sample
    accumulator.Reload()

    def events(tag):  # files of one second are read in any order
        return sorted(accumulator.Tensors(f"search/{tag}"), key=lambda event: event.step)

    def value(tag, index):
        return float(make_ndarray(events(tag)[index].tensor_proto))

    assert [event.step for event in events("accuracy")] == list(range(1, 26))
    assert value("accuracy", 7) == pytest.approx(rows[7].metrics.accuracy)
    assert value("best/objective", -1) == pytest.approx(rows[12].objective)
    assert value("relative_macs", 0) == pytest.approx(rows[0].metrics.relative_macs)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        Scalars(Path(tmp_path / "file"))


def test_the_progress_line_tells_best_rate_and_time_left(rows, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    with ProgressLine(200, 0) as line:
        time.sleep(0.02)
        line.update(190, rows[5])
        line.update(200, rows[5])
    best = rows[5].metrics
    told = f"best {rows[5].objective:.4f}  accuracy {best.accuracy:.3f}  MACs {best.relative_macs:.3f}"
    lines = [re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", capsys.readouterr().err)]
    assert any(line.startswith(f"{told}  190/200 evaluations  ") and line.rstrip().endswith(" left") for line in lines)
    assert any(re.search(r"200/200 evaluations  [\d.]+/s  0:00 left$", line.rstrip()) for line in lines)


def test_a_run_that_goes_on_is_timed_from_its_first_new_evaluation(rows, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ProgressLine(200, 100) as line:
        line.update(101, rows[5])
        time.sleep(0.2)
        line.update(121, rows[5])
    text = capsys.readouterr().err
    assert "repeating the 100 recorded" in text
    (rate,) = {float(rate) for rate in re.findall(r"([\d.]+)/s", text)}
    assert 20 < rate <= 100


def test_a_search_prints_plain_lines_where_stderr_is_no_terminal(rows, monkeypatch, capsys):
    with ProgressLine(200, 0) as line:
        line.update(150, rows[5])
        assert capsys.readouterr().err == ""  # a quick one says nothing
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.2)
    with ProgressLine(200, 0) as line:
        line.update(10, rows[5])
        time.sleep(0.25)
        line.update(20, rows[5])
        line.update(21, rows[5])
    metrics = rows[5].metrics
    told = f"best {rows[5].objective:.4f}  accuracy {metrics.accuracy:.3f}  MACs {metrics.relative_macs:.3f}"
    (printed,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"{re.escape(told)}  20/200 evaluations  [\d.]+/s  \d+:\d\d left", printed)


def test_the_progress_line_is_silent_where_it_is_not_wanted(rows, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ProgressLine(200, 0, shown=False) as line:
        line.update(200, rows[5])
    assert capsys.readouterr().err == ""
