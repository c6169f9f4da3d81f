"""The sections of the speed benchmark that play, in small: they run, and name their rivals."""

import importlib
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "rivals"),
    [
        ("vector", ["SyncVectorEnv", "AsyncVectorEnv", "CartPole-v1"]),
        ("agent", ["RecurrentPPO, its defaults: LSTMs of 256, 10 epochs", "RecurrentPPO, as ours: LSTMs of 32, 4"]),
    ],
)
def test_a_section_measures(name, rivals, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    rows = importlib.import_module(f"speed.{name}").measure(small=True)
    for row, rival in zip(rows, rivals, strict=True):
        assert row.rival.startswith(rival)
        assert len(row.ours_seconds) == len(row.rival_seconds) == 2
        assert np.isfinite(row.ratios).all() and row.ratio > 0
        assert row.line().count("|") == 6
    assert rows[0].ratio > 1  # at any size
