"""Steps of all environments with the policy as it is, and their advantages.

Shapes: T steps of a rollout, N environments, O numbers of an observation, A = sum of the numbers of actions.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ads_gym.agents.recurrent_ppo.environments import Environments, Step
from ads_gym.agents.recurrent_ppo.network import ActorCritic, State, draw


class Played(NamedTuple):
    """What PPO learns from: T steps of N environments."""

    observations: Tensor  # float32 [T, N, O]
    starts: Tensor  # bool [T, N]: where an episode begins
    counts: Tensor  # bool [T, N]: not the step that only resets
    masks: Tensor  # bool [T, N, A]: what was legal
    actions: Tensor  # int64 [T, N, parts]
    log_probabilities: Tensor  # [T, N]: of the actions, when they were taken
    values: Tensor  # [T, N], then
    rewards: Tensor  # [T, N]
    ended: Tensor  # bool [T, N]: the episode, with this step
    following: Tensor  # [T, N]: the value of what comes after; 0 after an end, unless the episode was cut off


class Rollout:
    """Plays all environments, from where it was before.

    Args:
        envs: that are stepped.
        policy: that chooses; not changed.
        seed: of the environments and of the choices.
    """

    def __init__(self, envs: Environments, policy: ActorCritic, seed: int) -> None:
        self._envs, self._policy, self._seed = envs, policy, seed
        self._rng = np.random.default_rng(seed)
        self._observations: Tensor | None = None  # [N, O]; None: no episode has begun
        self._starts = torch.ones(envs.count, dtype=torch.bool)
        self._resets = torch.zeros(envs.count, dtype=torch.bool)  # where the next step only resets
        self._state = policy.initial_state(envs.count)

    @torch.no_grad()
    def play(self, steps: int) -> tuple[Played, State]:
        """Return so many steps of every environment, and the state before the first."""
        envs, policy, began = self._envs, self._policy, self._state
        if self._observations is None:
            self._observations = torch.from_numpy(envs.reset(self._seed))
        rows = [self._step() for _ in range(steps)]
        observations, starts = self._observations, self._starts
        features, _ = policy.features(observations.unsqueeze(0), starts.unsqueeze(0), self._state)
        played = Played(*(torch.stack(column) for column in zip(*rows, strict=True)))
        next_values = torch.cat([played.values[1:], policy.values(features)])
        following = torch.where(played.ended, played.following, next_values)
        if envs.resets_later:  # the step after an end sees the last observation, and only resets
            following = torch.where(torch.isnan(played.following), next_values, following)
        return played._replace(following=following), began

    def _step(self) -> tuple[Tensor, ...]:
        """Take a step; `following` is told for episodes that end, NaN: by the value of the next step."""
        envs, policy, observations = self._envs, self._policy, self._observations
        assert observations is not None
        starts, counts = self._starts, ~self._resets
        features, self._state = policy.features(observations.unsqueeze(0), starts.unsqueeze(0), self._state)
        masks = torch.from_numpy(envs.masks())
        actions = draw(policy.logits(features, masks.unsqueeze(0)), self._rng)
        judged = policy.judge(features, masks.unsqueeze(0), actions)
        step = envs.step(actions[0].numpy())
        ended = torch.from_numpy(step.terminated | step.truncated)
        rewards, following = torch.from_numpy(step.rewards).float(), self._after_cut(step)
        self._observations = torch.from_numpy(step.observations)
        self._starts, self._resets = (self._resets, ended) if envs.resets_later else (ended, self._resets)
        chosen = judged.log_probability[0], judged.value[0]
        return observations, starts, counts, masks, actions[0], *chosen, rewards, ended, following

    def _after_cut(self, step: Step) -> Tensor:
        """The value [N] after episodes that were cut off, 0 elsewhere; NaN where the next step tells."""
        is_cut = torch.from_numpy(step.truncated & ~step.terminated)
        values = torch.zeros(len(is_cut))
        if self._envs.resets_later:
            return values.masked_fill(is_cut, torch.nan)
        if step.last is not None and is_cut.any():
            last, none_starts = torch.from_numpy(step.last), torch.zeros(1, len(is_cut), dtype=torch.bool)
            features, _ = self._policy.features(last.unsqueeze(0), none_starts, self._state)
            values = torch.where(is_cut, self._policy.values(features)[0], values)
        return values


def advantages(played: Played, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates [T, N] (J. Schulman et al., 2016)."""
    errors = played.rewards + gamma * played.following - played.values
    goes_on = gamma * gae_lambda * (~played.ended & played.counts)
    found, total = torch.zeros_like(errors), torch.zeros_like(errors[0])
    for step in reversed(range(len(errors))):
        total = errors[step] + goes_on[step] * total
        found[step] = total
    return found
