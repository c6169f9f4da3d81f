"""What tests of runs share."""

import shutil
from pathlib import Path

import pytest
from searches import search

from ads_gym.runs import comparison


@pytest.fixture
def few_random_masks(monkeypatch):
    """The closing table has few of them: repairing 30 networks of digits takes seconds."""
    monkeypatch.setattr(comparison, "RANDOM_MASKS", 4)


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """The folder of a run that is over."""
    return search(tmp_path_factory.mktemp("run")).folder


@pytest.fixture
def folder(tmp_path, a_run):
    """A copy of it, where `search(tmp_path)` looks."""
    return Path(shutil.copytree(a_run, tmp_path / "run"))
