"""Policy gradient with a recurrent policy: the agent of "Automatic DenseNet Sparsification" (IEEE Access, 2020).

That paper's abstract names the recurrent agent and its reward; all else is our own. gamma is 1 throughout: episodes are
finite and the reward comes last, so a discount would only weigh the cost against it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from pydantic import Field

from ads_gym import files
from ads_gym.agents.base import AtLeastTwo, initial_logit
from ads_gym.agents.recurrent.policy import RecurrentPolicy, State, step_input
from ads_gym.agents.recurrent.policy_gradient import PolicyGradient, PolicyGradientConfig
from ads_gym.agents.recurrent.rollout import Episode, Rollout, StepInput, keep_is_legal
from ads_gym.agents.recurrent.saving import PolicyRecord, read_policy, write_policy
from ads_gym.agents.starts import STARTS, start_logits, start_masks
from ads_gym.errors import InvalidValue, shown, unknown_name
from ads_gym.limits import MAX_EVALUATIONS, MAX_GROWTH, MAX_MASKS
from ads_gym.nets.tensorfile import load_weights
from ads_gym.records import Seed, Text, check, checked, record
from ads_gym.topology import UNDECIDED, BoolArray

PolicyState = tuple[NDArray[Any], ...]  # of `predict`: hidden [n, H], cell [n, H], decisions int8 [n, E]


@record
class RecurrentConfig(PolicyGradientConfig):
    """Settings of `Recurrent`, besides those of its updates."""

    warmup: Annotated[int, Field(ge=0, le=MAX_MASKS)] = 32  # random masks that are scored before the first episode
    batch_size: AtLeastTwo = 8  # episodes between updates
    hidden_size: Annotated[int, Field(ge=1, le=MAX_GROWTH)] = 32  # units of the LSTM
    initial_keep: Annotated[float, Field(gt=0, lt=1)] = 0.5  # probability of KEEP at first, unless MACs allow less
    min_probability: Annotated[float, Field(ge=0, lt=0.5)] = 0.01  # of an action
    start: Text | None = None  # what it keeps more often at first, and tries first: see `ads_gym.agents.starts`
    elites: Annotated[int, Field(ge=0, le=MAX_MASKS)] = 5  # best masks that are imitated; 0: none


class Recurrent:
    """Policy gradient with an LSTM that decides in order.

    Clipped updates with a leave-one-out baseline, and imitation of its best masks. Where episodes begin with given
    decisions (`reset(options={"decided": ...})`, by a wrapper), no random masks are scored and none is imitated: the
    best mask depends on what was given.

    Args:
        env: a vector environment (see `Rollout`), or a single one; decision "connection", observation "matrix".
        seed: of all random numbers.
        options: fields of `RecurrentConfig`.

    Raises:
        UnknownName, InvalidValue: an unknown option, or one out of range; an environment that it cannot step.
    """

    source = "after Automatic DenseNet Sparsification, 2020"
    num_envs = 8
    observation = "matrix"
    Config: ClassVar[type[RecurrentConfig]] = RecurrentConfig

    @checked
    def __init__(self, env: Any, *, seed: Seed = 0, **options: Any) -> None:
        known = {field.name for field in fields(self.Config)}
        for name in options:
            if name not in known:
                raise unknown_name(f"option of agent {type(self).__name__.lower()}:", name, known)
        self.config = config = self.Config(**options)
        self.seed = seed
        self._rollout = Rollout(env)
        self.problem = self._rollout.problem
        self._rng = np.random.default_rng(seed)
        self._prediction_rng = np.random.default_rng([seed, 1])
        self._given = start_masks(self.problem, config.start, STARTS, seed)
        logit = initial_logit(self.problem, config.initial_keep)
        self.policy = RecurrentPolicy(
            self.problem.topology.size, config.hidden_size, logit, config.min_probability, seed
        )
        if len(self._given):
            with torch.no_grad():
                self.policy.logits.copy_(torch.from_numpy(start_logits(self._given, logit)))
        self._updates = PolicyGradient(self.policy, self.problem, config)
        self._state: State | None = None
        self._known: set[bytes] = set()
        self._best: list[tuple[float, BoolArray]] = []

    @checked
    def learn(self, total_timesteps: Annotated[int, Field(ge=0, le=MAX_EVALUATIONS)]) -> Self:
        """Train for about `total_timesteps` steps, or until the budget is spent.

        A random mask counts as the steps that it takes to play it.
        """
        rollout, config = self._rollout, self.config
        last = rollout.steps + total_timesteps
        rollout.begin()
        count = max(config.warmup, len(self._given))
        if count and not self._known and not rollout.has_given:
            drawn = [self.problem.sample(self._rng) for _ in range(count - len(self._given))]
            self._score(np.stack([*self._given, *drawn]))
        while rollout.steps < last:
            self._learn_from(rollout.collect(self._choose, config.batch_size))
        return self

    def predict(
        self,
        observation: NDArray[Any],
        state: PolicyState | None = None,
        episode_start: Sequence[bool] | NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.int64], PolicyState]:
        """Return actions, as Stable-Baselines3's `evaluate_policy` asks for them. Training is not affected.

        Args:
            observation: adjacency matrices [n, B, N, N], or a single one.
            state: returned by the last call; None at the beginning.
            episode_start: bool [n], where an episode begins; None: nowhere, unless `state` is None.
            deterministic: return the more probable action instead of drawing one.

        Returns:
            The actions, int64 [n], or [] for a single observation, and the state for the next call.

        Raises:
            InvalidValue: observations of other skip connections, or a state that no call returned.
        """
        topology = self.problem.topology
        decisions = topology.decisions(observation)
        rows = decisions.reshape(-1, topology.size)
        check(deterministic, bool, "deterministic")
        if state is None:
            zeros = np.zeros((len(rows), self.config.hidden_size), np.float32)
            state, is_first = (zeros, zeros, rows), np.ones(len(rows), np.bool_)
        else:
            self._check_state(state, rows.shape)
            is_first = np.zeros(len(rows), np.bool_) if episode_start is None else np.asarray(episode_start, np.bool_)
        hidden, cell = (torch.from_numpy(np.where(is_first[:, None], 0, part)).unsqueeze(0) for part in state[:2])
        previous = np.where(is_first[:, None], np.int8(UNDECIDED), state[2])
        with torch.no_grad():
            inputs = step_input(self.problem, previous, rows, keep_is_legal(self.problem, rows))
            keep, (hidden, cell) = self.policy(inputs, (hidden, cell))
        threshold = 0.5 if deterministic else self._prediction_rng.random(len(rows))
        actions = (keep[0].numpy() > threshold).astype(np.int64)
        following = (hidden[0].numpy(), cell[0].numpy(), rows)
        return (actions if decisions.ndim > 1 else actions[0]), following

    def save(self, path: str | Path) -> None:
        """Write the policy: settings to `path`.json, weights to `path`.safetensors.

        Raises:
            StorageError: no space or no permission.
        """
        write_policy(path, PolicyRecord(self.problem.topology, self.seed, asdict(self.config)), self.policy)

    @classmethod
    def load(cls, path: str | Path, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> Self:
        """Return the agent that `save` wrote: it predicts the same, and `learn` trains it further with a new optimizer.

        Its option `start` is kept, for information, and not read again: what it began with is in the weights.

        Args:
            path: as given to `save`.
            env: with the skip connections that the policy was trained on.

        Raises:
            NotFound, DamagedFile: no such policy, or files that cannot be used.
            InvalidValue: an environment with other skip connections.
        """
        stored, weights = read_policy(path, Rollout(env).problem.topology)
        with files.naming(str(path), "policy"):
            agent = cls(env, seed=stored.seed, **{**stored.options, "start": None})
            agent.config = cls.Config(**stored.options)
            load_weights(agent.policy, weights, files.resolve(path))
        return agent

    def _check_state(self, state: object, shape: tuple[int, ...]) -> None:
        """Check that `predict` may have returned a state for so many observations."""
        size = (shape[0], self.config.hidden_size)
        shapes = [getattr(part, "shape", None) for part in state] if isinstance(state, tuple | list) else None
        if shapes != [size, size, shape]:
            raise InvalidValue(f"a state is what predict returned for {shape[0]} observations, got {shown(state)}.")

    @torch.no_grad()
    def _choose(self, step: StepInput) -> BoolArray:
        """Draw KEEP or not, bool [n], from the policy."""
        count = len(step.is_first)
        if self._state is None:
            self._state = self.policy.initial_state(count)
        goes_on = torch.from_numpy(~step.is_first).unsqueeze(-1)
        hidden, cell = self._state
        inputs = step_input(self.problem, step.previous, step.decisions, step.keep_is_legal)
        keep, self._state = self.policy(inputs, (hidden * goes_on, cell * goes_on))
        return np.asarray(self._rng.random(count) < keep[0].numpy())

    def _learn_from(self, episodes: Sequence[Episode]) -> None:
        """Update the policy by a batch of episodes."""
        if self._rollout.has_given:
            self._updates.update(episodes, [])
            return
        self._remember([episode.mask for episode in episodes], [episode.objective for episode in episodes])
        self._updates.update(episodes, [mask for _, mask in self._best])

    def _score(self, masks: BoolArray) -> None:
        """Have masks bool [n, E] scored without playing them."""
        scores = self.problem.score(masks)
        self._rollout.steps += masks.size
        self._remember(masks, [score.objective for score in scores])

    def _remember(self, masks: Iterable[BoolArray], objectives: Sequence[float]) -> None:
        """Keep the best masks."""
        for mask, objective in zip(masks, objectives, strict=True):
            if mask.tobytes() not in self._known:
                self._known.add(mask.tobytes())
                self._best.append((objective, mask))
        self._best = sorted(self._best, key=lambda pair: -pair[0])[: self.config.elites]
