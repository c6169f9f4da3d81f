"""Agents that rank connections by a feature, and evaluate next to nothing.

Shapes: E skip connections.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import InstanceOf

from ads_gym.agents.base import Floats, Needs, Optimiser
from ads_gym.agents.patterns import nested
from ads_gym.nets.cost import kept_within
from ads_gym.nets.features import Feature
from ads_gym.problem import Problem, Scored
from ads_gym.records import Masks, Seed, checked
from ads_gym.topology import BoolArray


class Ranking(Optimiser):
    """Drop the connections with the least of a feature, one after another.

    The first mask that it asks for is the largest that fits the MACs limit, the others follow in the same order, down
    to the chain.

    Args:
        problem: what is searched; of a task that has the feature.
        seed: not used: nothing is drawn.
        feature: see `ads_gym.nets.features.Feature`.

    Raises:
        InvalidValue: a problem without the feature.
    """

    needs = Needs.FEATURES
    feature: ClassVar[Feature]

    @checked
    def __init__(self, problem: InstanceOf[Problem], *, seed: Seed = 0) -> None:
        super().__init__(problem, seed=seed)
        values = self._values()
        masks = nested(values)
        self._masks = masks[problem.fits(masks)]
        self._masks[0] = kept_within(np.argsort(values, kind="stable"), problem.cost.connection_macs, problem.room)

    def _values(self) -> Floats:
        """What the order is by, float64 [E]."""
        return self.problem.feature(self.feature)

    @checked
    def ask(self, n: Masks) -> BoolArray:
        """Return the next masks, bool [at most n, E]."""
        asked, self._masks = self._masks[:n], self._masks[n:]
        return asked

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Scores change nothing."""


class Residual(Ranking):
    """Drop first what least squares makes up for best.

    See `ads_gym.nets.residual`.
    """

    feature = Feature.RESIDUAL
    source = "Draper and Smith 1966; Theis et al. 2018"


class Magnitude(Ranking):
    """Drop first what is read with the smallest weights, on average and without sign."""

    feature = Feature.MAGNITUDE
    source = "Huang et al. 2017, Figure 5"


class Saliency(Ranking):
    """Drop first what raises the loss least, by its gradient.

    Args:
        problem: what is searched; of a task with a trained network.
        seed: not used.
        networks: in which gradients are taken: "dense", or "half": some random ones that keep half of the connections.
    """

    source = "Molchanov et al. 2017"

    @checked
    def __init__(
        self, problem: InstanceOf[Problem], *, seed: Seed = 0, networks: Literal["dense", "half"] = "half"
    ) -> None:
        self._networks = networks
        super().__init__(problem, seed=seed)

    def _values(self) -> Floats:
        return self.problem.feature(Feature.SALIENCY_DENSE if self._networks == "dense" else Feature.SALIENCY_HALF)
