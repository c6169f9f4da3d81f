"""Ridge regression of what a layer's outputs lack, from sums over rows; cross-validated where images are few.

Shapes: f folds of the images, i inputs of one output (unknowns), o outputs. The last input is 1: its weight is a shift.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ads_gym.errors import InvalidValue

RIDGE = 1e-3
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # of which cross-validation takes the best
FEW_IMAGES = 500  # below which there is one
FOLDS = 4
MAX_RIDGE = 1e7
COLUMNS = 256  # of a symmetric matrix that are computed at once


def count_folds(images: int) -> int:
    """In how many folds so many images are taken: image n is in fold n mod folds."""
    return min(FOLDS, images) if images < FEW_IMAGES else 1


def add_square(total: Tensor, rows: Tensor) -> None:
    """Add products of rows [r, i] with themselves to `total` [i, i]: above the diagonal, and some of the rest."""
    for low in range(0, rows.shape[1], COLUMNS):
        total[low : low + COLUMNS, low:] += rows[:, low : low + COLUMNS].T @ rows[:, low:]


class Factor(NamedTuple):
    """Normal equations, ready to be solved."""

    triangle: Tensor  # float64 [i + 1, i + 1]: the Cholesky factor
    ridge: float  # see `NormalEquations.solve`; the one that was used
    penalty: float  # of the square of what is added to a weight

    def solve(self, moments: Tensor) -> Tensor:
        """float64 [i + 1, o], from moments [i + 1, o]."""
        return torch.cholesky_solve(moments, self.triangle)


class NormalEquations(NamedTuple):
    """Sums over the rows of each fold."""

    gram: Tensor  # float64 [f, i + 1, i + 1], of the inputs
    moments: Tensor  # float64 [f, i + 1, o], of the inputs and of what the outputs lack with the old weights

    def choose_ridge(self) -> float:
        """1e-3, or where there are folds the one of `RIDGES` with the least error on the fold that is left out."""
        folds = range(len(self.gram))
        if len(folds) == 1:
            return RIDGE
        return min(RIDGES, key=lambda ridge: sum(self.error(self.solve(ridge, fold), fold) for fold in folds))

    def solve(self, ridge: float, left_out: int | None = None) -> Tensor:
        """float64 [i + 1, o]: what is added to the old weights, and to the shift, which is not held to anything.

        Args:
            ridge: how strongly the new weights are held to the old ones, as a share of the inputs' mean square.
            left_out: the fold whose rows do not count.
        """
        moments = self.moments.sum(0)
        if left_out is not None:
            moments = moments - self.moments[left_out]
        return self.factor(ridge, left_out).solve(moments)

    def factor(self, ridge: float, left_out: int | None = None) -> Factor:
        """What `solve` solves with, or with the next larger ridge (times 10) that rounding errors leave solvable.

        Raises:
            InvalidValue: there is none, for sums overflowed.
        """
        gram = self.gram.sum(0)
        if left_out is not None:
            gram -= self.gram[left_out]
        diagonal = gram.diagonal()[:-1]
        unit, added = float(diagonal.mean()) or 1.0, 0.0  # inputs that are all 0: nothing to solve
        while ridge <= MAX_RIDGE:
            diagonal += ridge * unit - added
            added = ridge * unit
            triangle, failed = torch.linalg.cholesky_ex(gram)
            if not failed:
                return Factor(triangle, ridge, added)
            ridge *= 10  # sums in the network's precision were not precise enough for this one
        raise InvalidValue("a layer's activations are too large, or too different, for its weights to be solved again.")

    def error(self, added: Tensor, fold: int) -> float:
        """By how much weights change the squared error of a fold; negative where they lower it."""
        return float((added * (self.gram[fold] @ added - 2 * self.moments[fold])).sum())
