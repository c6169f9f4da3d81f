"""The critic against plain linear algebra, and what it learns of a game."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.spatial.distance import cdist

from ads_gym.agents.bayes.surrogate import NOISE, Critic

RNG = np.random.default_rng(0)
RELEVANT = np.r_[np.full(4, 2.0), np.full(16, 0.05)]  # a few of 20 bits decide most


def game(masks):
    """Scores in which neighbours of relevant bits interact."""
    signs = np.where(masks, 1.0, -1.0) * RELEVANT
    return signs.sum(axis=1) + 0.5 * signs[:, 0] * signs[:, 1]


def draw(count):
    return RNG.random((count, 20)) < 0.5


@pytest.fixture
def known():
    masks = draw(60)
    critic = Critic(20)
    critic.learn(masks, game(masks))
    return critic, masks


def test_it_is_the_textbook_process(known):
    critic, masks = known
    relevances = np.exp(critic._logs)
    kernel = lambda a, b: np.exp(-cdist(a * relevances, b * relevances, "cityblock"))  # noqa: E731
    asked = draw(30)
    scores = game(masks)
    targets = (scores - scores.mean()) / scores.std()
    inverse = np.linalg.inv(kernel(masks, masks) + NOISE * np.eye(60))
    across = kernel(asked, masks)
    mean = across @ inverse @ targets
    spread = np.sqrt((targets @ inverse @ targets / 60) * (1 - np.diag(across @ inverse @ across.T)))
    for trust in (0.0, 2.5):
        wanted = (mean + trust * spread) * scores.std() + scores.mean()
        np.testing.assert_allclose(critic.bound(asked, trust), wanted, rtol=1e-5)


def test_it_is_sure_of_what_it_knows_and_in_doubt_far_from_it(known):
    critic, masks = known
    np.testing.assert_allclose(critic.bound(masks, 0.0), game(masks), atol=0.05)
    doubt = lambda asked: critic.bound(asked, 1.0) - critic.bound(asked, 0.0)  # noqa: E731
    assert doubt(masks).max() < doubt(draw(200)).min()


def test_it_finds_which_bits_matter_and_predicts_better_for_it(known):
    critic, masks = known
    assert critic._logs[:4].min() > critic._logs[4:].max()
    equal = Critic(20)
    equal._learned_at = 60  # keeps its first relevances, all alike
    equal.learn(masks, game(masks))
    asked = draw(500)
    errors = [np.std(each.bound(asked, 0.0) - game(asked)) for each in (critic, equal)]
    assert errors[0] < 0.4 * errors[1]


def test_the_gradient_is_that_of_the_misfit(known):
    critic, masks = known
    scores = game(masks)
    targets = (scores - scores.mean()) / scores.std()
    where = RNG.normal(-2.0, 0.5, 20)
    error = check_grad(
        lambda logs: critic._misfit(logs, targets)[0], lambda logs: critic._misfit(logs, targets)[1], where
    )
    assert error < 1e-3 * np.linalg.norm(critic._misfit(where, targets)[1])


def test_it_remembers_the_best_and_the_latest():
    masks = np.unique(draw(300), axis=0)[RNG.permutation(300)]
    scores = game(masks)
    critic = Critic(20, memory=40)
    critic.learn(masks, scores)
    assert len(critic._signs) <= 40
    for group in (np.argsort(-scores)[:20], np.arange(280, 300)):
        np.testing.assert_allclose(critic.bound(masks[group], 0.0), scores[group], atol=0.2)


@pytest.mark.parametrize("scores", [np.full(5, 0.3), np.array([0.3, 0.3, 0.3, 0.3, 0.3 + 1e-16])])
def test_equal_scores_teach_nothing_and_break_nothing(scores):
    critic = Critic(20)
    critic.learn(draw(5), scores)
    np.testing.assert_allclose(critic.bound(draw(50), 3.0), 0.3, atol=1e-6)


def test_one_mask_is_enough_to_begin():
    critic = Critic(20)
    critic.learn(draw(1), np.array([0.7]))
    assert np.isfinite(critic.bound(draw(10), 3.0)).all()
