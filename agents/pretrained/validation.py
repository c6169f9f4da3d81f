"""How good a policy is on networks of a pool: what the best of its first masks is worth.

A score is (best objective - mean of random masks) / (best of all - that mean): 0 is what random masks give on average,
1 is the best there is.
"""

from collections.abc import Sequence

import numpy as np

from ads_gym.agents.base import Floats
from ads_gym.agents.pretrained.groups import Game
from ads_gym.agents.pretrained.network import PolicyNetwork
from ads_gym.agents.pretrained.sampling import Sampler
from ads_gym.evaluators.table import every_mask
from ads_gym.topology import BoolArray

COUNTS = (1, 8, 32, 128)  # masks
ROOMS = (1.0, 0.5, 0.3)  # relative cost that may be kept; 1: no limit
RANDOM_MASKS = 512
TINY = 1e-6  # of relative cost: less is rounding


def scores(network: PolicyNetwork, game: Game, seed: int = 0, counts: Sequence[int] = COUNTS) -> Floats:
    """Return the scores [len(counts)] of a policy on a game after so many masks: means over `ROOMS`.

    Args:
        network: the policy.
        game: that it plays.
        seed: of its draws and of the random masks.
        counts: ascending.
    """
    found = []
    for room in ROOMS:
        asked = Sampler(network, game.rows(room, game.even), seed).ask(max(counts))
        found.append(score(game.objectives(asked, game.even), *ends(game, room, seed), counts))
    return np.asarray(np.mean(found, axis=0))


def score(objectives: Floats, mean: float, best: float, counts: Sequence[int] = COUNTS) -> Floats:
    """Return the scores [len(counts)] of the best of the first objectives [n]; where n is less, of all.

    Args:
        objectives: of masks, in their order.
        mean: of random masks.
        best: there is.
        counts: masks.
    """
    so_far = np.maximum.accumulate(objectives)
    return np.array([(so_far[min(count, len(so_far)) - 1] - mean) / (best - mean) for count in counts])


def ends(game: Game, room: float, seed: int = 0) -> tuple[float, float]:
    """Return the mean objective of random masks that fit a room, and the best objective of all that do."""
    masks, rng = every_mask(len(game.costs)), np.random.default_rng(seed)
    random = np.stack([random_mask(game.costs, room, rng) for _ in range(RANDOM_MASKS)])
    fitting = masks[masks @ game.costs <= room + TINY]
    return float(game.objectives(random, game.even).mean()), float(game.objectives(fitting, game.even).max())


def random_mask(costs: Floats, room: float, rng: np.random.Generator) -> BoolArray:
    """Draw a mask bool [E] as `Problem.sample` does, from relative costs [E] and the room for them."""
    mask = rng.random(len(costs)) < rng.random()
    order = rng.permutation(np.flatnonzero(mask))
    excess = float(costs[order].sum()) - room
    if excess > TINY:
        mask[order[: 1 + int(np.searchsorted(np.cumsum(costs[order]), excess - TINY))]] = False
    return np.asarray(mask)
