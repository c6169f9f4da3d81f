"""What is known of each skip connection before any evaluation. numpy only.

Shapes: E skip connections, F features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ads_gym.choices import Choice
from ads_gym.nets.cost import CostTable
from ads_gym.topology import as_array

Floats = NDArray[np.float64]


class Feature(Choice, what="feature"):
    """A number for each skip connection; those below the line need the trained network."""

    RELATIVE_COST = "relative_cost"  # its MACs / those of all skip connections, above 0; they sum to 1
    POSITION = "position"  # of its destination among all that skip connections lead to, 0 (first) to 1 (last)
    DISTANCE = "distance"  # (destination - source) / the largest in any block, above 0 and up to 1
    # ---
    MAGNITUDE = "magnitude"  # mean absolute weight with which its destination reads its source, at least 0
    SALIENCY_DENSE = "saliency_dense"  # by how much the dense network's loss (nats) rises without it, to first order
    SALIENCY_HALF = "saliency_half"  # the same in random networks that keep half, on average over some of them
    RESIDUAL = "residual"  # its place in the order of elimination by residuals: 0 goes first, 1 last

    @property
    def needs_network(self) -> bool:
        """Whether it is more than the network's shape."""
        return self not in (Feature.RELATIVE_COST, Feature.POSITION, Feature.DISTANCE)


@dataclass(frozen=True)
class Known:
    """A feature of a network."""

    values: Floats  # [E]
    macs: int  # multiply-adds that it took, by rule: a backward pass counts as two forward passes


def shape_feature(cost: CostTable, feature: Feature) -> Floats:
    """A feature that needs no network, float64 [E].

    Args:
        cost: of the network's skip connections.
        feature: RELATIVE_COST, POSITION or DISTANCE.
    """
    topology = cost.topology
    if feature is Feature.RELATIVE_COST:
        return cost.relative_costs
    if feature is Feature.POSITION:
        places = np.repeat(
            np.arange(len(topology.destinations)), [part.stop - part.start for part in topology.destinations]
        )
        return places / max(len(topology.destinations) - 1, 1)
    distances = topology.connections[:, 1] - topology.connections[:, 2]
    return np.asarray(distances / distances.max())


def ranks(values: Any) -> Floats:
    """Ranks of values [..., E] along the last axis, 0 (least) to 1; equal values get the mean of theirs."""

    def of_row(row: Floats) -> Floats:
        _, places, counts = np.unique(row, return_inverse=True, return_counts=True)
        return np.asarray((np.cumsum(counts) - (counts + 1) / 2)[places])

    array = as_array("values to rank", values)
    return np.asarray(np.apply_along_axis(of_row, -1, array) / max(array.shape[-1] - 1, 1))
