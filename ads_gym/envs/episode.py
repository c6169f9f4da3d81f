"""Transition rules of an episode: what each action decides, what is legal, what it costs. No rewards.

MACs are whole numbers here, so what fits a limit never hangs on rounding. numpy only.
Shapes: E skip connections, S slots (the bits of one action).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ads_gym.choices import Choice
from ads_gym.errors import InvalidValue
from ads_gym.nets.cost import CostTable
from ads_gym.topology import UNDECIDED, Int8Array


class Decision(Choice, what="decision"):
    """How many skip connections one action decides."""

    CONNECTION = "connection"  # one skip connection
    LAYER = "layer"  # all skip connections into one destination
    NETWORK = "network"  # all skip connections


class Step(NamedTuple):
    """The skip connections that one action decides."""

    bits: tuple[tuple[int, int], ...]  # (slot in the action, index among the E) of each free connection, ascending
    macs: int  # MACs added by keeping all of them


class StepResult(NamedTuple):
    """Result of one action."""

    executed: Int8Array  # int8[S]: 1 kept, 0 dropped, -1 nothing decided in this slot
    overruled: int  # KEEPs that became DROP
    spent: int  # MACs of the connections kept by it and, with the first action, of those given


NO_STEP = Step((), 0)


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
        self.skip_macs = cost.dense_macs - cost.least_macs  # what relative cost 1 is in MACs
        self.connection_macs: list[int] = cost.connection_macs.tolist()
        self.groups = self._all_groups()
        self.slots = 1 + max(slot for group in self.groups for slot, _ in group)
        self.nothing_executed = np.full(self.slots, UNDECIDED, np.int8).tobytes()
        self.only_drop = bytes((1, 0)) * self.slots
        self.all_steps = self.steps(np.full(self.topology.size, UNDECIDED, np.int8))

    def _all_groups(self) -> list[list[tuple[int, int]]]:
        size = self.topology.size
        if self.decision is Decision.CONNECTION:
            return [[(0, index)] for index in range(size)]
        if self.decision is Decision.LAYER:  # skip sources of a destination are 0, 1, ...: the slot is the source
            return [[(i - part.start, i) for i in range(part.start, part.stop)] for part in self.topology.destinations]
        return [[(index, index) for index in range(size)]]

    def steps(self, decided: Int8Array) -> tuple[Step, ...]:
        """Return the steps for the free (-1) entries of `decided` int8[E], and an empty one for the end."""
        free = decided == UNDECIDED
        groups = [tuple(bit for bit in group if free[bit[1]]) for group in self.groups]
        steps = [Step(bits, sum(self.connection_macs[index] for _, index in bits)) for bits in groups if bits]
        return (*steps, NO_STEP)

    def check_initial(self, decided: Any) -> Int8Array:
        """Return `decided` as int8[E], if an episode can start from it.

        Raises:
            InvalidValue: wrong shape, type or values; nothing left to decide; over the limit.
        """
        given = self.check_initial_rows(decided)
        if given.ndim != 1:
            raise InvalidValue(f"'decided' is one row of {self.topology.size} entries, got shape {given.shape}.")
        return given

    def check_initial_rows(self, decided: Any) -> Int8Array:
        """Return `decided` as int8[..., E], if an episode can start from each row; raises as `check_initial` does."""
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
        given: int8[E] from `Rules.check_initial`, decisions that are made beforehand; None for none.

    Attributes:
        decisions: int8[E], 1 kept, 0 dropped, -1 undecided; changes with every action, so copy it to keep it.
        decided: how many of the E are decided.
        macs: MACs of the chain and of what is kept so far, given bits included.
        undecided_macs: MACs added by keeping everything that is undecided.
        next_step: the connections that the next action decides; empty when the episode is over.
    """

    def __init__(self, rules: Rules, given: Int8Array | None = None) -> None:
        self.rules = rules
        size = rules.topology.size
        if given is None:
            self.decisions = np.full(size, UNDECIDED, np.int8)
            self._steps = rules.all_steps
            self.macs = rules.least_macs
        else:
            self.decisions = given.copy()
            self._steps = rules.steps(given)
            self.macs = int(rules.cost.macs(given == 1))
        self.undecided_macs = sum(step.macs for step in self._steps)
        self.decided = size - sum(len(step.bits) for step in self._steps)
        self._paid = rules.least_macs
        self._at = 0
        self.next_step = self._steps[0]

    def apply(self, bits: Sequence[int]) -> StepResult:
        """Apply S bits (0 drop, 1 keep) one after another; each uses up the limit for those after it."""
        limit, costs, decisions = self.rules.limit, self.rules.connection_macs, self.decisions
        executed = bytearray(self.rules.nothing_executed)
        macs, kept = self.macs, 0
        for slot, index in self.next_step.bits:
            if bits[slot] and macs + costs[index] <= limit:
                macs += costs[index]
                kept += 1
                executed[slot] = decisions[index] = 1
            else:
                executed[slot] = decisions[index] = 0
        result = StepResult(np.frombuffer(executed, np.int8), sum(bits) - kept, macs - self._paid)
        self.macs = self._paid = macs
        self.decided += len(self.next_step.bits)
        self.undecided_macs -= self.next_step.macs
        self._at += 1
        self.next_step = self._steps[self._at]
        return result

    def action_mask(self) -> Int8Array:
        """Return int8[2S], drop0, keep0, drop1, ...: 1 is legal. KEEP is where a connection is decided and fits."""
        mask = bytearray(self.rules.only_drop)
        left, costs = self.rules.limit - self.macs, self.rules.connection_macs
        for slot, index in self.next_step.bits:
            if costs[index] <= left:
                mask[2 * slot + 1] = 1
        return np.frombuffer(mask, np.int8)
