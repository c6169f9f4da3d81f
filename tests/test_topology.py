import itertools

import numpy as np
import pytest

from ads_gym.errors import InvalidValue, UnknownName
from ads_gym.topology import Connection, Scope, Topology


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope.LAYERS, [(0, 3, 0), (0, 3, 1), (0, 2, 0), (1, 2, 0)]),
        (
            Scope.ALL,
            [(0, 3, 0), (0, 3, 1), (0, 2, 0), (0, 4, 0), (0, 4, 1), (0, 4, 2), (1, 2, 0), (1, 3, 0), (1, 3, 1)],
        ),
    ],
)
def test_connections_are_all_skips_in_order(scope, expected):
    topology = Topology((3, 2), scope)
    assert list(topology) == [Connection(*row) for row in sorted(expected)]
    assert topology.size == len(expected) and topology.nodes == 5
    groups = [[tuple(row[:2]) for row in topology.connections[span]] for span in topology.destinations]
    assert all(len(set(group)) == 1 for group in groups)
    assert [head for group in groups for head in group] == [tuple(row[:2]) for row in sorted(expected)]
    assert len({group[0] for group in groups}) == len(groups)


@pytest.mark.parametrize(("blocks", "scope", "size"), [((12,) * 3, "layers", 198), ((12,) * 3, "all", 234)])
def test_sizes_of_densenet_40(blocks, scope, size):
    assert Topology(blocks, scope).size == size


@pytest.mark.parametrize("scope", Scope)
def test_adjacency_says_what_each_connection_is(scope):
    topology = Topology((3, 2), scope)
    decisions = np.random.default_rng(0).integers(-1, 2, topology.size).astype(np.int8)
    matrix, bits = topology.adjacency(decisions), dict(zip(topology, decisions, strict=True))
    for block, dst, src in itertools.product(range(2), range(5), range(5)):
        layers = topology.blocks[block]
        exists = 0 < dst <= layers + 1 and src < dst
        expected = bits.get(Connection(block, dst, src), 1 if exists else 0)
        assert matrix[block, dst, src] == expected
    assert np.array_equal(topology.decisions(matrix), decisions)
    many = np.stack([decisions, decisions * 0, decisions * 0 + 1])
    assert np.array_equal(topology.decisions(topology.adjacency(many)), many)
    matrix[0, 1, 0] = 0
    with pytest.raises(InvalidValue, match="chain"):
        topology.decisions(matrix)
    with pytest.raises(InvalidValue, match="shape"):
        topology.decisions(matrix[:, :4])


def test_keys_are_masks_and_no_two_masks_share_one():
    topology = Topology((3, 2))
    masks = [np.array(bits) for bits in itertools.product([False, True], repeat=topology.size)]
    assert all(np.array_equal(topology.mask(topology.key(mask)), mask) for mask in masks)
    assert len({topology.key(mask) for mask in masks}) == len(masks)


@pytest.mark.parametrize(
    "bad", [[True], np.ones((2, 5)), np.full(4, 2), ["a"] * 4, np.full(4, np.nan), True, [0, 1, 0, -1]]
)
def test_what_is_no_mask_is_told(bad):
    with pytest.raises(InvalidValue, match="mask"):
        Topology((3, 2)).check_masks(bad)


@pytest.mark.parametrize("bad", [[1], np.full(4, 2), np.ones(4, bool), np.ones(4), -1])
def test_what_are_no_decisions_is_told(bad):
    with pytest.raises(InvalidValue, match="decisions"):
        Topology((3, 2)).check_decisions(bad)


def test_topologies_without_a_choice_are_told():
    for blocks in ((), (0,), (1, 1)):
        with pytest.raises(InvalidValue, match="block"):
            Topology(blocks)
    with pytest.raises(UnknownName, match="'layers'"):
        Topology((3,), "layer")
