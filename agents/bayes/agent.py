"""Bayesian optimisation over masks: a Gaussian process proposes what to score next. No torch.

The acquisition function is the upper confidence bound (N. Srinivas et al., "Gaussian Process Optimization in the Bandit
Setting", 2010), climbed by single flips. Shapes: E skip connections, n masks.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import InstanceOf
from threadpoolctl import ThreadpoolController

from ads_gym.agents.base import Floats, NotNegative, Optimiser, objectives_of
from ads_gym.agents.bayes.acquisition import maximise_acquisition
from ads_gym.agents.bayes.surrogate import GaussianProcess
from ads_gym.agents.starts import STARTS, start_masks
from ads_gym.problem import Problem, Scored
from ads_gym.records import Masks, Seed, Text, checked
from ads_gym.topology import BoolArray


class Bayes(Optimiser):
    """Bayesian optimisation with a Gaussian process.

    Random masks come first, then batches that maximise the process's upper confidence bound. The process predicts the
    reward before cost; the cost of a mask is known exactly.

    Args:
        problem: what is searched.
        seed: of all random numbers.
        batch_size: masks of a batch.
        warmup: random masks before the first fit.
        kappa: standard deviations that the bound is above the mean.
        starts: of the best masks, from which the bound is climbed; as many perturbations of them are starts too.
        kick: flips in a perturbation.
        start: what it begins with, before random masks: "residual", "magnitude", "saliency", "gates", or the path of an
            architecture; see `ads_gym.agents.starts`. All of its masks are asked for, however short the warm-up is.

    Raises:
        InvalidValue: an option out of range.
    """

    source = "Srinivas et al. 2010"

    @checked
    def __init__(
        self,
        problem: InstanceOf[Problem],
        *,
        seed: Seed | np.random.Generator = 0,
        batch_size: Masks = 8,
        warmup: Masks = 32,
        kappa: NotNegative = 3.0,
        starts: Masks = 8,
        kick: Masks = 4,
        start: Text | None = None,
    ) -> None:
        super().__init__(problem, seed=seed)
        self.batch_size = batch_size
        self._given = start_masks(problem, start, STARTS)
        self._warmup = max(warmup, len(self._given))
        self._kappa, self._starts = kappa, starts
        self._kick = min(kick, problem.topology.size)
        self._known: dict[bytes, float] = {}  # objectives, the latest last
        self._best: list[tuple[float, BoolArray]] = []
        self._process = GaussianProcess(problem.topology.size)
        self._libraries = ThreadpoolController()  # linear algebra's, of numpy and SciPy

    @checked
    def ask(self, n: Masks) -> BoolArray:
        """Return masks bool [at most n, E]: random ones first, then maxima of the upper confidence bound."""
        if self._warmup > 0 or not self._known:
            count = min(n, max(self._warmup, 1))
            self._warmup -= count
            given, self._given = self._given[:count], self._given[count:]
            return np.concatenate([given, self._random(count - len(given))])
        masks = self.suggest(n, self._perturbed())
        return masks if len(masks) else self._random(n)

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Remember the objectives of masks bool [n, E], which need not be those that it asked for."""
        masks, objectives = objectives_of(self.problem, masks, scores)
        for mask, objective in zip(masks, objectives.tolist(), strict=True):
            if mask.tobytes() not in self._known:
                self._known[mask.tobytes()] = objective
                self._best.append((objective, mask))
        self._best = sorted(self._best, key=lambda pair: -pair[0])[: self._starts]

    def suggest(self, n: int, starts: BoolArray) -> BoolArray:
        """Fit the process, and climb from the best masks and from `starts` bool [k, E].

        Returns:
            New masks bool [at most n, E], the most promising first; none where all within a flip are known.
        """
        prices = self.problem.objective.cost_weight * self.problem.cost.relative_costs
        known = np.stack([np.frombuffer(key, np.bool_) for key in self._known])

        def upper_confidence_bound(masks: BoolArray) -> Floats:
            mean, std = self._process.predict(masks)
            return np.asarray(mean + self._kappa * std - masks @ prices)

        with self._libraries.limit(limits=1, user_api="blas"):  # matrices this small are slower on several threads
            self._process.fit(known, np.fromiter(self._known.values(), np.float64) + known @ prices)
            starts = np.concatenate([starts, [mask for _, mask in self._best]])
            return maximise_acquisition(self.problem, upper_confidence_bound, starts, self._known, self.rng)[:n]

    def _perturbed(self) -> BoolArray:
        """Return the best masks with random flips, bool [k, E]."""
        masks = np.stack([mask for _, mask in self._best])
        for mask in masks:
            mask[self.rng.choice(len(mask), self._kick, replace=False)] ^= True
        return np.stack([self.problem.project(mask, self.rng) for mask in masks])

    def _random(self, n: int) -> BoolArray:
        masks = [self.problem.sample(self.rng) for _ in range(n)]
        return np.array(masks, np.bool_).reshape(n, self.problem.topology.size)
