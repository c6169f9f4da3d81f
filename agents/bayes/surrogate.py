"""The critic: what a mask would score, and how surely, from what others scored. numpy and scipy only.

A Gaussian process over masks (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006): masks a and b
are as alike as exp(-sum of the relevances of the bits in which they differ). Each bit has a relevance of its own,
learned by the likelihood of what is known (section 5.1 there): a few connections decide most, and knowing which makes
some hundred evaluations tell of others. Shapes: E skip connections, n masks known, m asked about.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import fmin_l_bfgs_b

from ads_gym.topology import BoolArray

Floats = NDArray[np.float64]

TINY = 1e-9  # so that equal scores divide by something
NOISE = 1e-4  # of the variance: scores do not vary, but the process is not quite right
SUM = 1.0  # of the relevances at first
LEARN_EVERY = 64  # masks known: relevances are learned again
LOG_RANGE = (-9.0, 1.0)
LEARN_STEPS = 20  # of L-BFGS, from where it last was


class Critic:
    """Knows `memory` masks at most: the best half of them, and the latest.

    Args:
        size: E.
        memory: how many; time grows with its cube.
    """

    def __init__(self, size: int, memory: int = 512) -> None:
        self._memory = memory
        self._logs = np.full(size, np.log(SUM / size))  # of the relevances
        self._learned_at = -LEARN_EVERY  # masks known then

    def learn(self, masks: BoolArray, scores: Floats) -> None:
        """Takes in what masks bool[n, E] scored [n], the latest last. What earlier calls took in is forgotten."""
        known = len(masks)
        if known > self._memory:
            best = np.argsort(-scores, kind="stable")[: self._memory // 2]
            chosen = np.union1d(best, np.arange(known - self._memory // 2, known))
            masks, scores = masks[chosen], scores[chosen]
        self._signs = _signs(masks)
        self._mean, self._scale = scores.mean(), scores.std() + TINY
        targets = (scores - self._mean) / self._scale
        if known >= self._learned_at + LEARN_EVERY:
            self._learned_at = known
            bounds = [LOG_RANGE] * len(self._logs)
            found = fmin_l_bfgs_b(self._misfit, self._logs, args=(targets,), bounds=bounds, maxiter=LEARN_STEPS)
            self._logs = np.asarray(found[0], np.float64)
        factor = self._factor(self._likeness(self._signs, self._logs))
        self._weights = cho_solve(factor, targets)
        self._inverse = cho_solve(factor, np.eye(len(targets)))
        self._variance = float(targets @ self._weights) / len(targets) + TINY

    def bound(self, masks: BoolArray, trust: float) -> Floats:
        """[m]: expected scores of masks bool[m, E], plus `trust` standard deviations (Srinivas et al. 2010)."""
        likeness = self._likeness(_signs(masks), self._logs)
        explained = ((likeness @ self._inverse) * likeness).sum(axis=1)
        doubt = np.sqrt(np.maximum(1 - explained, 0) * self._variance)
        return np.asarray((likeness @ self._weights + trust * doubt) * self._scale + self._mean)

    def _likeness(self, signs: Floats, logs: Floats) -> Floats:
        """[m, n], 0 to 1, of masks given as signs [m, E] with those that are known."""
        relevances = np.exp(logs)
        return np.asarray(np.exp(((signs * relevances) @ self._signs.T - relevances.sum()) / 2))

    def _factor(self, likeness: Floats) -> tuple[Floats, bool]:
        """Cholesky's, of the likeness of what is known, and noise."""
        factor, is_lower = cho_factor(likeness + NOISE * np.eye(len(likeness)), lower=True)
        return np.asarray(factor, np.float64), bool(is_lower)

    def _misfit(self, logs: Floats, targets: Floats) -> tuple[float, Floats]:
        """How badly relevances explain `targets` [n], and its gradient [E]; unlike relevances are unlikely."""
        signs, likeness = self._signs, self._likeness(self._signs, logs)
        try:
            factor = self._factor(likeness)
        except LinAlgError:  # too alike to be told apart: L-BFGS turns back
            return 1e9, np.zeros_like(logs)
        weights, count = cho_solve(factor, targets), len(targets)
        variance = float(targets @ weights) / count + TINY
        misfit = 0.5 * count * np.log(variance) + np.log(np.diag(factor[0])).sum()
        slope = (cho_solve(factor, np.eye(count)) - np.outer(weights, weights) / variance) * likeness
        gradient = -0.25 * np.exp(logs) * (slope.sum() - (signs * (slope @ signs)).sum(axis=0))
        away = logs - logs.mean()
        return float(misfit + 0.5 * away @ away), gradient + away


def _signs(masks: BoolArray) -> Floats:
    """1 kept, -1 dropped."""
    return np.where(masks, 1.0, -1.0)
