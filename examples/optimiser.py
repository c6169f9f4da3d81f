"""An optimiser: a class with `ask` and `tell`, which chooses whole masks. Nothing to inherit from or to register.

    python examples/optimiser.py
    ads-gym search --agent examples.optimiser:Evolution --evaluations 256

A (mu + lambda) evolution strategy: each generation flips a bit or two of the best masks so far.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

import ads_gym


class Evolution:
    """Mutate the best masks, and keep the best of parents and children."""

    batch_size = 16  # children: how many masks the search asks for at once

    def __init__(self, problem: ads_gym.Problem, *, seed: int = 0, parents: int = 8, flips: float = 1.5) -> None:
        self.problem, self.rng = problem, np.random.default_rng(seed)
        self.parents, self.flips = parents, flips
        self.best: list[tuple[float, bytes]] = []

    def ask(self, n: int) -> Any:
        """Return n masks, bool [n, E]: random ones at first, then mutants of the best."""
        if not self.best:
            return np.stack([self.problem.sample(self.rng) for _ in range(n)])
        chosen = self.rng.integers(0, len(self.best), n)
        masks = np.array([np.frombuffer(self.best[index][1], np.bool_) for index in chosen])
        masks ^= self.rng.random(masks.shape) < self.flips / masks.shape[1]
        return np.stack([self.problem.project(mask, self.rng) for mask in masks])  # within the MACs limit

    def tell(self, masks: Any, scores: Sequence[Any]) -> None:
        """Keep the best, by objective."""
        scored = {(score.objective, mask.tobytes()) for mask, score in zip(masks, scores, strict=True)}
        self.best = sorted(scored.union(self.best), reverse=True)[: self.parents]


if __name__ == "__main__":
    result = ads_gym.search("planted-45", Evolution, evaluations=512)
    for line in result.table:
        print(f"{line.name:<7} objective {line.objective:.3f}  agreement {line.accuracy:.3f}")
