"""Supernets of a pool: their images, their tables, and what is made only once."""

from dataclasses import replace

import numpy as np
import pytest

from ads_gym.errors import InvalidValue, NotFound
from ads_gym.evaluators.base import Weights
from ads_gym.pools.definition import Member
from ads_gym.pools.making import make_member, read_member

MEMBER = Member("one", "training", (3, 2), 3, (0, 1, 6, 12), (2, 5, 7, 8, 9), stem_channels=4, epochs=1)


def test_a_supernet_is_made_once(tmp_path):
    with pytest.raises(NotFound):
        read_member(MEMBER, tmp_path)
    task = make_member(MEMBER, tmp_path, [Weights.INHERITED], device="cpu")
    assert set(task.tabulated) == {Weights.INHERITED} and len(task.tabulated[Weights.INHERITED]["loss"]) == 16
    data = np.load(tmp_path / "images/one.npz")
    assert data["images"].shape[1:] == (8, 8) and set(data["labels"]) == set(range(5))
    written = (task.folder / "supernet.safetensors").stat().st_mtime_ns
    both = make_member(MEMBER, tmp_path, device="cpu")
    assert set(both.tabulated) == set(Weights) and read_member(MEMBER, tmp_path) == both
    assert (task.folder / "supernet.safetensors").stat().st_mtime_ns == written
    with pytest.raises(InvalidValue, match="another than the pool says"):
        read_member(replace(MEMBER, growth=4), tmp_path)


def test_too_few_images(tmp_path):
    with pytest.raises(InvalidValue, match="200 are the fewest"):
        make_member(replace(MEMBER, writers=(3,)), tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 9}, "another than the pool says"),
        ({"epochs": 2}, "another than the pool says"),
        ({"writers": (0, 1, 6, 11)}, "other images than the pool says"),
    ],
)
def test_a_supernet_of_other_data_or_training_is_none_of_the_pools(made, change, says):
    assert read_member(MEMBER, made)
    with pytest.raises(InvalidValue, match=says):
        read_member(replace(MEMBER, **change), made)
    if "images" in says:
        with pytest.raises(InvalidValue, match=says):
            make_member(replace(MEMBER, **change), made)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    make_member(MEMBER, folder, [Weights.INHERITED], device="cpu")
    return folder
