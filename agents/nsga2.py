"""pymoo's NSGA-II, as an optimiser of two objectives. pymoo is imported where it is used.

K. Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on Evolutionary
Computation, 2002. Shapes: E skip connections, n masks.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydantic import InstanceOf

from ads_gym.agents.base import AtLeastTwo, Optimiser, Positive, objectives_of
from ads_gym.agents.starts import STARTS, start_masks
from ads_gym.imports import import_package
from ads_gym.problem import Problem, Scored
from ads_gym.records import Masks, Seed, Share, Text, checked
from ads_gym.topology import BoolArray


class NSGA2(Optimiser):
    """pymoo's NSGA-II: a front of reward and relative cost.

    A generation are the children of winners of binary tournaments, by uniform crossover and flips; parents and children
    that nobody beats in both, reward and relative cost, live on, where they are crowded the fewest. The cost weight is
    not used: what a run returns is still the mask of the best objective, and the front is among the rows of its record.
    The first generation is random. A child that does not fit the MACs limit is projected, and one that was asked for
    before is replaced; where pymoo finds no new child in 100 attempts, the search ends.

    Args:
        problem: what is searched.
        seed: of all random numbers.
        batch_size: masks of a batch; a generation is several.
        population: masks that are alive, and children of a generation.
        crossover: share of the pairs of children that are mixed of two parents, each bit from either.
        flips: of each child's bits, on average.
        start: what it begins with, before random masks: "residual", "magnitude", "saliency", "gates", or the path of an
            architecture; see `ads_gym.agents.starts`. Of a ranking, as many masks as the population has place for.

    Raises:
        InvalidValue: an option out of range.
        MissingPackage: pymoo is not installed.
    """

    source = "Deb et al. 2002"

    @checked
    def __init__(
        self,
        problem: InstanceOf[Problem],
        *,
        seed: Seed = 0,
        batch_size: Masks = 8,
        population: AtLeastTwo = 16,
        crossover: Share = 0.9,
        flips: Positive = 1.0,
        start: Text | None = None,
    ) -> None:
        super().__init__(problem, seed=seed)
        self.batch_size = batch_size
        self._new_only = NewOnly()
        given = start_masks(problem, start, min(STARTS, population), seed)
        drawn = [problem.sample(self.rng) for _ in range(population - len(given))]
        self._individuals, self._algorithm = _pymoo(
            problem.topology.size,
            crossover,
            flips,
            seed=seed,
            pop_size=population,
            sampling=np.stack([*given, *drawn]),
            repair=self._fit,
            eliminate_duplicates=self._new_only,
        )
        self._generation: list[BoolArray] = []  # masks that are still to be asked for
        self._told: list[tuple[BoolArray, tuple[float, float]]] = []  # and what to minimise, since the last generation

    @checked
    def ask(self, n: Masks) -> BoolArray:
        """Return masks bool [at most n, E] of a generation; none where there is no new child."""
        if not self._generation:
            self._generation = self._next()
        asked, self._generation = self._generation[:n], self._generation[n:]
        return np.array(asked, np.bool_).reshape(-1, self.problem.topology.size)

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Learn rewards and relative costs of masks bool [n, E], which need not be those that it asked for."""
        masks, _ = objectives_of(self.problem, masks, scores)
        self._new_only.add(masks)
        for mask, (metrics, _) in zip(masks, scores, strict=True):
            self._told.append((mask, (-self.problem.objective.reward(metrics), metrics.relative_cost)))

    def _next(self) -> list[BoolArray]:
        """Let the fittest of parents and children live on, and return the masks of the next generation."""
        if self._told:
            told, minimised = zip(*self._told, strict=True)
            self._algorithm.tell(infills=self._individuals.new(X=np.stack(told), F=np.array(minimised)))
            self._told = []
        children = self._algorithm.ask()
        masks: list[BoolArray] = [] if children is None else list(children.get("X"))
        self._new_only.add(masks)
        return masks

    def _fit(self, _: Any, children: Any, **__: Any) -> Any:
        """Project children that do not fit the MACs limit; pymoo calls it as it does its repairs."""
        children.set("X", np.stack([self.problem.project(mask, self.rng) for mask in children.get("X")]))
        return children


class NewOnly:
    """Leave out masks that were seen before; pymoo calls it as it does its eliminations of duplicates."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def add(self, masks: Iterable[BoolArray]) -> None:
        """See masks bool [n, E]."""
        self._seen.update(mask.tobytes() for mask in masks)

    def do(self, children: Any, *others: Any) -> Any:
        """Return those children that were not seen, are not among `others`, and are none of the children before."""
        here = {mask.tobytes() for other in others for mask in other.get("X")}
        is_new = []
        for key in (mask.tobytes() for mask in children.get("X")):
            is_new.append(key not in self._seen and key not in here)
            here.add(key)
        return children[np.array(is_new, np.bool_)]


def _pymoo(size: int, crossover: float, flips: float, **settings: Any) -> tuple[Any, Any]:
    """Return pymoo's class of populations, and its NSGA-II of `size` bits and two objectives.

    Args:
        size: E.
        crossover, flips: see `NSGA2`.
        settings: of pymoo's.

    Raises:
        MissingPackage: pymoo is not installed.
    """

    def module(name: str) -> Any:
        return import_package(f"pymoo.{name}", "pymoo")

    module("config").Config.warnings["not_compiled"] = False  # it would print lines
    algorithm = module("algorithms.moo.nsga2").NSGA2(
        crossover=module("operators.crossover.ux").UniformCrossover(prob=crossover),
        mutation=module("operators.mutation.bitflip").BitflipMutation(prob_var=min(1.0, flips / size)),
        **settings,
    )
    bits = module("core.problem").Problem(n_var=size, n_obj=2, vtype=bool)
    algorithm.setup(bits, termination=module("core.termination").NoTermination())
    return module("core.population").Population, algorithm
