"""Independent bits: their policy gradient against torch's, and what they learn."""

import numpy as np
import pytest
import torch
from planted_problems import optimise, planted, problem_of

from ads_gym.agents.bernoulli import Bernoulli, clipped_gradient, log_probabilities, sigmoid
from ads_gym.agents.density import Density
from ads_gym.problem import Scored, make_problem


class TorchBernoulli:
    """The same updates, by autograd and torch.optim."""

    def __init__(self, logits, n_epochs=4, clip_range=0.2, learning_rate=0.3):
        self.logits = torch.tensor(logits, requires_grad=True)
        self.adam = torch.optim.Adam([self.logits], lr=learning_rate)
        self.n_epochs, self.clip_range = n_epochs, clip_range

    def log_probabilities(self, kept):
        return torch.nn.functional.logsigmoid(torch.where(kept, self.logits, -self.logits))

    def tell(self, masks, objectives):
        kept, returns = torch.from_numpy(masks), torch.tensor(objectives, dtype=torch.float64)
        advantages = (returns - returns.mean()) * len(masks) / (len(masks) - 1)
        advantages = (advantages / (returns.std() + 1e-4)).unsqueeze(-1)
        old = self.log_probabilities(kept).detach()
        for _ in range(self.n_epochs):
            ratio = (self.log_probabilities(kept) - old).exp()
            clipped = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
            self.adam.zero_grad()
            (-torch.minimum(ratio * advantages, clipped * advantages).mean()).backward()
            self.adam.step()


@pytest.mark.parametrize("optimiser", [Bernoulli, Density])
def test_its_updates_are_those_of_autograd_and_adam(optimiser):
    problem = make_problem("planted-45", max_macs=0.7)
    ours = optimiser(problem, seed=0)
    theirs = TorchBernoulli(ours.logits)
    for _ in range(60):
        masks = ours.ask(8)
        scores = problem.score(masks)
        theirs.tell(masks, [score.objective for score in scores])
        ours.tell(masks, scores)
        np.testing.assert_allclose(ours.logits, theirs.logits.detach().numpy(), atol=1e-7)
    assert np.abs(ours.logits).max() > 0.5


def test_its_gradient_is_that_of_the_clipped_objective():
    rng = np.random.default_rng(0)
    masks, logits = rng.random((6, 12)) < 0.5, rng.normal(size=12)
    old = log_probabilities(masks, logits + rng.normal(scale=0.3, size=12))  # some ratios are beyond the clip range
    advantages = rng.normal(size=(6, 1))

    def objective(where):
        ratio = np.exp(log_probabilities(masks, where) - old)
        return np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages).mean()

    numeric = [(objective(logits + step) - objective(logits - step)) / 2e-6 for step in 1e-6 * np.eye(12)]
    np.testing.assert_allclose(clipped_gradient(masks, logits, old, advantages, 0.2), numeric, atol=1e-8)


def test_large_logits_do_not_overflow():
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(sigmoid(np.array([-800.0, 0.0, 800.0])), [0, 0.5, 1])
        assert np.isfinite(log_probabilities(np.array([[True, False]]), np.array([-800.0, 800.0]))).all()


def test_equal_objectives_move_nothing():
    problem = make_problem("planted-20")
    made = Bernoulli(problem, seed=0)
    before = made.logits.copy()
    masks = made.ask(8)
    made.tell(masks, [Scored(None, 0.25)] * 8)
    np.testing.assert_allclose(made.logits, before, atol=1e-9)


def test_one_mask_alone_teaches_nothing():
    problem = make_problem("planted-20")
    made = Bernoulli(problem, seed=0)
    before = made.logits.copy()
    masks = made.ask(1)
    made.tell(masks, problem.score(masks))
    np.testing.assert_array_equal(made.logits, before)


def test_bernoulli_learns_which_and_density_only_how_many():
    evaluator = planted(5, 5)
    means = {}
    for optimiser in (Bernoulli, Density):
        problem, _ = problem_of(evaluator)
        made = optimiser(problem, seed=0)
        for _ in range(100):
            masks = made.ask(8)
            made.tell(masks, problem.score(masks))
        means[optimiser] = np.mean([score.objective for score in problem.score(made.ask(50))])
    majority = max(evaluator.optimum.mean(), 1 - evaluator.optimum.mean())
    assert means[Density] <= majority + 1e-9 < 0.95 < means[Bernoulli]


def test_it_begins_at_the_density_that_fits():
    problem, _ = problem_of(planted(6, 6, 6), max_macs=0.45)
    made = Bernoulli(problem, seed=0)
    room = problem.room / (problem.cost.dense_macs - problem.cost.least_macs)
    np.testing.assert_allclose(sigmoid(made.logits), room)
    assert 0.5 * room < problem.cost.relative_cost(made.ask(300)).mean() <= room


def test_it_spends_a_limit_on_all_blocks():
    problem, counted = problem_of(planted(6, 6, 6), 16, max_macs=0.5)
    optimise(Bernoulli(problem, seed=0), problem)
    kept = np.array(counted.masks)
    assert kept[:, -15:].mean() > 0.5 * kept[:, :15].mean() > 0
