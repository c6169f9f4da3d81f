"""Runs that reports are made of."""

import shutil

import pytest

import ads_gym
from ads_gym.runs import comparison


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs on digits, with either weights, and on a planted task."""
    place = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "RANDOM_MASKS", 4)
        patch.chdir(place)
        quiet = {"progress": False, "device": "cpu"}
        ads_gym.search("digits", "random", 12, run="digits", weights="inherited", **quiet)
        ads_gym.search("digits", "random", 3, run="repaired", weights="repaired", max_macs=0.7, seed=5, **quiet)
        ads_gym.search("planted-20", "random", 30, run="planted", scope="all", progress=False)
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of them, as the current folder."""
    shutil.copytree(made, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"
