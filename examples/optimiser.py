"""A search over whole masks, for optimisers that know nothing of episodes: `env.unwrapped.evaluate` scores a batch.

    python examples/optimiser.py
    ads-gym search --agent examples.optimiser:evolve --evaluations 256

A (mu + lambda) evolution: each generation flips a bit or two of the best masks so far. A batch that goes beyond the
budget is paid for as far as that reaches; then BudgetExhausted comes out of `evaluate`, and `search` catches it.
"""

from typing import Any

import numpy as np

import ads_gym


def evolve(env: Any, seed: int, parents: int = 8, children: int = 16, flips: float = 1.5) -> None:
    """Evolves masks until the budget ends."""
    game = env.unwrapped
    size = game.topology.size
    rng = np.random.default_rng(seed)
    limit = game.cost.dense_macs if game.macs_limit is None else game.macs_limit
    masks = rng.random((4 * children, size)) < rng.random((4 * children, 1))  # a density each, then the bits
    best: list[tuple[float, bytes]] = []
    while True:
        masks = masks[game.cost.macs(masks) <= limit]
        if not len(masks):
            masks = game.topology.chain()[None]
        scores = [game.score(metrics) for metrics in game.evaluate(masks)]
        scored = {(score, mask.tobytes()) for score, mask in zip(scores, masks, strict=True)}
        best = sorted(scored.union(best), reverse=True)[:parents]
        chosen = rng.integers(0, len(best), children)
        masks = np.array([np.frombuffer(best[index][1], np.bool_) for index in chosen])
        masks ^= rng.random((children, size)) < flips / size


if __name__ == "__main__":
    result = ads_gym.search("planted-45", evolve, evaluations=512)
    for line in result.table:
        print(f"{line.name:<7} reward {line.reward:.3f}  agreement {line.accuracy:.3f}  MACs {line.relative_macs:.0%}")
