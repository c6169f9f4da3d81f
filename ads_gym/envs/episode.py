"""Transition rules of an episode: what each action decides, what is legal, what it costs. No rewards.

MACs are whole numbers here, so what fits a limit never hangs on rounding. numpy only.
Shapes: E skip connections, S slots (the bits of one action).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from ads_gym.errors import InvalidValue, unknown_name
from ads_gym.nets.cost import CostTable
from ads_gym.topology import UNDECIDED, Int8Array


class Decision(StrEnum):
    """How many skip connections one action decides."""

    CONNECTION = "connection"  # one skip connection
    LAYER = "layer"  # all skip connections into one destination
    NETWORK = "network"  # all skip connections

    @classmethod
    def _missing_(cls, value: object) -> "Decision":
        raise unknown_name("decision", value, list(cls))


class Turn(NamedTuple):
    """The skip connections that one action decides."""

    bits: tuple[tuple[int, int], ...]  # (slot in the action, index among the E) of each free connection, ascending
    macs: int  # MACs added by keeping all of them


class Outcome(NamedTuple):
    """Result of one action."""

    executed: Int8Array  # int8[S]: 1 kept, 0 dropped, -1 nothing decided in this slot
    overruled: int  # KEEPs that became DROP
    spent: int  # MACs of the connections kept by it and, with the first action, of those given


NO_TURN = Turn((), 0)


class Rules:
    """Everything about an episode that no action changes; shared by any number of episodes.

    Attributes:
        cost, topology, decision: as given.
        limit: MACs that no network of an episode exceeds.
        slots: S: 1, the most skip sources of one destination, or E.
        groups: (slot, index among the E) of what each action decides where nothing is given.
    """

    def __init__(self, cost: CostTable, decision: Decision, limit: int | None = None) -> None:
        self.cost = cost
        self.topology = cost.topology
        self.decision = decision
        self.limit = cost.dense_macs if limit is None else limit
        self.least_macs = cost.least_macs
        self.span = cost.dense_macs - cost.least_macs  # what relative cost 1 is in MACs
        self.connection_macs: list[int] = cost.connection_macs.tolist()
        self.groups = self._all_groups()
        self.slots = 1 + max(slot for group in self.groups for slot, _ in group)
        self.nothing_executed = np.full(self.slots, UNDECIDED, np.int8).tobytes()
        self.only_drop = bytes((1, 0)) * self.slots
        self.all_turns = self.turns(np.full(self.topology.size, UNDECIDED, np.int8))

    def _all_groups(self) -> list[list[tuple[int, int]]]:
        size = self.topology.size
        if self.decision is Decision.CONNECTION:
            return [[(0, index)] for index in range(size)]
        if self.decision is Decision.LAYER:  # skip sources of a destination are 0, 1, ...: the slot is the source
            return [[(i - part.start, i) for i in range(part.start, part.stop)] for part in self.topology.destinations]
        return [[(index, index) for index in range(size)]]

    def turns(self, decided: Int8Array) -> tuple[Turn, ...]:
        """Return the turns for the free (-1) entries of `decided` int8[E], and an empty turn for the end."""
        free = decided == UNDECIDED
        groups = [tuple(bit for bit in group if free[bit[1]]) for group in self.groups]
        turns = [Turn(bits, sum(self.connection_macs[index] for _, index in bits)) for bits in groups if bits]
        return (*turns, NO_TURN)

    def check_given(self, decided: Any) -> Int8Array:
        """Return `decided` as int8[E], if an episode can start from it.

        Raises:
            InvalidValue: wrong shape, type or values; nothing left to decide; over the limit.
        """
        given = self.check_given_rows(decided)
        if given.ndim != 1:
            raise InvalidValue(f"'decided' is one row of {self.topology.size} entries, got shape {given.shape}.")
        return given

    def check_given_rows(self, decided: Any) -> Int8Array:
        """Return `decided` as int8[..., E], if an episode can start from each row; raises as `check_given` does."""
        given = self.topology.check_decisions(decided)
        if not (given == UNDECIDED).any(axis=-1).all():
            raise InvalidValue("'decided' leaves nothing to decide: at least one entry must be -1 (free).")
        macs = int(self.cost.macs(given == 1).max(initial=0))
        if macs > self.limit:
            raise InvalidValue(
                f"the connections kept in 'decided' need {macs:,} MACs and the limit is {self.limit:,}: "
                "keep fewer, or raise max_macs."
            )
        return given


class Episode:
    """One episode: the skip connections are decided in order.

    Args:
        rules: of the episode.
        given: int8[E] from `Rules.check_given`, decisions that are made beforehand; None for none.

    Attributes:
        decisions: int8[E], 1 kept, 0 dropped, -1 undecided; changes with every action, so copy it to keep it.
        decided: how many of the E are decided.
        macs: MACs of the chain and of what is kept so far, given bits included.
        undecided_macs: MACs added by keeping everything that is undecided.
        turn: the connections that the next action decides; empty when the episode is over.
    """

    def __init__(self, rules: Rules, given: Int8Array | None = None) -> None:
        self.rules = rules
        size = rules.topology.size
        if given is None:
            self.decisions = np.full(size, UNDECIDED, np.int8)
            self._turns = rules.all_turns
            self.macs = rules.least_macs
        else:
            self.decisions = given.copy()
            self._turns = rules.turns(given)
            self.macs = int(rules.cost.macs(given == 1))
        self.undecided_macs = sum(turn.macs for turn in self._turns)
        self.decided = size - sum(len(turn.bits) for turn in self._turns)
        self._paid = rules.least_macs
        self._played = 0
        self.turn = self._turns[0]

    def apply(self, bits: Sequence[int]) -> Outcome:
        """Apply S bits (0 drop, 1 keep) one after another; each uses up the limit for those after it."""
        limit, costs, decisions = self.rules.limit, self.rules.connection_macs, self.decisions
        executed = bytearray(self.rules.nothing_executed)
        macs, kept = self.macs, 0
        for slot, index in self.turn.bits:
            if bits[slot] and macs + costs[index] <= limit:
                macs += costs[index]
                kept += 1
                executed[slot] = decisions[index] = 1
            else:
                executed[slot] = decisions[index] = 0
        outcome = Outcome(np.frombuffer(executed, np.int8), sum(bits) - kept, macs - self._paid)
        self.macs = self._paid = macs
        self.decided += len(self.turn.bits)
        self.undecided_macs -= self.turn.macs
        self._played += 1
        self.turn = self._turns[self._played]
        return outcome

    def action_mask(self) -> Int8Array:
        """Return int8[2S], drop0, keep0, drop1, ...: 1 is legal. KEEP is where a connection is decided and fits."""
        mask = bytearray(self.rules.only_drop)
        left, costs = self.rules.limit - self.macs, self.rules.connection_macs
        for slot, index in self.turn.bits:
            if costs[index] <= left:
                mask[2 * slot + 1] = 1
        return np.frombuffer(mask, np.int8)
