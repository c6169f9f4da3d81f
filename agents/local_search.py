"""First-improvement local search over one-flip moves: the baseline that a learning agent has to beat."""

from collections.abc import Generator, Sequence

import numpy as np

from ads_gym.agents.base import Optimiser
from ads_gym.errors import InvalidValue
from ads_gym.problem import Problem, Scored
from ads_gym.topology import BoolArray

KICKS = 100  # that may lead to masks seen before, in a search space that is nearly used up
Search = Generator[BoolArray, float, None]  # yields the mask to score next, is sent its objective


class LocalSearch(Optimiser):
    """Takes any flip that improves, from the best of some random masks; in a local optimum, kicks the best and goes on.

    A flip that does not fit the limit is skipped. No mask is asked for twice as long as there are others.

    Args:
        problem: what is to be solved.
        seed: of the order of flips and of the kicks.
        starts: random masks before the first flip.
        kick: flips at once, out of a local optimum.

    Raises:
        InvalidValue: an option out of range.
    """

    def __init__(self, problem: Problem, *, seed: int = 0, starts: int = 32, kick: int = 4) -> None:
        super().__init__(problem, seed=seed)
        for name, value in (("starts", starts), ("kick", kick)):
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
                raise InvalidValue(f"{name} must be a whole number of at least 1, got {value!r}.")
        self._starts, self._kick = starts, min(kick, self.size)
        self._known: dict[bytes, float] = {}
        self._best, self._best_objective = problem.topology.chain(), -np.inf
        self._search = self._run()
        self._next = next(self._search)

    def ask(self, n: int) -> BoolArray:
        """Return the one mask to score next, bool [1, E]."""
        return self._next[None]

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Take in its objective, and go on as far as the next mask."""
        self._next = self._search.send(scores[0].objective)

    def _run(self) -> Search:
        for _ in range(self._starts):
            yield from self._score(self.problem.sample(self.rng))
        current = self._best
        while True:
            yield from self._climb(current)
            current = self._kicked()
            yield from self._score(current)

    def _climb(self, current: BoolArray) -> Search:
        """Take improving flips from `current` until a whole pass finds none."""
        objective, improved = self._known[current.tobytes()], True
        while improved:
            improved = False
            for index in self.rng.permutation(self.size):
                neighbour = current.copy()
                neighbour[index] ^= True
                if not self.problem.fits(neighbour):
                    continue
                if neighbour.tobytes() not in self._known:
                    yield from self._score(neighbour)
                if self._known[neighbour.tobytes()] > objective:
                    current, objective, improved = neighbour, self._known[neighbour.tobytes()], True

    def _kicked(self) -> BoolArray:
        """Return the best mask with `kick` random flips, one that is not known yet if such a one is found."""
        for _ in range(KICKS):
            mask = self._best.copy()
            mask[self.rng.choice(self.size, self._kick, replace=False)] ^= True
            mask = self.problem.project(mask, self.rng)
            if mask.tobytes() not in self._known:
                break
        return mask

    def _score(self, mask: BoolArray) -> Search:
        """Have a mask scored, and remember its objective."""
        objective = yield mask
        self._known[mask.tobytes()] = objective
        if objective > self._best_objective:
            self._best, self._best_objective = mask, objective
