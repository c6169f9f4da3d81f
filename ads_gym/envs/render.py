"""Pictures of a topology and what is decided of it: as text, and as pixels. numpy only.

Each block is a triangle of cells: a row for each destination 1..L+1 (the last is the block's output), a column for each
source 0..L (the first is the block's input).
"""

from collections.abc import Collection, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ads_gym.topology import Int8Array, Topology

TEXT_WIDTH = 100  # characters; blocks that do not fit beside each other go below


class Cell(IntEnum):
    """What is known of one pair (destination, source)."""

    NONE = 0  # no such connection
    FIXED = 1  # always kept: the chain, and block outputs in scope "layers"
    DROPPED = 2
    KEPT = 3
    UNDECIDED = 4
    NEXT = 5  # decided next


SYMBOLS = " =.#?@"  # of each Cell
LEGEND = "# kept   . dropped   ? undecided   @ decided next   = always kept"
PALETTE = np.array(
    [
        (255, 255, 255),  # none: white, the background
        (120, 120, 120),  # fixed: grey
        (245, 205, 195),  # dropped: pale red
        (0, 105, 120),  # kept: dark teal
        (220, 225, 235),  # undecided: pale blue-grey
        (255, 165, 0),  # next: orange
    ],
    dtype=np.uint8,
)


def cells(topology: Topology, decisions: Any, up_next: Collection[int] = ()) -> list[Int8Array]:
    """For each block of L layers int8[L+1, L+1], values of `Cell`: row dst-1, column src.

    Args:
        topology: which skip connections there are.
        decisions: [E], a mask or partial decisions (1 kept, 0 dropped, -1 undecided).
        up_next: indices among the E of what is decided next.

    Raises:
        InvalidValue: decisions of another length or type.
    """
    bits = np.asarray(decisions)
    bits = topology.check_decisions(bits.astype(np.int8) if bits.dtype == np.bool_ else bits)
    states = np.array([Cell.DROPPED, Cell.KEPT, Cell.UNDECIDED], np.int8)[bits]  # -1 indexes the last
    states[list(up_next)] = Cell.NEXT
    matrix = np.where(topology.adjacency(topology.chain()) == 1, Cell.FIXED, Cell.NONE).astype(np.int8)
    matrix[tuple(topology.connections.T)] = states
    return [matrix[block, 1 : layers + 2, : layers + 1] for block, layers in enumerate(topology.blocks)]


def ansi(topology: Topology, decisions: Any, up_next: Collection[int] = (), caption: str = "") -> str:
    """A text picture: each block's triangle, a legend, how far it is, then `caption`. Arguments as in `cells`."""
    blocks = [_block_lines(number, block) for number, block in enumerate(cells(topology, decisions, up_next), start=1)]
    lines: list[str] = []
    for row in _rows(blocks):
        height = max(len(block) for block in row)
        padded = [[line.ljust(len(block[0])) for line in block] + [" " * len(block[0])] * height for block in row]
        lines += ["   ".join(parts).rstrip() for parts in list(zip(*padded, strict=False))[:height]] + [""]
    return "\n".join([*lines, LEGEND, progress(topology, decisions, up_next), *([caption] if caption else [])])


def progress(topology: Topology, decisions: Any, up_next: Collection[int] = ()) -> str:
    """One line: how many are decided and kept, and what comes next."""
    bits = np.asarray(decisions, np.int8)
    text = f"decided {np.count_nonzero(bits >= 0)} of {topology.size}, kept {np.count_nonzero(bits == 1)}"
    if not up_next:
        return text
    coming = topology.connections[sorted(up_next)]
    block, dst, _ = coming[0].tolist()
    where = f"block {block + 1}, " + ("output" if dst > topology.blocks[block] else f"layer {dst}")
    if (coming[:, :2] != coming[0, :2]).any():
        return f"{text}; next: {len(coming)} connections from {where} on"
    return f"{text}; next: {where} reads {', '.join(map(str, coming[:, 2].tolist()))}"


def _block_lines(number: int, block: Int8Array) -> list[str]:
    """A heading and a line for each destination, all as wide as the first."""
    names = [*map(str, range(1, len(block))), "out"]
    rows = [f"{name:>3} " + "".join(SYMBOLS[cell] for cell in row) for name, row in zip(names, block, strict=True)]
    return [f"block {number}".ljust(len(rows[0])), *rows]


def _rows(blocks: Sequence[list[str]]) -> list[list[list[str]]]:
    """Blocks in rows no wider than TEXT_WIDTH."""
    rows: list[list[list[str]]] = [[]]
    for block in blocks:
        if rows[-1] and sum(len(other[0]) + 3 for other in [*rows[-1], block]) > TEXT_WIDTH + 3:
            rows.append([])
        rows[-1].append(block)
    return rows


def rgb_array(topology: Topology, decisions: Any, up_next: Collection[int] = (), cell: int = 12) -> NDArray[np.uint8]:
    """uint8[height, width, 3]: the blocks side by side, in the colours of PALETTE. Arguments as in `cells`.

    Args:
        topology, decisions, up_next: as in `cells`.
        cell: pixels along a cell's side, its one-pixel border included; even, so that video encoders take the picture.
    """
    blocks = cells(topology, decisions, up_next)
    height = max(len(block) for block in blocks) + 2  # in cells, with a margin of one around
    canvas = np.full((height, sum(len(block) + 1 for block in blocks) + 1), Cell.NONE, np.int8)
    left = 1
    for block in blocks:
        canvas[1 : len(block) + 1, left : left + len(block)] = block
        left += len(block) + 1
    pixels = PALETTE[canvas].repeat(cell, axis=0).repeat(cell, axis=1)
    pixels[cell - 1 :: cell] = PALETTE[Cell.NONE]
    pixels[:, cell - 1 :: cell] = PALETTE[Cell.NONE]
    return pixels
