"""The Gaussian process against scikit-learn's, and what it learns."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from ads_gym.agents.bayes.surrogate import NOISE, GaussianProcess

RELEVANT = np.r_[np.full(4, 2.0), np.full(16, 0.05)]  # a few of 20 bits decide most


def value_of(masks):
    """Values in which two of the relevant bits interact."""
    signs = np.where(masks, 1.0, -1.0) * RELEVANT
    return signs.sum(axis=1) + 0.5 * signs[:, 0] * signs[:, 1]


def draw(count, seed=0):
    return np.random.default_rng(seed).random((count, 20)) < 0.5


@pytest.fixture
def fitted():
    masks = draw(60)
    process = GaussianProcess(20)
    process.fit(masks, value_of(masks))
    return process, masks


def scikit_learn(process, masks):
    """The same process: weight w of a bit is an RBF length scale of sqrt(1 / 2w)."""
    values = value_of(masks)
    mean, scale = values.mean(), values.std()
    targets = (values - mean) / scale
    rbf = RBF(np.sqrt(0.5 / np.exp(process.log_weights)))
    unit = GaussianProcessRegressor(rbf, alpha=NOISE, optimizer=None).fit(masks.astype(float), targets)
    variance = float(targets @ unit.alpha_.ravel()) / len(masks)  # the most likely one
    regressor = GaussianProcessRegressor(ConstantKernel(variance) * rbf, alpha=NOISE * variance, optimizer=None)
    return regressor.fit(masks.astype(float), targets), mean, scale, targets


def test_mean_and_standard_deviation_are_scikit_learns(fitted):
    process, masks = fitted
    regressor, mean, scale, _ = scikit_learn(process, masks)
    asked = np.concatenate([draw(40, seed=1), masks[:5]])
    ours = process.predict(asked)
    theirs = regressor.predict(asked.astype(float), return_std=True)
    np.testing.assert_allclose(ours[0], theirs[0] * scale + mean, atol=1e-6)
    np.testing.assert_allclose(ours[1], theirs[1] * scale, atol=1e-6)
    assert np.ptp(theirs[0]) > 1 and theirs[1].max() > 0.05


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_the_log_marginal_likelihood_is_scikit_learns(fitted, shift):
    process, masks = fitted
    process.log_weights = process.log_weights + shift * np.random.default_rng(0).normal(size=20)
    regressor, *_, targets = scikit_learn(process, masks)
    constant = len(masks) / 2 * (1 + np.log(2 * np.pi))
    ours = -process.negative_log_likelihood(process.log_weights, targets)[0] - constant
    np.testing.assert_allclose(ours, regressor.log_marginal_likelihood_value_, atol=1e-6)


def test_the_gradient_is_that_of_the_likelihood(fitted):
    process, masks = fitted
    *_, targets = scikit_learn(process, masks)
    where = np.random.default_rng(0).normal(-2.0, 0.5, 20)
    likelihood = process.negative_log_likelihood
    error = check_grad(lambda x: likelihood(x, targets)[0], lambda x: likelihood(x, targets)[1], where)
    assert error < 1e-3 * np.linalg.norm(likelihood(where, targets)[1])


def test_a_fit_raises_the_likelihood(fitted):
    process, masks = fitted
    *_, targets = scikit_learn(process, masks)
    untrained = GaussianProcess(20).log_weights
    likelihood = process.negative_log_likelihood
    assert likelihood(process.log_weights, targets)[0] < likelihood(untrained, targets)[0] - 10


def test_it_is_certain_of_known_masks_and_less_so_of_others(fitted):
    process, masks = fitted
    mean, std = process.predict(masks)
    np.testing.assert_allclose(mean, value_of(masks), atol=0.05)
    assert std.max() < process.predict(draw(200, seed=1))[1].min()


def test_it_finds_the_relevant_bits_and_predicts_better_for_it(fitted):
    process, masks = fitted
    assert process.log_weights[:4].min() > process.log_weights[4:].max()
    equal = GaussianProcess(20)
    equal._refit_at = 61  # keeps its initial weights, all equal
    equal.fit(masks, value_of(masks))
    asked = draw(500, seed=1)
    errors = [np.std(each.predict(asked)[0] - value_of(asked)) for each in (process, equal)]
    assert errors[0] < 0.4 * errors[1]


def test_above_its_capacity_it_uses_the_best_and_the_latest():
    masks = np.unique(draw(300), axis=0)[np.random.default_rng(0).permutation(300)]
    values = value_of(masks)
    process = GaussianProcess(20, capacity=40)
    process.fit(masks, values)
    assert len(process._signs) <= 40
    for group in (np.argsort(-values)[:20], np.arange(280, 300)):
        np.testing.assert_allclose(process.predict(masks[group])[0], values[group], atol=0.2)


@pytest.mark.parametrize("values", [np.full(5, 0.3), np.array([0.3, 0.3, 0.3, 0.3, 0.3 + 1e-16])])
def test_equal_values_are_predicted_everywhere(values):
    process = GaussianProcess(20)
    process.fit(draw(5), values)
    mean, std = process.predict(draw(50, seed=1))
    np.testing.assert_allclose(mean + 3 * std, 0.3, atol=1e-6)


def test_one_mask_is_enough():
    process = GaussianProcess(20)
    process.fit(draw(1), np.array([0.7]))
    assert np.isfinite(process.predict(draw(10, seed=1))).all()
