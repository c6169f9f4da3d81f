"""Optuna's tree-structured Parzen estimator, as an optimiser. Optuna is imported where it is used.

J. Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011, with densities of whole masks as in
S. Falkner et al., "BOHB", ICML 2018. Shapes: E skip connections, n masks.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import InstanceOf

from ads_gym.agents.base import Optimiser, objectives_of
from ads_gym.agents.starts import STARTS, start_masks
from ads_gym.imports import import_package
from ads_gym.problem import Problem, Scored
from ads_gym.records import Masks, Seed, Text, checked
from ads_gym.topology import BoolArray

MAX_ATTEMPTS = 100  # flips of a mask that was asked for before, until it is new


class TPE(Optimiser):
    """Optuna's tree-structured Parzen estimator.

    Random masks come first. Then one density is fitted to the best masks and another to all others, and of some masks
    drawn from the first the one with the largest ratio of the two is proposed. A proposal that does not fit the MACs
    limit is projected, and one that was asked for before is flipped at random until it is new: the densities learn the
    masks that were scored, never what was proposed instead. Masks that wait for their scores count among the others,
    so that a batch spreads.

    Args:
        problem: what is searched.
        seed: of all random numbers.
        batch_size: masks of a batch.
        warmup: random masks before the first proposal.
        candidates: masks that are drawn for each proposal.
        multivariate: fit densities of whole masks; False: of each connection by itself.
        start: what it begins with, before random masks: "residual", "magnitude", "saliency", "gates", or the path of an
            architecture; see `ads_gym.agents.starts`. All of its masks are asked for, however short the warm-up is.

    Raises:
        InvalidValue: an option out of range.
        MissingPackage: Optuna is not installed.
    """

    source = "Bergstra et al. 2011"

    @checked
    def __init__(
        self,
        problem: InstanceOf[Problem],
        *,
        seed: Seed = 0,
        batch_size: Masks = 8,
        warmup: Masks = 32,
        candidates: Masks = 24,
        multivariate: bool = True,
        start: Text | None = None,
    ) -> None:
        super().__init__(problem, seed=seed)
        self.batch_size = batch_size
        self._optuna: Any = import_package("optuna", "optuna")
        self._study = self._make_study(seed=seed, n_ei_candidates=candidates, multivariate=multivariate)
        bit = self._optuna.distributions.CategoricalDistribution([False, True])
        self._space = {str(number): bit for number in range(problem.topology.size)}
        self._given = start_masks(problem, start, STARTS, seed)
        self._warmup = max(warmup, len(self._given))
        self._known: set[bytes] = set()
        self._waiting: dict[bytes, Any] = {}  # Optuna's trials of masks that were asked for and not told

    @checked
    def ask(self, n: Masks) -> BoolArray:
        """Return masks bool [at most n, E]: those of `start` and random ones first, then proposals."""
        count = min(n, self._warmup)
        if not count:
            return np.stack([self._propose() for _ in range(n)])
        self._warmup -= count
        given, self._given = self._given[:count], self._given[count:]
        drawn = [self.problem.sample(self.rng) for _ in range(count - len(given))]
        return np.stack([*given, *drawn])

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Learn the objectives of masks bool [n, E], which need not be those that it asked for."""
        masks, objectives = objectives_of(self.problem, masks, scores)
        for mask, objective in zip(masks, objectives.tolist(), strict=True):
            key = mask.tobytes()
            if key not in self._known:
                trial = self._waiting.pop(key, None) or self._trial_of(mask)
                self._study.tell(trial, objective)
                self._known.add(key)

    def _propose(self) -> BoolArray:
        """Return a mask bool [E] that fits, new unless all near it are known."""
        trial = self._study.ask(self._space)
        bits = trial.params
        proposed = np.array([bits[name] for name in self._space], np.bool_)
        mask = self._new(self.problem.project(proposed, self.rng))
        key = mask.tobytes()
        if not np.array_equal(mask, proposed) or self._is_old(key):
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)  # which the sampler leaves out
            trial = None if self._is_old(key) else self._trial_of(mask)
        if trial is not None:
            self._waiting[key] = trial
        return mask

    def _trial_of(self, mask: BoolArray) -> Any:
        """Return a running trial of Optuna's whose parameters are those of a mask bool [E]."""
        self._study.enqueue_trial(dict(zip(self._space, mask.tolist(), strict=True)))
        return self._study.ask(self._space)

    def _new(self, mask: BoolArray) -> BoolArray:
        """Flip bits of a mask bool [E], one after another, until it is new, or often enough."""
        for _ in range(MAX_ATTEMPTS):
            if not self._is_old(mask.tobytes()):
                break
            mask = mask.copy()
            mask[self.rng.integers(len(mask))] ^= True
            mask = self.problem.project(mask, self.rng)
        return mask

    def _is_old(self, key: bytes) -> bool:
        return key in self._known or key in self._waiting

    def _make_study(self, **settings: Any) -> Any:
        """Return an empty study of Optuna's, without a line on the terminal."""
        optuna = self._optuna
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with warnings.catch_warnings():  # before Optuna 5, that these settings are experimental
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                sampler = optuna.samplers.TPESampler(n_startup_trials=1, constant_liar=True, **settings)
            return optuna.create_study(sampler=sampler, direction="maximize")
        finally:
            optuna.logging.set_verbosity(verbosity)
