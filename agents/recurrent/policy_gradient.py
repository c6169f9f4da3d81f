"""Policy gradient on finished episodes, and cross-entropy on the best masks.

PPO's clipped objective (J. Schulman et al., "Proximal Policy Optimization Algorithms", 2017) without a value network:
the baseline of an episode is the mean of the others in its batch (leave-one-out). Shapes as in `policy`; the B episodes
of a batch are its first columns, and the best masks follow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ads_gym.agents.base import Epochs, NotNegative, Positive
from ads_gym.agents.recurrent.policy import EpisodeBatch, RecurrentPolicy, episode_batch
from ads_gym.agents.recurrent.rollout import Episode
from ads_gym.problem import Problem
from ads_gym.records import record
from ads_gym.topology import UNDECIDED, BoolArray

MIN_STD = 1e-4  # of returns: smaller differences give no signal
STD_DECAY = 0.99  # a batch: near the end all returns are alike, and their noise must not be scaled up


@record
class PolicyGradientConfig:
    """Settings of `PolicyGradient`."""

    n_epochs: Epochs = 4  # Adam steps on each batch
    clip_range: NotNegative = 0.2  # largest difference of a probability ratio from 1 that still has a gradient
    logit_learning_rate: NotNegative = 0.03  # of Adam, for the logits
    learning_rate: NotNegative = 0.003  # of Adam, for all other weights
    decay_batches: Positive = 256.0  # batches after which both learning rates are down to 1/sqrt(2)
    imitation: NotNegative = 1.0  # weight of the cross-entropy on the best masks
    exact_cost: bool = True  # take the known cost out of the returns, and add its exact gradient


class Target(NamedTuple):
    """What all updates on one batch share."""

    log_probabilities: Tensor  # [T, B]: of the actions when they were taken
    advantages: Tensor  # [T, B], of standard deviation 1 or less
    price: float  # of relative cost 1 in the same unit; 0 where the advantages contain the cost


class PolicyGradient:
    """Updates a policy by the returns of its episodes.

    Args:
        policy: changed in place.
        problem: that the episodes are of.
        config: settings.
    """

    def __init__(self, policy: RecurrentPolicy, problem: Problem, config: PolicyGradientConfig) -> None:
        self._policy, self._problem, self._config = policy, problem, config
        others = [weight for name, weight in policy.named_parameters() if name != "logits"]
        self._adam = torch.optim.Adam(
            [
                {"params": [policy.logits], "lr": config.logit_learning_rate},
                {"params": others, "lr": config.learning_rate},
            ]
        )
        decay = config.decay_batches
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._adam, lambda batches: (1 + batches / decay) ** -0.5)
        self._std = MIN_STD

    def update(self, episodes: Sequence[Episode], best: Sequence[BoolArray]) -> None:
        """Take Adam steps on a batch of episodes and on the best masks, bool [E] each, with nothing given."""
        free = np.full(self._problem.topology.size, UNDECIDED, np.int8)
        given = np.stack([episode.given for episode in episodes] + [free] * len(best))
        masks = np.stack([episode.mask for episode in episodes] + list(best))
        batch = episode_batch(self._problem, given, masks)
        target: Target | None = None
        for _ in range(self._config.n_epochs):
            keep, _ = self._policy(batch.inputs)
            log_probabilities = torch.where(batch.is_choice, torch.where(batch.kept > 0, keep, 1 - keep), 1).log()
            if target is None:
                target = self._target(episodes, batch, keep.detach(), log_probabilities.detach())
            loss = self._loss(batch, keep, log_probabilities, target)
            self._adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._adam.step()
        self._schedule.step()

    def _loss(self, batch: EpisodeBatch, keep: Tensor, log_probabilities: Tensor, target: Target) -> Tensor:
        """Return the loss: a mean over the choices of the episodes, and one over those of the best masks."""
        count = target.advantages.shape[1]
        ratio = (log_probabilities[:, :count] - target.log_probabilities).exp()
        clipped = ratio.clamp(1 - self._config.clip_range, 1 + self._config.clip_range)
        gain = torch.minimum(ratio * target.advantages, clipped * target.advantages)
        gain = gain - target.price * (batch.price * keep)[:, :count]
        is_choice = batch.is_choice[:, :count]
        loss = -(gain * is_choice).sum() / is_choice.sum().clamp(min=1)
        if log_probabilities.shape[1] > count:
            likelihood = log_probabilities[:, count:].sum() / batch.is_choice[:, count:].sum().clamp(min=1)
            loss = loss - self._config.imitation * likelihood
        return loss

    def _target(
        self, episodes: Sequence[Episode], batch: EpisodeBatch, keep: Tensor, log_probabilities: Tensor
    ) -> Target:
        """Return the advantages: how far the return of an episode is above the mean return of the others.

        With `exact_cost` an action is judged neither by its own cost, whose exact gradient is in the loss, nor by that
        of earlier actions, which it does not change; later costs count by their expectation.
        """
        count = len(episodes)
        returns = torch.tensor([episode.objective for episode in episodes], dtype=torch.float64)
        self._std = max(float(returns.std()), MIN_STD, STD_DECAY * self._std)
        outcome, price = returns.expand(len(keep), count), 0.0
        if self._config.exact_cost:
            weight, costs = self._problem.objective.cost_weight, self._problem.cost.relative_costs
            cost = torch.from_numpy(np.stack([episode.mask for episode in episodes]) @ costs)
            expected = (batch.price * keep * batch.is_choice)[:, :count]
            later = expected.flip(0).cumsum(0).flip(0) - expected
            outcome, price = returns + weight * (cost - later), weight / self._std
        advantages = (outcome - outcome.mean(dim=1, keepdim=True)) * (count / (count - 1))
        return Target(log_probabilities[:, :count], (advantages / self._std).to(torch.float32), price)
