"""Published patterns of skip connections, and connections by their cost; nothing is learned. numpy only.

Shapes: E skip connections, n masks.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import InstanceOf

from ads_gym.agents.base import Floats, Optimiser
from ads_gym.problem import Problem, Scored
from ads_gym.records import Masks, Seed, checked
from ads_gym.topology import BoolArray, IntArray, Topology


class Patterns(Optimiser):
    """Published patterns: powers apart, harmonic, nearest; and by cost.

    That is: sources powers of two before their destination (of three, ...); harmonic ones; the nearest m; those without
    the dearest connections, and without the cheapest. Of each kind first the largest mask that fits the MACs limit;
    then, in turns, the next smaller ones. What still fits is not filled up: a pattern is what its paper says.

    Args:
        problem: what is searched.
        seed: not used: nothing is drawn.
    """

    source = "Hu et al. 2017; Zhu et al. 2018; Chao et al. 2019"
    batch_size = 8

    @checked
    def __init__(self, problem: InstanceOf[Problem], *, seed: Seed = 0) -> None:
        super().__init__(problem, seed=seed)
        topology, macs = problem.topology, problem.cost.connection_macs
        kinds = [powers(topology), harmonic(topology), nearest(topology), nested(-macs), nested(macs)]
        fitting = [kind[problem.fits(kind)] for kind in kinds]
        turns = (kind[turn] for turn in range(max(map(len, fitting))) for kind in fitting if turn < len(kind))
        self._masks = np.stack(list({mask.tobytes(): mask for mask in turns}.values()))

    @checked
    def ask(self, n: Masks) -> BoolArray:
        """Return the next masks, bool [at most n, E]."""
        asked, self._masks = self._masks[:n], self._masks[n:]
        return asked

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Scores change nothing."""


def powers(topology: Topology) -> BoolArray:
    """Sources that are powers of two before their destination, then of three, and so on, bool [n, E].

    (L. Zhu et al., "Sparsely Aggregated Convolutional Networks", ECCV 2018; H. Hu et al., "Log-DenseNet", 2017.)
    """
    distances = _distances(topology)
    bases = range(2, max(int(distances.max()), 2) + 1)
    return np.stack([np.isin(distances, [base**exponent for exponent in range(1, 11)]) for base in bases])


def harmonic(topology: Topology) -> BoolArray:
    """Sources 2^n before a destination whose number in its block 2^n divides, bool [1, E].

    (P. Chao et al., "HarDNet: A Low Memory Traffic Network", ICCV 2019.)
    """
    distances, numbers = _distances(topology), topology.connections[:, 1]
    return np.asarray(((distances & (distances - 1)) == 0) & (numbers % distances == 0))[None]


def nearest(topology: Topology) -> BoolArray:
    """The nearest m sources of each destination, for all m, most first, bool [n, E]."""
    distances = _distances(topology)
    return np.asarray(distances <= np.arange(distances.max(), 0, -1)[:, None])


def nested(prices: IntArray | Floats) -> BoolArray:
    """All connections, then without that of the lowest price, and so on, bool [E + 1, E]."""
    places = np.argsort(np.argsort(prices, kind="stable"))
    return np.asarray(places >= np.arange(len(prices) + 1)[:, None])


def _distances(topology: Topology) -> IntArray:
    """int64 [E], at least 2."""
    return np.asarray(topology.connections[:, 1] - topology.connections[:, 2])
