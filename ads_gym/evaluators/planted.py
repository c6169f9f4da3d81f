"""Planted evaluator: accuracy is agreement with a hidden mask, so the optimum is known. No network, no torch.

For tests, as an identity environment is: an agent that learns does so here in seconds.
"""

import hashlib
import json
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ads_gym.architecture import DenseNetConfig
from ads_gym.choices import Choice
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.base import BaseEvaluator, Metrics, with_cost
from ads_gym.nets.cost import CostTable
from ads_gym.records import Seed, checked
from ads_gym.topology import BoolArray, IntArray, Scope

NEIGHBOURS = 4  # of kind "rugged": how many bits after it each bit's worth depends on
CONTEXT_BITS = 3  # of kind "given": how many leading bits the others depend on and nobody is scored for


class Kind(Choice, what="kind of planted evaluator"):
    """What the right bit of a skip connection depends on."""

    LINEAR = "linear"  # on nothing: each has its own
    PAIRWISE = "pairwise"  # every second one's flips with an earlier bit of the same mask
    GIVEN = "given"  # all but the first three flip with one of the first three, which are free of credit
    RUGGED = "rugged"  # on its neighbours, so that there are many local optima


class PlantedEvaluator(BaseEvaluator):
    """Scores a mask by its agreement with a hidden one that the seed determines.

    With t the hidden bits, the right bit i is t[i]; in kind "pairwise", for odd i, t[i] XOR mask[j] with j < i drawn
    from the seed; in kind "given", for i >= 3, t[i] XOR mask[i mod 3]. Agreement is the share of the scored bits that
    are right: all E, or in kind "given" those from the fourth on. Let a test of memory draw the first three bits
    anew each episode, with `reset(options={"decided": ...})`: then no fixed sequence of actions is any good.

    Kind "rugged" is an NK landscape (S. A. Kauffman, "The Origins of Order", 1993) of adjacent neighbours: a mean of
    random worths of each five bits in a row. Its agreement is scaled so that the worst mask has 0 and the best 1, and
    no bit is right by itself.

    Accuracy and soft accuracy are the agreement, in [0, 1]; loss is 1 - agreement; MACs and parameters are real.

    Args:
        config: of the DenseNet whose skip connections are meant.
        scope: which of them.
        kind: what a right bit depends on.
        seed: of the hidden mask, at least 0.

    Raises:
        UnknownName, InvalidValue: no such kind or scope, a negative seed, too few skip connections for kind "given".
    """

    @checked
    def __init__(
        self, config: DenseNetConfig, scope: Scope | str = Scope.LAYERS, kind: Kind | str = Kind.LINEAR, seed: Seed = 0
    ) -> None:
        self.config = config
        self.kind = Kind(kind)
        self.seed = seed
        self._cost = CostTable(config, Scope(scope))
        self.topology = self._cost.topology
        size = self.topology.size
        if self.kind is Kind.GIVEN and size <= CONTEXT_BITS:
            raise InvalidValue(f"kind 'given' needs more than {CONTEXT_BITS} skip connections, got {size}.")
        rng = np.random.default_rng(seed)
        self._worths = Worths(rng, size) if self.kind is Kind.RUGGED else None
        self._hidden: BoolArray = rng.integers(0, 2, size).astype(np.bool_)
        self._dependent, self._earlier = self._dependencies(rng)
        self._first_scored = CONTEXT_BITS if self.kind is Kind.GIVEN else 0

    def _dependencies(self, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """(which bits depend on another bit, on which), each int64[n]."""
        size = self.topology.size
        if self.kind in (Kind.LINEAR, Kind.RUGGED):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        if self.kind is Kind.PAIRWISE:
            dependent = np.arange(1, size, 2)
            return dependent, rng.integers(0, dependent)
        dependent = np.arange(CONTEXT_BITS, size)
        return dependent, dependent % CONTEXT_BITS

    is_cheap = True

    @cached_property
    def fingerprint(self) -> str:
        """Of kind, seed, scope and config."""
        parts = [str(self.kind), self.seed, str(self.topology.scope), self.config.to_dict()]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return f"planted-{self.kind}-{digest[:32]}"

    @cached_property
    def optimum(self) -> BoolArray:
        """bool[E]: a mask of agreement 1 (of kind "given" the one whose first three bits are dropped)."""
        if self._worths is not None:
            return self._worths.best
        best = self._hidden.copy()
        best[: self._first_scored] = False
        for bit, earlier in zip(self._dependent, self._earlier, strict=True):
            best[bit] ^= best[earlier]
        return best

    def right_bits(self, masks: BoolArray) -> BoolArray:
        """bool[n, E]: what each bit of masks bool[n, E] should be, given the bits before it; not of kind "rugged"."""
        right = np.broadcast_to(self._hidden, masks.shape).copy()
        if len(self._dependent):
            right[:, self._dependent] ^= masks[:, self._earlier]
        return right

    def evaluate_checked(self, masks: BoolArray) -> list[Metrics]:
        """Return one Metrics for each of masks bool [n, E]."""
        if self._worths is not None:
            agreement = self._worths.agreement(masks)
        else:
            agreement = (self.right_bits(masks) == masks)[:, self._first_scored :].mean(axis=1)
        return with_cost(self._cost, masks, [(share, share, 1 - share) for share in agreement.tolist()])


class Worths:
    """An NK landscape whose best and worst masks are known.

    Args:
        rng: what its worths are drawn from.
        size: E, bits of a mask.

    Attributes:
        best: bool [E].
    """

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        width = min(NEIGHBOURS + 1, size)
        self._table = rng.random((size - width + 1, 1 << width))  # of each window of bits, by their binary number
        self._bits = 1 << np.arange(width)
        self.best, worst = self._extreme(1.0), self._extreme(-1.0)
        self._least, self._most = self._sums(np.stack([worst, self.best])).tolist()

    def agreement(self, masks: BoolArray) -> NDArray[np.float64]:
        """float64 [n]: 0 for the worst mask, 1 for the best."""
        scaled = (self._sums(masks) - self._least) / (self._most - self._least)
        return np.asarray(np.clip(scaled, 0.0, 1.0))  # sums of one order are equal to the bit; this is for 1 + 1e-16

    def _sums(self, masks: BoolArray) -> NDArray[np.float64]:
        windows = np.lib.stride_tricks.sliding_window_view(masks, len(self._bits), axis=1) @ self._bits  # [n, windows]
        return np.asarray(self._table[np.arange(len(self._table)), windows].sum(axis=1))

    def _extreme(self, sign: float) -> BoolArray:
        """bool [E]: the mask of the largest sum, or with `sign` -1 the smallest, by dynamic programming."""
        width = len(self._bits)
        states = 1 << (width - 1)  # all bits of a window but its last
        sums, choices = np.zeros(states), []
        for worths in self._table:  # a window of lowest bit `low`, and the next state is what is left above it
            both = (sums + sign * worths.reshape(2, states)).reshape(2 * states)  # by window
            pairs = both.reshape(states, 2)  # [next state, lowest bit]
            choices.append(pairs.argmax(axis=1))
            sums = pairs.max(axis=1)
        state = int(sums.argmax())
        bits = [bool(state >> place & 1) for place in range(width - 1)]  # the last ones of the mask
        for choice in reversed(choices):
            low = int(choice[state])
            bits.insert(0, bool(low))
            state = (state << 1 | low) & (states - 1)
        return np.array(bits, np.bool_)
