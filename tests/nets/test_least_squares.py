"""Normal equations that rounding errors have spoilt."""

import pytest
import torch

from ads_gym.errors import InvalidValue
from ads_gym.nets.least_squares import NormalEquations


def equations(rows):
    """Of inputs [r, i], summed in float32, for one output that lacks what the first input gives."""
    with_one = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    gram = (with_one.T @ with_one).double()[None]
    return NormalEquations(gram, (with_one.T @ rows[:, :1]).double()[None])


def test_a_ridge_below_the_rounding_errors_is_raised_and_told():
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(40, 200, generator=generator) @ torch.rand(200, 300, generator=generator)  # of rank 40
    solvable = equations(rows)
    with pytest.raises(torch.linalg.LinAlgError):
        gram = solvable.gram.sum(0)
        torch.linalg.cholesky(gram + 1e-9 * gram.diagonal().mean() * torch.eye(301, dtype=torch.float64))
    factor = solvable.factor(1e-9)
    assert 1e-9 < factor.ridge <= 1e-3
    mean = solvable.gram[0].diagonal()[:-1].mean()
    assert factor.penalty == pytest.approx(factor.ridge * float(mean))
    damped = solvable.gram[0].clone()
    damped.diagonal()[:-1] += factor.penalty
    added = factor.solve(solvable.moments[0])
    assert torch.allclose(damped @ added, solvable.moments[0], rtol=1e-6, atol=1e-6 * float(damped.abs().max()))
    assert solvable.factor(1e-1).ridge == 1e-1


def test_sums_that_overflowed_are_told():
    with pytest.raises(InvalidValue, match="activations are too large"):
        equations(torch.full((4, 3), 1e30)).factor(1e-3)
