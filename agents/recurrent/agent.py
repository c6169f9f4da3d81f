"""Policy gradient with a recurrent policy: the agent of "Automatic DenseNet Sparsification" (IEEE Access 2020).

That paper's abstract names the recurrent agent and its reward; all else here is ours. After some random masks, two ways
of choosing what to score next take turns: the policy plays and learns; then a critic, which has learned from all that
was scored, asks for what it thinks well of and cannot be sure about, near the best masks and near what the policy just
played. The best masks are imitated, so that the policy learns from both. Nothing here depends on how long the run will
be.

gamma is 1 throughout: episodes are finite and the score comes last, so a discount would only weigh cost against it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from ads_gym.agents.base import Played
from ads_gym.agents.bayes.acquisition import imagine
from ads_gym.agents.bayes.surrogate import Critic
from ads_gym.agents.recurrent.policy import RecurrentPolicy, State, look
from ads_gym.agents.recurrent.policy_gradient import Learner, LearnerConfig
from ads_gym.agents.recurrent.rollout import Lockstep, Moment
from ads_gym.errors import InvalidValue, unknown_name
from ads_gym.topology import UNDECIDED, BoolArray

Memory = tuple[NDArray[Any], ...]  # of `predict`: hidden [n, H], cell [n, H], decisions shown int8[n, E]


@dataclass(frozen=True)
class ReinforceConfig(LearnerConfig):
    """The settings of `Reinforce`, besides those of its learner."""

    warmup: int = 32  # random masks before the policy plays
    batch: int = 8  # episodes between updates
    asks: int = 3  # batches that the critic asks for after each that the policy played; 0: no critic
    trust: float = 3.0  # standard deviations that the critic adds to what it expects
    starts: int = 8  # best masks that it starts from, besides the last batch
    hidden: int = 32  # units of the LSTM
    start: float = 0.5  # probability of KEEP at first, unless the limit allows less
    floor: float = 0.01  # least probability of an action
    elites: int = 5  # best masks that are imitated; 0: none

    def __post_init__(self) -> None:
        least = {"batch": 2, "updates": 1, "hidden": 1, "warmup": 0, "asks": 0, "starts": 0, "elites": 0}
        for name, value in asdict(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if name in least and not (isinstance(value, int) and number and value >= least[name]):
                raise InvalidValue(f"{name} must be a whole number of at least {least[name]}, got {value!r}.")
            if name == "exact_cost":
                if not isinstance(value, bool):
                    raise InvalidValue(f"{name} must be true or false, got {value!r}.")
            elif not number or not value >= 0:
                raise InvalidValue(f"{name} must be a number of at least 0, got {value!r}.")
        if not (0 < self.start < 1 and self.floor < 0.5 and self.halving > 0):
            raise InvalidValue(
                f"start must lie between 0 and 1, floor below 0.5, halving above 0; got {self.start!r}, "
                f"{self.floor!r}, {self.halving!r}."
            )


class Reinforce:
    """A recurrent policy (an LSTM) learns to play by policy gradient; a critic asks for what is worth scoring.

    Where bits are given at the start of episodes (`reset(options={"decided": ...})`, by a wrapper), only the policy
    plays, and learns what to answer: there is no one best mask to imitate or to start from.

    Args:
        env: a vector env (see `Lockstep`), or a single env; decision "connection", observation "matrix".
        seed: of all that it draws.
        options: fields of `ReinforceConfig`.

    Raises:
        UnknownName, InvalidValue: an option that there is not, or out of range; an env that it cannot play.
    """

    num_envs = 8
    observation = "matrix"

    def __init__(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], seed: int = 0, **options: Any) -> None:
        known = {field.name for field in fields(ReinforceConfig)}
        for name in options:
            if name not in known:
                raise unknown_name("option of agent reinforce:", name, known)
        self.config = config = ReinforceConfig(**options)
        self._table = Lockstep(env)
        self._game = game = self._table.game
        self._rng = np.random.default_rng(seed)
        start = min(config.start, max(game.room, 0.01))  # with a fair coin the first block would use up a limit
        self.policy = RecurrentPolicy(game.size, config.hidden, float(np.log(start / (1 - start))), config.floor, seed)
        self._learner = Learner(self.policy, game, self._table.cost_weight, config)
        self._critic = Critic(game.size)
        self._libraries = ThreadpoolController()  # SciPy's and numpy's linear algebra among them
        self._state: State | None = None
        self._seen: dict[bytes, float] = {}
        self._best: list[tuple[float, BoolArray]] = []

    def learn(self, total_timesteps: int) -> "Reinforce":
        """Plays and learns for about `total_timesteps` decisions, or until the budget ends.

        A mask that is scored without being played counts as the decisions that it takes to play it.
        """
        table, config = self._table, self.config
        last = table.steps + total_timesteps
        table.begin()
        if config.warmup and not self._seen and not table.gives_bits:
            self._score(np.stack([self._game.draw(self._rng) for _ in range(config.warmup)]))
        while table.steps < last:
            batch = table.play(self._choose, config.batch)
            if table.gives_bits:
                self._learner.update(batch, [])
                continue
            self._remember([played.mask for played in batch], [played.score for played in batch])
            self._learner.update(batch, [mask for _, mask in self._best[: config.elites]])
            for _ in range(config.asks):
                with self._libraries.limit(limits=1, user_api="blas"):  # on matrices this small threads only wait
                    masks = self._ask(batch)
                if len(masks):
                    self._score(masks)
        return self

    def predict(
        self,
        observation: NDArray[Any],
        state: Memory | None = None,
        episode_start: Sequence[bool] | NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.int64], Memory]:
        """Actions for observations [n, B, N, N] or for a single one, as Stable-Baselines3's `evaluate_policy` asks.

        Args:
            observation: adjacency matrices.
            state: what the last call gave; None to begin.
            episode_start: bool[n], where an episode begins; None: nowhere, unless `state` is None.
            deterministic: the likelier action instead of a drawn one.

        Returns:
            The actions int64 [n], or [] for a single observation, and the state for the next call.
        """
        decisions = self._game.decisions(np.asarray(observation))
        rows = decisions.reshape(-1, self._game.size)
        if state is None:
            blank = np.zeros((len(rows), self.config.hidden), np.float32)
            state, fresh = (blank, blank, rows), np.ones(len(rows), np.bool_)
        else:
            fresh = np.zeros(len(rows), np.bool_) if episode_start is None else np.asarray(episode_start, np.bool_)
        hidden, cell = (torch.from_numpy(np.where(fresh[:, None], 0, part)).unsqueeze(0) for part in state[:2])
        shown = np.where(fresh[:, None], np.int8(UNDECIDED), state[2])
        with torch.no_grad():
            seen = look(self._game, shown, rows, self._game.keep_fits(rows))
            keep, (hidden, cell) = self.policy(seen, (hidden, cell))
        threshold = 0.5 if deterministic else self._rng.random(len(rows))
        actions = (keep[0].numpy() > threshold).astype(np.int64)
        memory = (hidden[0].numpy(), cell[0].numpy(), rows)
        return (actions if decisions.ndim > 1 else actions[0]), memory

    @torch.no_grad()
    def _choose(self, moment: Moment) -> BoolArray:
        """KEEP or not, bool[n], drawn from the policy."""
        count = len(moment.fresh)
        if self._state is None:
            self._state = self.policy.blank(count)
        going = torch.from_numpy(~moment.fresh).unsqueeze(-1)  # an episode begins with nothing in mind
        hidden, cell = self._state
        seen = look(self._game, moment.shown, moment.decisions, moment.legal)
        keep, self._state = self.policy(seen, (hidden * going, cell * going))
        return np.asarray(self._rng.random(count) < keep[0].numpy())

    def _ask(self, played: Sequence[Played]) -> BoolArray:
        """What the critic would have scored, bool[at most a batch, E], starting from what was played and from the best.

        It judges what comes before the cost, which needs no guess.
        """
        game, config, critic = self._game, self.config, self._critic
        costs = self._table.cost_weight * game.costs
        known = np.stack([np.frombuffer(key, np.bool_) for key in self._seen])
        critic.learn(known, np.fromiter(self._seen.values(), np.float64) + known @ costs)
        starts = np.stack([episode.mask for episode in played] + [mask for _, mask in self._best[: config.starts]])

        def worth(masks: BoolArray) -> NDArray[np.float64]:
            return np.asarray(critic.bound(masks, config.trust) - masks @ costs)

        return imagine(game, worth, starts, self._seen, self._rng)[: config.batch]

    def _score(self, masks: BoolArray) -> None:
        """What masks score without being played."""
        self._remember(masks, self._table.evaluate(masks))

    def _remember(self, masks: Iterable[BoolArray], scores: Sequence[float]) -> None:
        """Keeps scores, and the best masks."""
        for mask, score in zip(masks, scores, strict=True):
            if mask.tobytes() not in self._seen:
                self._seen[mask.tobytes()] = score
                self._best.append((score, mask))
        self._best = sorted(self._best, key=lambda pair: -pair[0])[: max(self.config.elites, self.config.starts)]
