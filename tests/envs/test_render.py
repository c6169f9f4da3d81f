"""Pictures show what is decided, in text and in pixels."""

import numpy as np
import pytest

from ads_gym.envs.render import LEGEND, PALETTE, Cell, ansi, cells, progress, rgb_array
from ads_gym.errors import InvalidValue
from ads_gym.topology import Scope, Topology

TOPOLOGY = Topology((3, 2), Scope.LAYERS)  # skip connections: 2<-0, 3<-0, 3<-1 and 2<-0


def test_a_text_picture_word_for_word():
    picture = ansi(TOPOLOGY, [1, 0, -1, -1], [2], "relative MACs 0.5")
    assert picture.splitlines() == [
        "block 1    block 2",
        "  1 =        1 =",
        "  2 #=       2 ?=",
        "  3 .@=    out ===",
        "out ====",
        "",
        LEGEND,
        "decided 2 of 4, kept 1; next: block 1, layer 3 reads 1",
        "relative MACs 0.5",
    ]


def test_progress_names_what_comes_next():
    whole = Topology((3, 2), Scope.ALL)
    nothing = np.full(whole.size, -1)
    assert progress(whole, nothing, [3, 4]).endswith("next: block 1, output reads 0, 1")
    assert progress(whole, nothing, range(whole.size)).endswith("next: 9 connections from block 1, layer 2 on")
    assert progress(whole, whole.dense()) == "decided 9 of 9, kept 9"


def test_a_mask_is_drawn_as_the_decisions_that_it_is():
    mask = np.array([True, False, True, False])
    assert ansi(TOPOLOGY, mask) == ansi(TOPOLOGY, mask.astype(np.int8))
    assert "?" not in ansi(TOPOLOGY, mask).replace(LEGEND, "")


@pytest.mark.parametrize("scope", list(Scope))
def test_every_connection_has_its_cell(scope):
    topology = Topology((4, 1, 3), scope)
    decisions = np.random.default_rng(0).integers(-1, 2, topology.size)
    blocks = cells(topology, decisions, [1])
    states = {-1: Cell.UNDECIDED, 0: Cell.DROPPED, 1: Cell.KEPT}
    for index, (block, dst, src) in enumerate(topology):
        assert blocks[block][dst - 1, src] == (Cell.NEXT if index == 1 else states[int(decisions[index])])
    for block, layers in zip(blocks, topology.blocks, strict=True):
        assert block.shape == (layers + 1, layers + 1)
        assert (np.diag(block) == Cell.FIXED).all()
        assert (block[np.triu_indices(layers + 1, 1)] == Cell.NONE).all()
        assert (block[-1] == Cell.FIXED).all() == (scope is Scope.LAYERS)


def test_wide_networks_are_wrapped():
    topology = Topology((6, 12, 48, 32))
    lines = ansi(topology, topology.dense()).splitlines()
    assert max(map(len, lines)) <= 120
    assert sum("block" in line for line in lines) == 2


def test_pixels_have_the_colour_of_their_cell():
    decisions, size = [1, 0, -1, -1], 10
    picture = rgb_array(TOPOLOGY, decisions, [2], cell=size)
    assert picture.dtype == np.uint8
    assert picture.shape == (6 * size, 10 * size, 3)
    assert len({tuple(colour) for colour in PALETTE.tolist()}) == len(Cell)
    left = 1
    for block in cells(TOPOLOGY, decisions, [2]):
        for (row, column), cell in np.ndenumerate(block):
            inside = picture[
                (row + 1) * size : (row + 2) * size - 1, (left + column) * size : (left + column + 1) * size - 1
            ]
            assert (inside == PALETTE[cell]).all()
        left += len(block) + 1


def test_the_default_picture_has_even_sides():
    for blocks in [(2,), (3, 3), (6, 5, 4)]:
        height, width, _ = rgb_array(Topology(blocks), Topology(blocks).chain()).shape
        assert (height % 2, width % 2) == (0, 0)


def test_decisions_of_another_network_are_refused():
    for draw in (ansi, rgb_array):
        with pytest.raises(InvalidValue, match="4 entries"):
            draw(TOPOLOGY, np.zeros(7, np.int8))
