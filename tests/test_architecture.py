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
    assert CONFIG.source_widths[4:] == ((9,), (9, 4), (9, 4, 4)) and CONFIG.node_widths == ((6, 4, 4, 4), (9, 4, 4))
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


READS = ((2,), (6, 1), (0, 3, 4), (6, 0, 0, 4), (9,), (0, 4), (3, 0, 1))  # of CONFIG's destinations


@pytest.mark.parametrize("scope", Scope)
def test_channels_that_are_read(scope):
    architecture = Architecture.reading(CONFIG, READS, scope)
    # Connections are kept where channels are read: into layers, then (in scope "all") into the blocks' outputs.
    kept = {Scope.LAYERS: [1, 0, 1, 0], Scope.ALL: [1, 0, 1, 1, 0, 0, 0, 1, 0]}[scope]
    assert architecture.mask.astype(int).tolist() == kept
    assert architecture.channels == architecture.reads == READS
    assert architecture.node_widths == ((6, 3, 4, 4), (9, 4, 1))  # what somebody reads
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture and again.reads == READS and hash(again) == hash(architecture)
    assert architecture.dense.reads is None and architecture != Architecture(CONFIG, architecture.mask, scope)


def test_whole_nodes_are_read_as_the_mask_says():
    architecture = Architecture(CONFIG, [True, False, True, False])
    assert architecture.channels == ((6,), (6, 4), (0, 4, 4), (6, 4, 4, 4), (9,), (0, 4), (9, 4, 4))
    assert architecture.node_widths == ((6, 4, 4, 4), (9, 4, 4))
    assert architecture.reads is None
    assert Architecture.reading(CONFIG, architecture.channels).mask.tolist() == architecture.mask.tolist()
    assert Architecture.reading(CONFIG, CONFIG.source_widths) == architecture.dense  # all channels are whole nodes


@pytest.mark.parametrize(
    "reads",
    [
        READS[:-1],
        (*READS[:-1], (3, 0, 0)),  # nothing of the node before
        (*READS[:-1], (10, 0, 1)),
        (*READS[:-1], (3, 1)),
        (*READS[:-1], (3, -1, 1)),
        ((2.5,), *READS[1:]),
        (2, *READS[1:]),
        7,
    ],
)
def test_channels_that_cannot_be_read_are_told(reads):
    with pytest.raises(InvalidValue, match="reads"):
        Architecture.reading(CONFIG, reads)
    with pytest.raises(InvalidValue, match="reads"):
        Architecture(CONFIG, np.ones(4, bool), reads=reads)


def test_a_mask_and_channels_of_two_networks_are_told():
    with pytest.raises(InvalidValue, match="of two networks"):
        Architecture(CONFIG, np.ones(4, bool), reads=READS)
    text = Architecture.reading(CONFIG, READS).to_json()
    with pytest.raises(DamagedFile, match="of two networks"):
        Architecture.from_json(text.replace('"1010"', '"1011"'))


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
