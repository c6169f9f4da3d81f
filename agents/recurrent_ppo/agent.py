"""Proximal policy optimisation with an LSTM and action masks.

J. Schulman et al., "Proximal Policy Optimization Algorithms", 2017; masks as in S. Huang and S. Ontañón, "A Closer Look
at Invalid Action Masking in Policy Gradient Algorithms", 2022; memory as in M. Hausknecht and P. Stone, "Deep Recurrent
Q-Learning for Partially Observable MDPs", 2015: a rollout is learned from as one sequence, with the state that it began
with. Shapes: n observations, A = sum of the numbers of actions.
"""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ads_gym import files
from ads_gym.agents.base import Epochs, NotNegative
from ads_gym.agents.recurrent_ppo.environments import Environments, legal
from ads_gym.agents.recurrent_ppo.network import ActorCritic, State, draw
from ads_gym.agents.recurrent_ppo.rollout import Played, Rollout, advantages
from ads_gym.errors import InvalidValue, shown, unknown_name
from ads_gym.limits import MAX_EVALUATIONS, MAX_GROWTH, MAX_MASKS, MAX_POLICY_BYTES
from ads_gym.nets.tensorfile import load_weights, read_safetensors, to_safetensors
from ads_gym.records import Count, Format, JsonObject, Seed, Share, checked, record

STEPS = 128  # of a rollout, where episodes have no length that is known
MIN_STD = 1e-8


@record
class RecurrentPPOConfig:
    """Settings of `RecurrentPPO`."""

    n_steps: Annotated[int, Field(ge=1, le=MAX_MASKS)] | None = (
        None  # of a rollout; None: an episode's, where it is known
    )
    n_epochs: Epochs = 4  # Adam steps on each rollout
    learning_rate: NotNegative = 0.003  # of Adam
    gamma: Share = 1.0  # discount; 1 is for episodes that end
    gae_lambda: Share = 1.0  # of advantages: 1 believes returns, 0 values
    clip_range: NotNegative = 0.2  # largest difference of a probability ratio from 1 that still has a gradient
    ent_coef: NotNegative = 0.003  # weight of the entropy
    vf_coef: NotNegative = 0.5  # weight of the value's squared error
    max_grad_norm: NotNegative = 0.5
    hidden_size: Annotated[int, Field(ge=1, le=MAX_GROWTH)] = 64  # units of encoder and LSTM


@record
class PPORecord:
    """What is written of a policy beside its weights."""

    observation_size: Count
    choices: Annotated[tuple[Count, ...], Field(min_length=1, max_length=MAX_MASKS)]
    seed: Seed
    options: JsonObject


POLICY = Format("ads-gym recurrent-ppo policy", 1, "policy", PPORecord)


