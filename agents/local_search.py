"""First-improvement local search over single flips, with random restarts near the best mask.

Iterated local search: H. R. Lourenço, O. C. Martin, T. Stützle, "Iterated Local Search", 2003. numpy only.
Shape: E skip connections.
"""

from collections.abc import Generator, Sequence

import numpy as np
from pydantic import InstanceOf

from ads_gym.agents.base import Optimiser, objectives_of
from ads_gym.agents.starts import STARTS, start_masks
from ads_gym.errors import InvalidValue
from ads_gym.problem import Problem, Scored
from ads_gym.records import Masks, Seed, Text, checked
from ads_gym.topology import BoolArray

MAX_ATTEMPTS = 100  # perturbations of the best mask, until one is new

Search = Generator[BoolArray, float, None]  # yields a mask bool [E], is sent its objective


class LocalSearch(Optimiser):
    """Climb by single flips that improve, with restarts.

    It begins at the best of some random masks; at a local optimum it perturbs the best and goes on. A flip that does
    not fit the MACs limit is skipped. No mask is asked for twice while new ones are found.

    Args:
        problem: what is searched.
        seed: of the order of flips and of perturbations.
        starts: random masks before the first flip.
        start: where it begins, instead of at random: "residual", "magnitude", "saliency", "gates", or an architecture's
            path; see `ads_gym.agents.starts`.
        kick: flips in a perturbation.

    Raises:
        InvalidValue: an option out of range.
    """

    source = "Lourenço et al. 2003"

    @checked
    def __init__(
        self,
        problem: InstanceOf[Problem],
        *,
        seed: Seed = 0,
        starts: Masks = 32,
        start: Text | None = None,
        kick: Masks = 4,
    ) -> None:
        super().__init__(problem, seed=seed)
        self._starts, self._given = starts, start_masks(problem, start, STARTS, seed)
        self._kick = min(kick, problem.topology.size)
        self._known: dict[bytes, float] = {}
        self._best, self._best_objective = problem.topology.chain(), -np.inf
        self._search = self._run()
        self._next = next(self._search)

    @checked
    def ask(self, n: Masks) -> BoolArray:
        """Return one mask bool [1, E]: which is next depends on its score."""
        return self._next[None]

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Go on to the next mask."""
        masks, objectives = objectives_of(self.problem, masks, scores)
        if not np.array_equal(masks, self._next[None]):
            raise InvalidValue("a local search is told the score of the mask that it asked for, and got others.")
        self._next = self._search.send(float(objectives[0]))

    def _run(self) -> Search:
        for mask in self._given:
            yield from self._score(mask)
        for _ in range(0 if len(self._given) else self._starts):
            yield from self._score(self.problem.sample(self.rng))
        mask = self._best
        while True:
            yield from self._climb(mask, self._known[mask.tobytes()])
            mask = self._perturbed()
            yield from self._score(mask)

    def _climb(self, mask: BoolArray, objective: float) -> Search:
        """Flip bits as long as a pass over all of them improves the objective."""
        improved = True
        while improved:
            improved = False
            for index in self.rng.permutation(len(mask)):
                neighbour = mask.copy()
                neighbour[index] ^= True
                if not self.problem.fits(neighbour):
                    continue
                if neighbour.tobytes() not in self._known:
                    yield from self._score(neighbour)
                if self._known[neighbour.tobytes()] > objective:
                    mask, objective, improved = neighbour, self._known[neighbour.tobytes()], True

    def _score(self, mask: BoolArray) -> Search:
        """Have a mask scored, and remember it."""
        objective = yield mask
        self._known[mask.tobytes()] = objective
        if objective > self._best_objective:
            self._best, self._best_objective = mask, objective

    def _perturbed(self) -> BoolArray:
        """Return the best mask with `kick` random flips, a new one if one is found."""
        for _ in range(MAX_ATTEMPTS):
            mask = self._best.copy()
            mask[self.rng.choice(len(mask), self._kick, replace=False)] ^= True
            mask = self.problem.project(mask, self.rng)
            if mask.tobytes() not in self._known:
                break
        return mask
