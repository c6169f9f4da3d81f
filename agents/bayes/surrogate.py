"""The surrogate: a Gaussian process that predicts the objective of a mask, with a standard deviation, from known ones.

C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning", 2006. The kernel of two masks is
exp(-sum of the weights of the bits in which they differ): an RBF kernel with a length scale for each bit (automatic
relevance determination, section 5.1 there), where the weight of a bit is 1 / (2 length scale^2). The weights maximise
the marginal likelihood: a few connections decide most, and knowing which makes some hundred evaluations predict others.

Shapes: E skip connections, n known masks, m masks to predict. numpy and scipy only.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import fmin_l_bfgs_b

from ads_gym.topology import BoolArray

Floats = NDArray[np.float64]

EPSILON = 1e-9  # added to variances that are divided by
NOISE = 1e-4  # variance of the noise / variance of the process: rewards are exact, the process is not
INITIAL_WEIGHTS = 1.0  # sum of the weights before any likelihood was maximised
REFIT_INTERVAL = 64  # new masks between maximisations of the likelihood
LOG_WEIGHT_BOUNDS = (-9.0, 1.0)
MAX_ITERATIONS = 20  # of L-BFGS, which starts where it last ended


class GaussianProcess:
    """Gaussian process regression on at most `capacity` masks: the half with the highest values, and the latest.

    Values are standardised, and the variance of the process is its maximum likelihood estimate.

    Args:
        size: E.
        capacity: most masks that are used; time grows with its cube.

    Attributes:
        log_weights: float64 [E]: logarithms of the kernel's weights.
    """

    def __init__(self, size: int, capacity: int = 512) -> None:
        self._capacity = capacity
        self.log_weights = np.full(size, np.log(INITIAL_WEIGHTS / size))
        self._refit_at = 0  # number of masks

    def fit(self, masks: BoolArray, values: Floats) -> None:
        """Fit masks bool [n, E], the latest last, and their values float64 [n]. Earlier fits are forgotten.

        The weights are kept, and fitted again after every `REFIT_INTERVAL` masks.
        """
        count = len(masks)
        if count > self._capacity:
            best = np.argsort(-values, kind="stable")[: self._capacity // 2]
            chosen = np.union1d(best, np.arange(count - self._capacity // 2, count))
            masks, values = masks[chosen], values[chosen]
        self._signs = _signs(masks)
        self._mean, self._scale = values.mean(), values.std() + EPSILON
        targets = (values - self._mean) / self._scale
        if count >= self._refit_at:
            self._refit_at = count + REFIT_INTERVAL
            self.log_weights = self._maximise_likelihood(targets)
        factor = self._factor(self._kernel(self._signs, self.log_weights))
        self._coefficients = cho_solve(factor, targets)
        self._inverse = cho_solve(factor, np.eye(len(targets)))
        self._variance = float(targets @ self._coefficients) / len(targets) + EPSILON

    def predict(self, masks: BoolArray) -> tuple[Floats, Floats]:
        """Return the posterior mean and standard deviation, float64 [m] each, of masks bool [m, E]."""
        kernel = self._kernel(_signs(masks), self.log_weights)
        explained = ((kernel @ self._inverse) * kernel).sum(axis=1)
        std = np.sqrt(np.maximum(1 - explained, 0) * self._variance)
        return np.asarray(kernel @ self._coefficients * self._scale + self._mean), np.asarray(std * self._scale)

    def negative_log_likelihood(self, log_weights: Floats, targets: Floats) -> tuple[float, Floats]:
        """Return the negative log marginal likelihood of `targets` [n], but for a constant, and its gradient [E].

        The variance of the process is the most likely one. (Rasmussen and Williams, equations 5.8 and 5.9.)
        """
        signs, kernel = self._signs, self._kernel(self._signs, log_weights)
        try:
            factor = self._factor(kernel)
        except LinAlgError:  # masks too similar to be told apart: L-BFGS turns back
            return 1e9, np.zeros_like(log_weights)
        coefficients, count = cho_solve(factor, targets), len(targets)
        variance = float(targets @ coefficients) / count + EPSILON
        value = 0.5 * count * np.log(variance) + np.log(np.diag(factor[0])).sum()
        slope = (cho_solve(factor, np.eye(count)) - np.outer(coefficients, coefficients) / variance) * kernel
        gradient = -0.25 * np.exp(log_weights) * (slope.sum() - (signs * (slope @ signs)).sum(axis=0))
        return float(value), gradient

    def _maximise_likelihood(self, targets: Floats) -> Floats:
        """Return the log weights [E] of the highest posterior: the likelihood and a prior that they are alike."""

        def loss(log_weights: Floats) -> tuple[float, Floats]:
            value, gradient = self.negative_log_likelihood(log_weights, targets)
            difference = log_weights - log_weights.mean()
            return value + float(0.5 * difference @ difference), gradient + difference

        bounds = [LOG_WEIGHT_BOUNDS] * len(self.log_weights)
        return np.asarray(fmin_l_bfgs_b(loss, self.log_weights, bounds=bounds, maxiter=MAX_ITERATIONS)[0], np.float64)

    def _kernel(self, signs: Floats, log_weights: Floats) -> Floats:
        """Return the kernel [m, n] of masks, as signs [m, E], with the known ones."""
        weights = np.exp(log_weights)
        return np.asarray(np.exp(((signs * weights) @ self._signs.T - weights.sum()) / 2))

    def _factor(self, kernel: Floats) -> tuple[Floats, bool]:
        """Return the Cholesky factor of the kernel [n, n] with noise."""
        factor, is_lower = cho_factor(kernel + NOISE * np.eye(len(kernel)), lower=True)
        return np.asarray(factor, np.float64), bool(is_lower)


def _signs(masks: BoolArray) -> Floats:
    """Return 1 for kept and -1 for dropped."""
    return np.where(masks, 1.0, -1.0)
