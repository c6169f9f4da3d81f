"""One free logit per connection and no network: the control that a recurrent policy must beat."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ads_gym.agents.base import MaskAgent, Played
from ads_gym.errors import InvalidValue
from ads_gym.topology import BoolArray


class Bernoulli(MaskAgent):
    """Clipped policy gradient (PPO's objective, Schulman et al. 2017) on independent bits; leave-one-out baseline.

    It knows nothing of what was decided before, neither by itself nor by others.

    Args:
        env: a single environment, any decision mode.
        seed: of all that it draws.
        batch: episodes between updates.
        updates: Adam steps on each batch.
        clip: how far a probability ratio may leave 1 in them.
        rate: Adam's learning rate.

    Raises:
        InvalidValue: an option out of range.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        seed: int = 0,
        batch: int = 8,
        updates: int = 4,
        clip: float = 0.2,
        rate: float = 0.3,
    ) -> None:
        super().__init__(env, seed)
        if not (batch >= 2 and updates >= 1 and clip > 0 and rate > 0):
            raise InvalidValue(
                f"batch must be at least 2, updates at least 1, clip and rate above 0; got {batch}, {updates}, {clip}, "
                f"{rate}."
            )
        self._batch, self._updates, self._clip = batch, updates, clip
        start = min(0.5, self.game.room)  # under a limit, the density that fits
        self.logits = torch.full(self._shape(), float(np.log(start / (1 - start))), requires_grad=True)
        self._adam = torch.optim.Adam([self.logits], lr=rate)

    def _shape(self) -> tuple[int]:
        """Of the logits: (E,), or (1,) for one that all connections share."""
        return (self.game.size,)

    def propose(self, deterministic: bool) -> BoolArray:
        """A mask bool[E] drawn from the probabilities, or the likelier bits; played, it keeps what fits in order."""
        keep = torch.sigmoid(self.logits.detach()).numpy()
        return np.broadcast_to(keep > (0.5 if deterministic else self.rng.random(self.game.size)), self.game.size)

    def learn(self, total_timesteps: int) -> "Bernoulli":
        """Plays and learns for `total_timesteps` steps, or until the budget ends."""
        steps = 0
        while steps < total_timesteps:
            batch = [self.play(self.propose(deterministic=False)) for _ in range(self._batch)]
            steps += sum(played.steps for played in batch)
            self._update(batch)
        return self

    def _update(self, batch: list[Played]) -> None:
        """Some Adam steps on one batch of B episodes."""
        masks = np.stack([played.mask for played in batch])
        open_ = torch.from_numpy(self.game.choices(np.stack([played.given for played in batch]), masks))  # [B, E]
        kept = torch.from_numpy(masks)
        scores = torch.tensor([played.score for played in batch], dtype=torch.float32)
        advantage = (scores - scores.mean()) * len(batch) / (len(batch) - 1)
        advantage = (advantage / (scores.std() + 1e-4)).unsqueeze(-1)  # [B, 1]; 1e-4: no signal in equal scores
        before = self._logs(kept).detach()
        for _ in range(self._updates):
            ratio = (self._logs(kept) - before).exp()
            clipped = ratio.clamp(1 - self._clip, 1 + self._clip)
            gain = torch.minimum(ratio * advantage, clipped * advantage)
            self._adam.zero_grad()
            (-(gain * open_).sum() / open_.sum().clamp(min=1)).backward()  # type: ignore[no-untyped-call]
            self._adam.step()

    def _logs(self, kept: Tensor) -> Tensor:
        """Log probability [B, E] of each bit of `kept` bool[B, E]."""
        return torch.nn.functional.logsigmoid(torch.where(kept, self.logits, -self.logits))
