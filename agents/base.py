"""What an agent knows of the game before it plays: the connections, what each costs, what fits; and how to play a mask.

numpy only. Shapes: E skip connections, n episodes side by side.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ads_gym.nets.cost import CostTable
from ads_gym.topology import UNDECIDED, BoolArray, Int8Array, IntArray, Topology


class Game:
    """The constants of an environment, read from it once.

    Args:
        topology, cost: the environment's.
        limit: the most MACs that fit, or None.
        space: what one environment takes as an action.
    """

    def __init__(self, topology: Topology, cost: CostTable, limit: int | None, space: spaces.Space[Any]) -> None:
        self.topology = topology
        self.size = topology.size
        self.costs: NDArray[np.float64] = cost.relative_costs
        self._macs: IntArray = cost.connection_macs
        self._room = cost.dense_macs - cost.least_macs if limit is None else limit - cost.least_macs  # MACs
        self.room = self._room / (cost.dense_macs - cost.least_macs)  # relative cost that fits
        block, dst, src = topology.connections.T
        self._where = (..., block, dst, src)
        self._slots = 0 if isinstance(space, spaces.Discrete) else len(space.nvec)  # type: ignore[attr-defined]
        self._destination = {index: part for part in topology.destinations for index in range(part.start, part.stop)}

    @classmethod
    def of(cls, env: gym.Env[Any, Any]) -> "Game":
        """The game that `env` plays, whatever it is wrapped in."""
        topology, cost, limit = (env.get_wrapper_attr(name) for name in ("topology", "cost", "macs_limit"))
        return cls(topology, cost, limit, env.action_space)

    def decisions(self, observations: NDArray[Any]) -> Int8Array:
        """int8[..., E]: 1 kept, 0 dropped, -1 undecided, from matrices [..., B, N, N] or flat vectors [..., 2E + 6]."""
        if observations.shape[-1] == 2 * self.size + 6:  # a matrix is never as wide
            flat = observations[..., : self.size]
            return np.where(flat == 0, UNDECIDED, flat > 0).astype(np.int8)
        return np.asarray(observations[self._where], dtype=np.int8)

    def fits(self, masks: Any) -> BoolArray:
        """bool[...]: which of masks [..., E] are within the limit."""
        return np.asarray(np.asarray(masks, dtype=np.int64) @ self._macs <= self._room)

    def keep_fits(self, decisions: Int8Array) -> BoolArray:
        """bool[...]: whether keeping the first undecided connection of decisions [..., E] is within the limit."""
        return np.asarray((decisions == 1) @ self._macs + self._macs[first_undecided(decisions)] <= self._room)

    def choices(self, given: Int8Array, masks: BoolArray) -> BoolArray:
        """bool[..., E]: which bits of masks [..., E] were up to the player: neither given (-1 = free) nor forced."""
        free = given == UNDECIDED
        start = (given == 1) @ self._macs
        before = np.cumsum(np.where(free & masks, self._macs, 0), axis=-1) - np.where(free & masks, self._macs, 0)
        return np.asarray(free & (start[..., None] + before + self._macs <= self._room))

    def repair(self, mask: BoolArray, rng: np.random.Generator) -> BoolArray:
        """`mask` bool[E] where it fits, else without kept connections dropped uniformly at random until it does."""
        order = rng.permutation(np.flatnonzero(mask))  # of leaving
        over = int(mask @ self._macs) - self._room
        if over <= 0:
            return mask
        leaves = 1 + int(np.searchsorted(np.cumsum(self._macs[order]), over))
        repaired = mask.copy()
        repaired[order[:leaves]] = False
        return repaired

    def draw(self, rng: np.random.Generator) -> BoolArray:
        """A random mask bool[E]: a density uniform in 0-1 first, then the bits, then `repair`.

        A fair coin for each bit would put nearly all masks near half the connections.
        """
        return self.repair(rng.random(self.size) < rng.random(), rng)

    def action(self, mask: BoolArray, decisions: Int8Array) -> int | IntArray:
        """The action that plays `mask` bool[E] from `decisions` int8[E] on, for any decision mode."""
        first = int(first_undecided(decisions))
        if not self._slots:
            return int(mask[first])
        bits = np.where(decisions == UNDECIDED, mask, 0).astype(np.int64)
        if self._slots == self.size:
            return bits
        part = self._destination[first]
        return np.concatenate([bits[part], np.zeros(self._slots - (part.stop - part.start), np.int64)])


class Played(NamedTuple):
    """An episode that is over."""

    given: Int8Array  # int8[E]: bits that it began with, -1 free
    mask: BoolArray  # bool[E]: what it came to
    score: float  # its undiscounted return
    steps: int


def play_mask(env: gym.Env[Any, Any], game: Game, mask: BoolArray) -> Played:
    """Plays `mask` bool[E] in a fresh episode of `env`, in any decision mode; given bits stay as they were given."""
    observation, _ = env.reset()
    given = decisions = game.decisions(observation)
    score, steps, over = 0.0, 0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(game.action(mask, decisions))
        decisions = game.decisions(observation)
        score, steps, over = score + float(reward), steps + 1, terminated or truncated
    return Played(given, decisions == 1, score, steps)


def first_undecided(decisions: Int8Array) -> IntArray:
    """int64[...]: index of the first -1 in decisions [..., E]; 0 where there is none."""
    return np.asarray((decisions == UNDECIDED).argmax(axis=-1))


class MaskAgent:
    """What agents have in common that choose a whole mask and then play it.

    Args:
        env: a single environment, any decision mode, any observation.
        seed: of all that it draws.
    """

    def __init__(self, env: gym.Env[Any, Any], seed: int = 0) -> None:
        self.env = env
        self.game = Game.of(env)
        self.rng = np.random.default_rng(seed)

    def propose(self, deterministic: bool) -> BoolArray:
        """The mask bool[E] that it would play now: its best guess, or one of those it draws from."""
        raise NotImplementedError

    def play(self, mask: BoolArray) -> Played:
        """Plays `mask` bool[E]."""
        return play_mask(self.env, self.game, mask)

    def predict(
        self,
        observation: NDArray[Any],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: Sequence[bool] | NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...]]:
        """Actions for observations [n, ...] or for a single one, as Stable-Baselines3's `evaluate_policy` asks.

        Returns:
            The actions [n, ...] and the state: the masks bool[n, E] that are being played.
        """
        decisions = self.game.decisions(np.asarray(observation))
        rows = decisions.reshape(-1, self.game.size)
        starts = np.ones(len(rows), np.bool_) if state is None or episode_start is None else np.asarray(episode_start)
        masks = np.zeros(rows.shape, np.bool_) if state is None else state[0].copy()
        for row in np.flatnonzero(starts) if state is None or episode_start is not None else ():
            masks[row] = self.propose(deterministic)
        actions = np.array([self.game.action(mask, row) for mask, row in zip(masks, rows, strict=True)])
        return (actions if decisions.ndim > 1 else actions[0]), (masks,)
