"""What a pool may consist of, and what ours does."""

from pathlib import Path

import pytest

from ads_gym.errors import AdsGymError, DamagedFile, InvalidValue
from ads_gym.pools.definition import POOL, Member, Pool, Role
from ads_gym.topology import Topology

OURS = Path(__file__).parents[2] / "examples/transfer/pool.json"
FIELDS = {"name": "one", "role": "training", "blocks": (3, 2), "growth": 4, "writers": (0, 1), "classes": (0, 1, 2)}


def test_held_out_supernets_share_no_shape_seed_or_writer_with_others():
    pool = POOL.read(OURS)
    seen, held_out = (*pool.of(Role.TRAINING), *pool.of(Role.VALIDATION)), pool.of(Role.HELD_OUT)
    assert (len(pool.of(Role.TRAINING)), len(pool.of(Role.VALIDATION)), len(held_out)) == (40, 8, 16)
    for what in ("blocks", "seed"):
        assert not {getattr(each, what) for each in seen} & {getattr(each, what) for each in held_out}
    assert not {writer for each in seen for writer in each.writers} & {w for each in held_out for w in each.writers}
    classes = {digit for each in seen for digit in each.classes}
    assert all(set(each.classes) - classes for each in held_out)  # each has digits that no other supernet saw
    assert {Topology(each.blocks).size for each in pool.members} <= set(range(9, 17))


def test_it_is_read_as_it_was_written():
    pool = Pool((Member(**FIELDS), Member(**FIELDS | {"name": "two", "bottleneck": True})))
    assert POOL.parse(POOL.text(pool), "here") == pool
    assert pool.members[0].config.classes == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"blocks": (12,)}, "66 skip connections, and a table holds networks of at most 20"),
        ({"writers": (1, 0)}, "writers of supernet 'one' ascend"),
        ({"classes": (0, 0, 1)}, "classes of supernet 'one' ascend"),
        ({"role": "test"}, "role of a supernet"),
        ({"name": "../elsewhere"}, "name"),
        ({"writers": (14,)}, "writers"),
    ],
)
def test_what_is_wrong_is_told(change, says):
    with pytest.raises(AdsGymError, match=says):
        Member(**FIELDS | change)


def test_names_are_their_own():
    with pytest.raises(InvalidValue, match="2 are called 'one'"):
        Pool((Member(**FIELDS), Member(**FIELDS)))
    with pytest.raises(DamagedFile, match="members"):
        POOL.parse('{"format": "ads-gym pool", "version": 1, "members": []}', "here")
