"""Where a search begins instead of at random: at what a ranking keeps, or at a given architecture.

Shapes: E skip connections.
"""

from collections.abc import Mapping

import numpy as np

from ads_gym.agents.base import Floats
from ads_gym.agents.gates import Gates
from ads_gym.agents.rankings import Magnitude, Ranking, Residual, Saliency
from ads_gym.architecture import Architecture, find_architecture
from ads_gym.errors import InvalidValue, unknown_name
from ads_gym.files import exists
from ads_gym.problem import Problem
from ads_gym.topology import BoolArray

RANKINGS: Mapping[str, type[Ranking]] = {
    "residual": Residual,
    "magnitude": Magnitude,
    "saliency": Saliency,
    "gates": Gates,
}

STARTS = 8  # masks of a ranking that a search begins with


def start_masks(problem: Problem, start: str | None, most: int, seed: int = 0) -> BoolArray:
    """Return the masks that a search begins with, bool [at most `most`, E], the largest first; none for None.

    Args:
        problem: what is searched.
        start: the name of a ranking, of whose nested masks some are taken, from the largest that fits the MACs limit to
            the chain; or the path of an architecture, or of a run folder with one.
        most: masks.
        seed: of the ranking.

    Raises:
        UnknownName, InvalidValue: no such ranking, one that the problem has no features for; an architecture of another
            network, or one above the MACs limit.
        NotFound, DamagedFile: no such file, or no architecture.
    """
    if start is None:
        return np.empty((0, problem.topology.size), np.bool_)
    if start in RANKINGS:
        masks = RANKINGS[start](problem, seed=seed).ask(problem.topology.size + 1)
        return np.asarray(masks[np.unique(np.linspace(0, len(masks) - 1, most).round().astype(int))])
    if not exists(find_architecture(start)):
        raise unknown_name("start (and there is no architecture of that name)", start, RANKINGS)
    return _of_file(problem, start)[None]


def start_logits(masks: BoolArray, logit: float) -> Floats:
    """Return logits of keeping, float64 [E], by how many of the masks keep each connection.

    One more mask that keeps half counts, so that none is certain.

    Args:
        masks: bool [k, E], k may be 0.
        logit: that all have without masks.
    """
    if not len(masks):
        return np.full(masks.shape[1], logit)
    share = (masks.sum(axis=0) + 0.5) / (len(masks) + 1)
    return np.asarray(np.log(share / (1 - share)))


def _of_file(problem: Problem, path: str) -> BoolArray:
    """The mask of an architecture in a file."""
    found = Architecture.read(find_architecture(path))
    if found.reads is not None or (found.config, found.scope) != (problem.config, problem.topology.scope):
        raise InvalidValue(
            f"the architecture {path} is of another network or scope than {problem.name}, or of channels: a search "
            "starts at a mask of its own skip connections."
        )
    if not problem.fits(found.mask):
        raise InvalidValue(
            f"the architecture {path} needs {int(problem.cost.macs(found.mask)):,} MACs, and max_macs allows "
            f"{problem.macs_limit:,}: start at a smaller one."
        )
    return found.mask
