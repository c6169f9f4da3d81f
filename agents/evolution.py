"""Regularised evolution: the best of a few become parents, and the oldest die. numpy only.

E. Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019, with crossover besides.
Shape: E skip connections.
"""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from pydantic import InstanceOf

from ads_gym.agents.base import Optimiser, Positive, objectives_of
from ads_gym.agents.starts import STARTS, start_masks
from ads_gym.problem import Problem, Scored
from ads_gym.records import Masks, Seed, Share, Text, checked
from ads_gym.topology import BoolArray

MAX_ATTEMPTS = 100  # at a child that was not asked for before


class Evolution(Optimiser):
    """Regularised evolution: the oldest die.

    Children of tournament winners, by crossover and flips, take their places. The first population is random. A child
    that does not fit the MACs limit is projected.

    Args:
        problem: what is searched.
        seed: of all random numbers.
        batch_size: children between updates.
        population: masks that are alive.
        tournament: that a parent is the best of, drawn from these.
        crossover: share of the children that have two parents, each bit from either.
        flips: of each child's bits, on average.
        start: what it begins with, before random masks: "residual", "magnitude", "saliency", "gates", or the path of an
            architecture; see `ads_gym.agents.starts`. Of a ranking, as many masks as the population has place for.

    Raises:
        InvalidValue: an option out of range.
    """

    source = "Real et al. 2019"

    @checked
    def __init__(
        self,
        problem: InstanceOf[Problem],
        *,
        seed: Seed = 0,
        batch_size: Masks = 8,
        population: Masks = 32,
        tournament: Masks = 8,
        crossover: Share = 0.5,
        flips: Positive = 1.0,
        start: Text | None = None,
    ) -> None:
        super().__init__(problem, seed=seed)
        self.batch_size = batch_size
        self._tournament, self._crossover = tournament, crossover
        self._flip = min(1.0, flips / problem.topology.size)
        self._alive: deque[tuple[float, BoolArray]] = deque(maxlen=population)
        self._given = start_masks(problem, start, min(STARTS, population), seed)
        self._newborn = population  # masks that are still to be given or drawn
        self._asked: set[bytes] = set()

    @checked
    def ask(self, n: Masks) -> BoolArray:
        """Return masks bool [at most n, E]: random ones first, then children."""
        if self._newborn or not self._alive:
            count = min(n, max(self._newborn, 1))
            self._newborn -= min(count, self._newborn)
            given, self._given = self._given[:count], self._given[count:]
            drawn = [self._new(lambda: self.problem.sample(self.rng)) for _ in range(count - len(given))]
            return np.stack([*given, *drawn])
        return np.stack([self._new(self._child) for _ in range(n)])

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Add masks bool [n, E] to the population; as many of the oldest die."""
        masks, objectives = objectives_of(self.problem, masks, scores)
        self._alive.extend(zip(objectives.tolist(), masks, strict=True))
        self._asked.update(mask.tobytes() for mask in masks)

    def _child(self) -> BoolArray:
        """Return a mask bool [E] of one parent or two."""
        child = self._parent().copy()
        if self.rng.random() < self._crossover:
            child = np.where(self.rng.random(len(child)) < 0.5, child, self._parent())
        return self.problem.project(child ^ (self.rng.random(len(child)) < self._flip), self.rng)

    def _parent(self) -> BoolArray:
        """Return the best of some that are alive."""
        drawn = self.rng.choice(len(self._alive), min(self._tournament, len(self._alive)), replace=False)
        return max((self._alive[each] for each in drawn), key=lambda pair: pair[0])[1]

    def _new(self, draw: Callable[[], BoolArray]) -> BoolArray:
        """Draw until a mask is new, or often enough."""
        for _ in range(MAX_ATTEMPTS):
            mask = draw()
            if mask.tobytes() not in self._asked:
                break
        self._asked.add(mask.tobytes())
        return mask