class RecurrentPPO:
    """PPO with an LSTM and action masks, for any environment.

    Args:
        env: a Gymnasium environment, or a vector of them, with discrete or multi-discrete actions; see `Environments`.
        seed: of all random numbers.
        options: fields of `RecurrentPPOConfig`.

    Raises:
        UnknownName, InvalidValue: an unknown option, or one out of range; an environment that it cannot step.
    """

    num_envs = 8
    observation = "flat"
    source = "Schulman et al. 2017; Huang and Ontañón 2022"

    @checked
    def __init__(self, env: Any, *, seed: Seed = 0, **options: Any) -> None:
        known = {field.name for field in fields(RecurrentPPOConfig)}
        for name in options:
            if name not in known:
                raise unknown_name("option of agent recurrent-ppo:", name, known)
        self.config, self.seed = RecurrentPPOConfig(**options), seed
        self._envs = Environments(env)
        self.policy = ActorCritic(self._envs.observation_size, self._envs.choices, self.config.hidden_size, seed)
        self._adam = torch.optim.Adam(self.policy.parameters(), self.config.learning_rate, eps=1e-5)
        self._prediction_rng = np.random.default_rng([seed, 1])
        self._n_steps = self.config.n_steps or self._envs.episode_length or STEPS
        self._rollout = Rollout(self._envs, self.policy, seed)
        self.num_timesteps = 0

    @checked
    def learn(self, total_timesteps: Annotated[int, Field(ge=0, le=MAX_EVALUATIONS)]) -> Self:
        """Train for about so many steps, of all environments together, or until the budget is spent."""
        last = self.num_timesteps + total_timesteps
        while self.num_timesteps < last:
            played, state = self._rollout.play(self._n_steps)
            self.num_timesteps += int(played.counts.sum())
            if played.counts.any():  # not where every step only resets
                self._update(played, state)
        return self

    def predict(
        self,
        observation: NDArray[Any],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.int64], tuple[NDArray[Any], ...]]:
        """Return actions, as Stable-Baselines3's `evaluate_policy` asks for them. Training is not affected.

        Args:
            observation: of a single environment, or of n.
            state: returned by the last call; None at the beginning.
            episode_start: bool [n], where an episode begins; None: nowhere, unless `state` is None.
            deterministic: return the most probable action instead of drawing one.
            action_masks: bool [A] or [n, A], or numbers that are 0 where it is not legal; None: all are legal.

        Returns:
            The actions, and the state for the next call.

        Raises:
            InvalidValue: observations or masks of another environment.
        """
        flat, is_single = self._envs.flat_for_prediction(observation)
        count = len(flat)
        if state is None:
            hidden, starts = self.policy.initial_state(count), np.ones(count, np.bool_)
        else:
            hidden = torch.from_numpy(np.asarray(state[0])), torch.from_numpy(np.asarray(state[1]))
            starts = np.zeros(count, np.bool_) if episode_start is None else np.asarray(episode_start, np.bool_)
        every = np.ones((count, sum(self.policy.choices)), np.bool_)
        masks = every if action_masks is None else legal(action_masks, self.policy.choices, count)
        with torch.no_grad():
            features, hidden = self.policy.features(
                torch.from_numpy(flat).unsqueeze(0), torch.from_numpy(starts.reshape(1, count)), hidden
            )
            logits = self.policy.logits(features, torch.from_numpy(masks).unsqueeze(0))
            actions = draw(logits, None if deterministic else self._prediction_rng)[0].numpy()
        chosen = actions[:, 0] if self._envs.is_discrete else actions
        return (chosen[0] if is_single else chosen), (hidden[0].numpy(), hidden[1].numpy())

    def save(self, path: str | Path) -> None:
        """Write the policy: settings to `path`.json, weights to `path`.safetensors.

        Raises:
            StorageError: no space or no permission.
        """
        settings = PPORecord(self._envs.observation_size, self._envs.choices, self.seed, asdict(self.config))
        description, weights = _paths(path)
        files.write_files(
            {weights: to_safetensors(self.policy.state_dict()), description: POLICY.text(settings) + "\n"}
        )

    @classmethod
    def load(cls, path: str | Path, env: Any) -> Self:
        """Return the agent that `save` wrote: it predicts the same, and `learn` trains it further with a new optimiser.

        Args:
            path: as given to `save`.
            env: with the same observations and actions.

        Raises:
            NotFound, DamagedFile: no such policy, or files that cannot be used.
            InvalidValue: an environment with other observations or actions.
        """
        description, weights = _paths(path)
        stored = POLICY.read(description)
        with files.naming(description, "policy"):
            agent = cls(env, seed=stored.seed, **stored.options)
        if (stored.observation_size, stored.choices) != (agent._envs.observation_size, agent._envs.choices):
            raise InvalidValue(
                f"the policy {description} reads {stored.observation_size} numbers and chooses among "
                f"{shown(stored.choices)} actions, and the environment has {agent._envs.observation_size} and "
                f"{shown(agent._envs.choices)}: give one with the same."
            )
        load_weights(agent.policy, read_safetensors(weights, "policy", MAX_POLICY_BYTES), weights)
        return agent

    def _update(self, played: Played, state: State) -> None:
        """Take Adam steps on a rollout that began with a state."""
        config, counts = self.config, played.counts
        gains = advantages(played, config.gamma, config.gae_lambda)
        returns, chosen = gains + played.values, gains[counts]
        gains = (gains - chosen.mean()) / (chosen.std(correction=0) + MIN_STD)
        for _ in range(config.n_epochs):
            features, _ = self.policy.features(played.observations, played.starts, state)
            judged = self.policy.judge(features, played.masks, played.actions)
            ratio = (judged.log_probability - played.log_probabilities).exp()
            clipped = ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
            gain = torch.minimum(ratio * gains, clipped * gains) + config.ent_coef * judged.entropy
            loss = (config.vf_coef * (judged.value - returns) ** 2 - gain)[counts].mean()
            self._adam.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), config.max_grad_norm)
            self._adam.step()


def _paths(path: str | Path) -> tuple[Path, Path]:
    """The two files of a policy."""
    stem = files.resolve(path)
    return stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.safetensors")
