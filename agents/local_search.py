"""First-improvement local search over one-flip moves: the bar that a learning agent has to beat."""

from typing import Any

import gymnasium as gym
import numpy as np

from ads_gym.agents.base import MaskAgent
from ads_gym.errors import InvalidValue
from ads_gym.topology import BoolArray

TRIES = 100  # kicks that may lead to masks seen before, in a search space that is nearly used up


class LocalSearch(MaskAgent):
    """From the best of some random masks, takes any flip that improves; in a local optimum, kicks the best and goes on.

    A flip that does not fit the limit is skipped. No mask is played twice as long as there are others.

    Args:
        env: a single environment, any decision mode.
        seed: of the order of flips and of the kicks.
        starts: random masks before the first flip.
        kick: flips at once, out of a local optimum.
    """

    def __init__(self, env: gym.Env[Any, Any], seed: int = 0, starts: int = 32, kick: int = 4) -> None:
        super().__init__(env, seed)
        if starts < 1 or kick < 1:
            raise InvalidValue(f"starts and kick must be whole numbers of at least 1, got {starts!r} and {kick!r}.")
        self._starts = starts
        self._kick = min(kick, self.game.size)
        self._seen: dict[bytes, float] = {}
        self._best = self.game.topology.chain()
        self._best_score = -np.inf
        self._steps = self._last_step = 0

    def propose(self, deterministic: bool) -> BoolArray:
        """The best mask bool[E] found so far."""
        return self._best

    def learn(self, total_timesteps: int) -> "LocalSearch":
        """Searches for `total_timesteps` steps, or until the budget ends."""
        self._last_step = self._steps + total_timesteps
        for _ in range(self._starts):
            self._score(self.game.draw(self.rng))
        current = self._best
        while self._steps < self._last_step:
            self._climb(current, self._seen[current.tobytes()])
            current = self._kicked()
            self._score(current)
        return self

    def _climb(self, current: BoolArray, score: float) -> None:
        """Takes improving flips from `current` until a whole pass finds none."""
        improved = True
        while improved:
            improved = False
            for index in self.rng.permutation(self.game.size):
                if self._steps >= self._last_step:
                    return
                neighbour = current.copy()
                neighbour[index] ^= True
                if not self.game.fits(neighbour):
                    continue
                known = self._seen.get(neighbour.tobytes())
                new = self._score(neighbour) if known is None else known
                if new > score:
                    current, score, improved = neighbour, new, True

    def _kicked(self) -> BoolArray:
        """The best mask with `kick` random flips, one not seen before if such a one is found."""
        for _ in range(TRIES):
            mask = self._best.copy()
            mask[self.rng.choice(self.game.size, self._kick, replace=False)] ^= True
            mask = self.game.repair(mask, self.rng)
            if mask.tobytes() not in self._seen:
                break
        return mask

    def _score(self, mask: BoolArray) -> float:
        """The return of a mask, played."""
        played = self.play(mask)
        self._steps += played.steps
        self._seen[mask.tobytes()] = played.score
        if played.score > self._best_score:
            self._best, self._best_score = mask, played.score
        return played.score
