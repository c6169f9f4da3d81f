"""The section of the speed benchmark about networks, in small: it runs, and compares like with like."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def section(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("speed.network")


def test_it_measures_every_way_against_its_rival(section):
    rows = section.measure(small=True)
    assert len(rows) == 2 * 7 and [row.what.split(":")[0] for row in rows[::7]] == [
        "a small network, batch 64",
        "a small network, batch 1",
    ]
    for row in rows:
        kind, way = row.what.split(": ")[1].split(", ")
        assert row.rival in (f"dense, {way}", f"{kind}, plain") and row.rival != f"{kind}, {way}"
        assert len(row.ours_seconds) == len(row.rival_seconds) == 2 and row.work == row.rival_work
        assert np.isfinite(row.ratios).all() and row.ratio > 0


def test_the_ways_agree_and_the_mask_has_half_the_macs(section):
    for config in (*section.SMALL.values(), *section.CONFIGS.values()):
        dense, half = section.architectures(config).values()
        table = section.CostTable(config)
        assert dense.mask.all()
        assert table.relative_macs(half.mask) == pytest.approx(0.5, abs=0.02 if config.growth > 4 else 0.2)
        ways, images = section.contestants(half), torch.rand(3, *config.image_shape) * 2 - 1
        with torch.no_grad():
            plain = ways["plain"](images)
            for way in ("folded", "not folded"):
                torch.testing.assert_close(ways[way](images), plain, rtol=0, atol=1e-5 * max(1, plain.abs().max()))
