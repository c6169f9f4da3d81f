"""Bernoulli agent: an independent logit for each connection, trained by policy gradient. No memory; numpy only.

Shapes: E skip connections, B masks of a batch.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import InstanceOf

from ads_gym.agents.base import AtLeastTwo, Epochs, Floats, Optimiser, Positive, initial_logit, objectives_of
from ads_gym.agents.starts import STARTS, start_logits, start_masks
from ads_gym.problem import Problem, Scored
from ads_gym.records import Masks, Seed, Text, checked
from ads_gym.topology import BoolArray

MIN_STD = 1e-4  # added to the standard deviation of objectives: equal objectives give no signal


class Bernoulli(Optimiser):
    """Policy gradient on independent bits.

    PPO's clipped objective with a leave-one-out baseline, by Adam. A mask above the MACs limit is projected, and is
    learned from as if it had been drawn so.

    Args:
        problem: what is searched.
        seed: of all random numbers.
        batch_size: masks between updates.
        n_epochs: Adam steps on each batch.
        clip_range: largest difference of a probability ratio from 1 that still has a gradient.
        learning_rate: of Adam.
        start: what it keeps more often at first: "residual", "magnitude", "saliency", "gates", or an architecture's
            path; see `ads_gym.agents.starts`.

    Attributes:
        logits: float64 [E]: of the probability of keeping each connection.

    Raises:
        InvalidValue: an option out of range.
    """

    source = "Williams 1992; Schulman et al. 2017"

    @checked
    def __init__(
        self,
        problem: InstanceOf[Problem],
        *,
        seed: Seed = 0,
        batch_size: AtLeastTwo = 8,
        n_epochs: Epochs = 4,
        clip_range: Positive = 0.2,
        learning_rate: Positive = 0.3,
        start: Text | None = None,
    ) -> None:
        super().__init__(problem, seed=seed)
        self.batch_size, self._n_epochs, self._clip_range = batch_size, n_epochs, clip_range
        logits = start_logits(start_masks(problem, start, STARTS, seed), initial_logit(problem))
        self.logits = logits if self._logits_size() > 1 else logits.mean(keepdims=True)
        self._adam = Adam(len(self.logits), learning_rate)

    def _logits_size(self) -> int:
        return self.problem.topology.size

    @checked
    def ask(self, n: Masks) -> BoolArray:
        """Draw n masks bool [n, E], projected to the MACs limit."""
        masks = self.rng.random((n, self.problem.topology.size)) < sigmoid(self.logits)
        return np.stack([self.problem.project(mask, self.rng) for mask in masks])

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Take Adam steps on one batch."""
        masks, objectives = objectives_of(self.problem, masks, scores)
        if len(masks) < 2:  # no other mask to compare with
            return
        advantages = (objectives - objectives.mean()) * len(masks) / (len(masks) - 1)
        advantages = (advantages / (objectives.std(ddof=1) + MIN_STD))[:, None]  # [B, 1]
        old = log_probabilities(masks, self.logits)
        for _ in range(self._n_epochs):
            gradient = clipped_gradient(masks, self.logits, old, advantages, self._clip_range)
            shared = gradient if len(self.logits) > 1 else gradient.sum(keepdims=True)
            self.logits = self._adam.step(self.logits, -shared)


class Adam:
    """Adam (Kingma and Ba 2015) with the defaults of `torch.optim.Adam`.

    Args:
        size: number of parameters.
        learning_rate: of every step.
    """

    def __init__(self, size: int, learning_rate: float) -> None:
        self._learning_rate = learning_rate
        self._mean, self._square = np.zeros(size), np.zeros(size)
        self._steps = 0

    def step(self, parameters: Floats, gradient: Floats, betas: tuple[float, float] = (0.9, 0.999)) -> Floats:
        """Return the parameters [size] after one step down the gradient [size]."""
        self._steps += 1
        self._mean += (1 - betas[0]) * (gradient - self._mean)
        self._square += (1 - betas[1]) * (gradient**2 - self._square)
        mean, square = self._mean / (1 - betas[0] ** self._steps), self._square / (1 - betas[1] ** self._steps)
        return np.asarray(parameters - self._learning_rate * mean / (np.sqrt(square) + 1e-8))


def clipped_gradient(masks: BoolArray, logits: Floats, old: Floats, advantages: Floats, clip_range: float) -> Floats:
    """Return the gradient float64 [E] of PPO's clipped objective, a mean over bits, with respect to each bit's logit.

    Args:
        masks: bool [B, E].
        logits: float64 [E], or [1] where all bits share one.
        old: float64 [B, E]: log probability of each bit when it was drawn.
        advantages: float64 [B, 1].
        clip_range: as in `Bernoulli`.
    """
    ratio = np.exp(log_probabilities(masks, logits) - old)
    clipped = np.clip(ratio, 1 - clip_range, 1 + clip_range)
    has_gradient = ratio * advantages <= clipped * advantages  # elsewhere the objective is constant
    slope = np.where(has_gradient, ratio * advantages, 0.0)
    return np.asarray((slope * (masks - sigmoid(logits))).sum(axis=0) / masks.size)


def log_probabilities(masks: BoolArray, logits: Floats) -> Floats:
    """Return the log probability float64 [B, E] of each bit of masks bool [B, E]."""
    return np.asarray(-np.logaddexp(0, np.where(masks, -logits, logits)))


def sigmoid(logits: Floats) -> Floats:
    """Return probabilities of logits, without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))
