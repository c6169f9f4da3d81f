"""The learner: clipped policy gradient on what was played, cross-entropy on the best masks known.

The objective is PPO's (Schulman et al., "Proximal Policy Optimization Algorithms", 2017) without a critic: the baseline
of an episode is the mean of the others in its batch (leave-one-out). Shapes as in `policy`; B episodes were played, and
the best masks stand behind them as further columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ads_gym.agents.base import Game, Played
from ads_gym.agents.recurrent.policy import RecurrentPolicy, Steps, replay
from ads_gym.topology import UNDECIDED, BoolArray

LEAST_SCALE = 1e-4  # of returns: when they differ by less, that is no reason to move
SCALE_DECAY = 0.99  # a batch: near the end all returns are alike, and their noise must not be blown up


@dataclass(frozen=True)
class LearnerConfig:
    """How `Learner` learns."""

    updates: int = 4  # Adam steps on each batch
    clip: float = 0.2  # how far a probability ratio may leave 1 in them
    free_rate: float = 0.03  # Adam's learning rate of the free logits
    rate: float = 0.003  # of all other weights
    halving: float = 256.0  # batches after which both rates are down to 1/sqrt(2)
    imitation: float = 1.0  # weight of the cross-entropy on the best masks
    exact_cost: bool = True  # take the known cost out of the returns, and its exact gradient instead


class Target(NamedTuple):
    """What the updates on one batch have in common."""

    logs: Tensor  # [T, B]: log probabilities of the actions when they were taken
    advantage: Tensor  # [T, B], about 1 in size
    price: float  # of relative cost 1, in the same unit; 0 where the advantage has the cost in it


class Learner:
    """Changes a policy by what came of its episodes.

    Args:
        policy: changed in place.
        game: that it plays.
        cost_weight: of the environment.
        config: how.
    """

    def __init__(self, policy: RecurrentPolicy, game: Game, cost_weight: float, config: LearnerConfig) -> None:
        self._policy, self._game, self._config = policy, game, config
        self._weight = cost_weight
        rest = [weight for name, weight in policy.named_parameters() if name != "free"]
        self._adam = torch.optim.Adam(
            [{"params": [policy.free], "lr": config.free_rate}, {"params": rest, "lr": config.rate}]
        )
        self._rates = torch.optim.lr_scheduler.LambdaLR(self._adam, lambda done: (1 + done / config.halving) ** -0.5)
        self._scale = LEAST_SCALE

    def update(self, batch: Sequence[Played], best: Sequence[BoolArray]) -> None:
        """Some Adam steps on a batch of episodes, and on the best masks known (bool[E] each, nothing given)."""
        free = np.full(self._game.size, UNDECIDED, np.int8)
        given = np.stack([played.given for played in batch] + [free] * len(best))
        steps = replay(self._game, given, np.stack([played.mask for played in batch] + list(best)))
        target: Target | None = None
        for _ in range(self._config.updates):
            keep, _ = self._policy(steps.look)
            logs = torch.where(steps.open, torch.where(steps.kept > 0, keep, 1 - keep), 1).log()
            if target is None:
                target = self._target(batch, steps, keep.detach(), logs.detach())
            loss = self._loss(steps, keep, logs, target)
            self._adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._adam.step()
        self._rates.step()

    def _loss(self, steps: Steps, keep: Tensor, logs: Tensor, target: Target) -> Tensor:
        """To be made small: a mean over the decisions of the batch, and one over those of the best masks."""
        played = target.logs.shape[1]
        ratio = (logs[:, :played] - target.logs).exp()
        clipped = ratio.clamp(1 - self._config.clip, 1 + self._config.clip)
        gain = torch.minimum(ratio * target.advantage, clipped * target.advantage)
        gain = gain - target.price * (steps.spent * keep)[:, :played]
        loss = -(gain * steps.open[:, :played]).sum() / steps.open[:, :played].sum().clamp(min=1)
        if logs.shape[1] > played:
            imitated = logs[:, played:].sum() / steps.open[:, played:].sum().clamp(min=1)
            loss = loss - self._config.imitation * imitated
        return loss

    def _target(self, batch: Sequence[Played], steps: Steps, keep: Tensor, logs: Tensor) -> Target:
        """Advantages: of an action, what its episode came to beyond what the others did.

        With `exact_cost` an action is not judged by what it or earlier ones cost, which its probability does not
        change or which the loss has exactly, and of later costs it is judged by what they were expected to be.
        """
        played = len(batch)
        scores = torch.tensor([episode.score for episode in batch], dtype=torch.float64)
        self._scale = max(float(scores.std()), LEAST_SCALE, SCALE_DECAY * self._scale)
        outcome, price = scores.expand(len(keep), played), 0.0
        if self._config.exact_cost:
            cost = torch.from_numpy(np.stack([episode.mask for episode in batch]) @ self._game.costs)
            expected = (steps.spent * keep * steps.open)[:, :played]
            later = expected.flip(0).cumsum(0).flip(0) - expected
            outcome, price = scores + self._weight * (cost - later), self._weight / self._scale
        advantage = (outcome - outcome.mean(dim=1, keepdim=True)) * (played / (played - 1))
        return Target(logs[:, :played], (advantage / self._scale).float(), price)
