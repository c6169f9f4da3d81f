"""The sections of the speed benchmark about evaluation and search, in small: rivals compute what ours does."""

import importlib
import time
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def section(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return lambda name: importlib.import_module(f"speed.{name}")


def test_rivals_come_to_our_metrics(section):
    evaluator = section("evaluator")
    network, ours, repaired, images = evaluator.problem(evaluator.SMALL["a small network"])
    masks = np.random.default_rng(0).random((3, ours.topology.size)) < 0.5
    expected = [[metrics.accuracy, metrics.soft_accuracy, metrics.loss] for metrics in ours.evaluate(masks)]
    assert len({loss for *_, loss in expected}) == 3
    assert all(mended.loss != loss for mended, (*_, loss) in zip(repaired.evaluate(masks), expected, strict=True))
    for scores in (
        evaluator.masked(network, images, masks, 40),
        evaluator.pruned(network, images, masks),
        evaluator.pruned(network, images, masks, is_plain=True),
    ):
        np.testing.assert_allclose(np.array(scores)[:, 1:], np.array(expected)[:, 1:], rtol=1e-4)
        np.testing.assert_allclose(np.array(scores)[:, 0], np.array(expected)[:, 0], atol=0.011)  # one image


def test_the_evaluator_meets_its_rivals(section):
    rows = section("evaluator").measure(small=True)
    assert [row.what.split(",")[0] for row in rows] == ["4 random masks"] * 5 + ["8 neighbours"] * 6
    assert len({(row.what, row.rival) for row in rows}) == 11 and rows[-2].rival == "ours, one mask at a time"
    assert rows[-1].rival == "ours with repaired weights, 2 at a time"
    for row in rows:
        assert len(row.ours_seconds) == len(row.rival_seconds) == 2 and row.unit == "masks"
        assert row.work == int(row.what.split()[0]) and row.rival_work == 2
        assert np.isfinite(row.ratios).all() and row.ratio > 0


def test_shares_are_of_the_peak(section):
    rows = section("share").measure(small=True)
    shares, parts = rows[:3], rows[3:]
    assert [share.what.split(",")[0] for share in shares] == ["random", "neighbours", "converging"]
    for share in shares:
        assert 0 < share.done < share.convolution and share.needed > 0
        assert share.line().count("|") == share.HEAD.count("|")
    assert len(parts) == 6 and sum(part.share for part in parts) == pytest.approx(1)
    assert sorted(parts, key=lambda part: -part.seconds) == parts and parts[-1].seconds > 0
    assert ["convolutions" in part.name and "GFLOP/s" in part.name for part in parts].count(True) == 1


def test_growth_has_points_along_every_axis_and_a_picture(section, tmp_path):
    growth = section("growth")
    rows = growth.measure(small=True)
    *points, memory = rows
    assert {point.axis for point in points} == {"masks in a batch", "images, calibration included", "depth"}
    assert all(point.value > 0 and min(point.seconds) > 0 for point in points)
    assert memory.evaluations == [64, 128, 192, 256] and max(memory.held) < 1.1 * min(memory.held)
    assert all(row.line().count("|") == row.HEAD.count("|") for row in rows)
    growth.draw(rows, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_memory_that_grows_is_seen(section):
    before = section("growth").resident(torch.device("cpu"))
    held = torch.ones(1 << 24)
    assert section("growth").resident(torch.device("cpu")) - before > 0.9 * held.nbytes


def test_a_stopwatch_counts_what_is_within_once(section):
    class Work:
        def outer(self):
            self.inner()
            return "done"

        def inner(self):
            time.sleep(0.05)

    stopwatch = section("stopwatch").Stopwatch("rest")
    stopwatch.watch(Work, "outer", "outer")
    stopwatch.watch(Work, "inner", "inner")
    assert Work().outer() == "done"
    stopwatch.lap()
    assert set(stopwatch.seconds) == {"rest", "outer", "inner"}
    assert stopwatch.seconds["inner"] >= 0.05 and stopwatch.seconds["outer"] < 0.04


@pytest.mark.slow
def test_a_search_is_taken_apart(section):
    wall, *parts = section("search").measure(small=True)
    named = {part.name: part.seconds for part in parts}
    assert wall.seconds[0] > 0 and sum(part.share for part in parts) == pytest.approx(1)
    assert {"evaluator", "imports", "pictures", "store", "agent: choosing and learning"} <= set(named)
    assert min(named.values()) >= 0 and named["imports"] > 0.1
