"""Vectorised episodes: bit-identical to `Episode`, without a Python loop over episodes.

Shapes: n episodes, E skip connections, S slots (the bits of one action), G steps that an episode has at most. Index E
stands for "none": every table has an entry for it that costs nothing and that nobody reads. numpy only.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ads_gym.envs.episode import Rules
from ads_gym.topology import UNDECIDED, BoolArray, Int8Array, IntArray


class StepResults(NamedTuple):
    """Results of one action in each episode."""

    decided: IntArray  # int64[n, S]: index of what each slot decided, E: nothing
    executed: Int8Array  # int8[n, S]: 1 kept, 0 dropped, -1 nothing decided in this slot
    overruled: IntArray  # int64[n]: KEEPs that became DROP
    spent: IntArray  # int64[n]: MACs, as in `StepResult`


class Episodes:
    """Several episodes; those that are over stay as they are.

    Args:
        rules: of all episodes.
        count: n.

    Attributes:
        index: int64[n, S], what the next action decides: index among the E, or E for nothing.
        first: int64[n], the first of them.
        over: bool[n], where nothing is left to decide.
        decided, macs, undecided_macs, next_macs: int64[n], as in `Episode` and its `next_step`.
    """

    def __init__(self, rules: Rules, count: int) -> None:
        self.rules = rules
        self._size = size = rules.topology.size
        self._steps = np.full((len(rules.groups) + 1, rules.slots), size)  # [G + 1, S]; the last: the end
        for step, group in enumerate(rules.groups):
            for slot, index in group:
                self._steps[step, slot] = index
        self._costs = np.append(rules.cost.connection_macs, 0)
        self._only_drop = np.tile(np.array([1, 0], np.int8), (count, rules.slots))
        self._cells = np.full((count, size + 1), UNDECIDED, np.int8)
        self._cell_rows = np.arange(count)[:, None] * (size + 1)  # where each row of the raveled cells begins
        self._following = np.empty((count, len(self._steps) + 1), np.int64)  # the first step from this one on
        self._following_rows = np.arange(count) * self._following.shape[1]
        self._at = np.zeros(count, np.int64)
        self.macs, self.decided, self.undecided_macs = (np.zeros(count, np.int64) for _ in range(3))
        self._paid = np.zeros(count, np.int64)
        self.reset(np.arange(count), None)

    @property
    def decisions(self) -> Int8Array:
        """int8[n, E]: 1 kept, 0 dropped, -1 undecided; a view, so copy it to keep it."""
        return self._cells[:, : self._size]

    def reset(self, rows: IntArray, given: Int8Array | None) -> None:
        """Restart episodes `rows` [k], from decisions int8[k, E] (see `Rules.check_initial_rows`) or from none."""
        end, size = len(self._steps) - 1, self._size
        free = np.zeros((len(rows), size + 1), np.bool_)
        free[:, :size] = True if given is None else given == UNDECIDED
        self._cells[rows] = UNDECIDED
        if given is not None:
            self._cells[rows, :size] = given
        self.macs[rows] = self.rules.least_macs + (self._cells[rows] == 1) @ self._costs
        self._paid[rows] = self.rules.least_macs
        self.undecided_macs[rows] = free @ self._costs
        self.decided[rows] = size - free.sum(axis=1)
        steps = np.where(free[:, self._steps[:end]].any(axis=2), np.arange(end), end)
        self._following[rows, end:] = end
        self._following[rows, :end] = np.minimum.accumulate(steps[:, ::-1], axis=1)[:, ::-1]
        self._at[rows] = self._following[rows, 0]
        self._find_next()

    def apply(self, bits: NDArray[Any]) -> StepResults:
        """Apply bits [n, S] (0 drop, 1 keep); those of an episode one after another."""
        index, costs = self.index, self._next_costs
        kept = (bits != 0) & self._free
        spending = _total(kept * costs)
        if (self.macs + spending > self.rules.limit).any():
            kept = self._fitting(kept)
            spending = _total(kept * costs)
        executed = kept.view(np.int8) | self._nothing
        self._cells.reshape(-1)[self._cell_rows + index] = executed
        self.macs += spending
        spent = self.macs - self._paid
        self._paid = self.macs.copy()
        self.decided += _total(self._free)
        self.undecided_macs -= self.next_macs
        overruled = np.where(self.over, 0, _total(bits) - _total(kept))
        self._at = self._following.reshape(-1)[self._following_rows + self._at + 1]
        self._find_next()
        return StepResults(index, executed, overruled, spent)

    def action_mask(self) -> Int8Array:
        """Return int8[n, 2S], as `Episode.action_mask` does."""
        mask = self._only_drop.copy()
        mask[:, 1::2] = self._free & (self._next_costs <= (self.rules.limit - self.macs)[:, None])
        return mask

    def _find_next(self) -> None:
        """Find what the next action decides. A given bit shares a step with free ones only where a step has several."""
        index = self._steps[self._at]
        if self.rules.slots > 1:
            index = np.where(self._cells.reshape(-1)[self._cell_rows + index] == UNDECIDED, index, self._size)
        self.index, self.first = index, index[:, 0] if self.rules.slots == 1 else index.min(axis=1)
        self._free = index < self._size
        self._nothing = self._free.view(np.int8) - np.int8(1)  # -1 where no connection is decided
        self._next_costs = self._costs[index]
        self.next_macs = _total(self._next_costs)
        self.over = self._at == len(self._steps) - 1

    def _fitting(self, kept: BoolArray) -> BoolArray:
        """Return bool[n, S]: the KEEPs that fit the limit, each after those before it."""
        room, fitting = self.rules.limit - self.macs, np.empty_like(kept)
        for slot in range(kept.shape[1]):
            fitting[:, slot] = kept[:, slot] & (self._next_costs[:, slot] <= room)
            room = room - fitting[:, slot] * self._next_costs[:, slot]
        return fitting


def _total(columns: NDArray[Any]) -> IntArray:
    """int64[n]: sums of [n, S]."""
    return np.asarray(columns[:, 0] if columns.shape[1] == 1 else columns.sum(axis=1), np.int64)
