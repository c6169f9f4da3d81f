import json

import numpy as np
import pytest

from ads_gym.architecture import Architecture, DenseNetConfig, Stem
from ads_gym.errors import DamagedFile, InvalidValue, NotFound, UnknownName
from ads_gym.topology import Scope

CONFIG = DenseNetConfig((3, 2), 4, 6, Stem.CONV3_STRIDE2, True, 0.5, (1, 20, 14), 7)


def test_geometry_by_hand():
    first, last = CONFIG.geometry
    assert first == (3, 6, 9, 10, 7)  # (6 + 3 * 4) * 0.5 = 9; 20x14 halved by the stem
    assert last == (2, 9, 7, 5, 3)
    assert [CONFIG.source_channels(1, src) for src in range(3)] == [9, 4, 4]
    assert DenseNetConfig((2,), stem="conv7-pool", image_shape=(3, 65, 64)).geometry[0][3:] == (17, 16)


@pytest.mark.parametrize("scope", Scope)
def test_json_round_trip(scope, tmp_path):
    size = Architecture(CONFIG, np.ones(4 if scope is Scope.LAYERS else 9, bool), scope).topology.size
    mask = np.random.default_rng(0).random(size) < 0.5
    architecture = Architecture(CONFIG, mask, scope)
    (tmp_path / "a.json").write_text(architecture.to_json())
    again = Architecture.read(tmp_path / "a.json")
    assert again == architecture and hash(again) == hash(architecture)
    assert np.array_equal(again.mask, mask) and again.config == CONFIG
    assert again != Architecture(CONFIG, ~mask, scope)


def test_an_architecture_does_not_change_under_ones_hands():
    mask = np.zeros(4, bool)
    architecture = Architecture(CONFIG, mask)
    mask[0] = True
    assert not architecture.mask.any()
    with pytest.raises(ValueError, match="read-only"):
        architecture.mask[0] = True


@pytest.mark.parametrize(
    "values",
    [
        {"blocks": ()},
        {"blocks": (0,)},
        {"growth": 0},
        {"growth": 1.5},
        {"stem_channels": True},
        {"compression": 0.0},
        {"compression": 1.1},
        {"compression": float("nan")},
        {"classes": 1},
        {"image_shape": (0, 8, 8)},
        {"image_shape": (1, 3, 3)},
    ],
)
def test_configs_out_of_range_are_told(values):
    with pytest.raises(InvalidValue):
        DenseNetConfig(**{"blocks": (2, 2, 2), "image_shape": (1, 8, 8)} | values)


def test_an_unknown_stem_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'conv3'"):
        DenseNetConfig((2, 2), stem="conv33")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"},
        {"version": 2},
        {"scope": "layer"},
        {"scope": None},
        {"mask": "0"},
        {"mask": "01x0"},
        {"mask": None},
        {"config": None},
        {"config": {}},
    ],
)
def test_foreign_json_is_told(change):
    with pytest.raises(DamagedFile):
        Architecture.from_json(json.dumps(json.loads(Architecture(CONFIG, [True] * 4).to_json()) | change))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_what_is_no_json_object_is_told(text):
    with pytest.raises(DamagedFile):
        Architecture.from_json(text)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(NotFound, match=r"none\.json"):
        Architecture.read(tmp_path / "none.json")
