"""Who takes part: policies that are trained on the pool, each in its file, and agents that need no training."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from transfer.prior import Known, PositionPrior

from ads_gym.agents.local_search import LocalSearch
from ads_gym.agents.pretrained.agent import Pretrained
from ads_gym.agents.pretrained.groups import Game
from ads_gym.agents.pretrained.on_pool import train_on_pool
from ads_gym.agents.pretrained.saving import policy_paths, write_pretrained
from ads_gym.agents.pretrained.training import TrainingSettings
from ads_gym.agents.random_search import RandomSearch
from ads_gym.agents.rankings import Magnitude, Residual, Saliency
from ads_gym.evaluators.base import Weights
from ads_gym.pools.definition import POOL, Pool, Role
from ads_gym.topology import Topology

Make = Callable[..., Any]  # of an optimiser, from a problem and a seed
POLICIES = {
    "recurrent": {"kind": "recurrent"},
    "linear": {"kind": "linear"},
    "feedforward": {"kind": "feedforward"},
    "shape only": {"kind": "recurrent", "inputs": "shape"},
    "shuffled": {"kind": "recurrent", "inputs": "shuffled"},
}
LEARNING = ("recurrent", "linear")  # which also go on learning
ALWAYS_ALIKE = ("residual", "magnitude", "saliency")  # whatever the seed


def entrants(pool: Path, folder: Path, weights: Sequence[Weights], policies: Path, updates: int) -> dict[str, Make]:
    """Train what is not trained yet, and return everybody by name.

    Args:
        pool: file with the definition.
        folder: of its supernets.
        weights: with which they are scored.
        policies: folder of the policies.
        updates: of each training.
    """
    definition, found = POOL.read(pool), {}
    for name, options in POLICIES.items():
        path = policies / name.replace(" ", "-")
        settings = TrainingSettings(updates=updates, **options)
        if not policy_paths(path)[0].exists():
            write_pretrained(path, *train_on_pool(pool, folder, weights, settings))
        found[name] = partial(Pretrained, policy=str(path))
        if name in LEARNING:
            found[f"{name}, learning"] = partial(Pretrained, policy=str(path), learn=True)
    known = Known(_with_topology(definition, folder, weights))
    agents = {"residual": Residual, "magnitude": Magnitude, "saliency": Saliency}
    return (
        found
        | {"position prior": partial(PositionPrior, known=known), **agents, "local": LocalSearch}
        | {"random": RandomSearch}
    )


def _with_topology(pool: Pool, folder: Path, weights: Sequence[Weights]) -> list[tuple[Game, Topology]]:
    games = Game.of_pool(pool, folder, Role.TRAINING, weights)
    topologies = [Topology(member.blocks) for member in pool.of(Role.TRAINING) for _ in weights]
    return list(zip(games, topologies, strict=True))
