"""The cost of an architecture in closed form: multiply-adds (MACs) and parameters. numpy only.

1 multiply-add = 1; convolutions and the linear classifier count, BatchNorm, ReLU and pooling do not. Widths of outputs
are always the supernet's, so both numbers are a constant plus a sum over the kept skip connections.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ads_gym.architecture import Architecture, DenseNetConfig, Stem
from ads_gym.topology import BoolArray, IntArray, Scope, Topology


class CostTable:
    """The cost of every architecture of one config and scope.

    Attributes:
        topology: the skip connections, in order.
        connection_macs: int64[E], MACs that keeping each skip connection adds.
        connection_parameters: int64[E], likewise.
        least_macs, dense_macs: MACs with no and with every skip connection of the scope kept.
        least_parameters, dense_parameters: likewise.
    """

    def __init__(self, config: DenseNetConfig, scope: Scope = Scope.LAYERS) -> None:
        self.topology = Topology(config.blocks, Scope(scope))
        costs = np.array([_edge(config, *connection) for connection in self.topology], dtype=np.int64)
        self.connection_macs: IntArray = costs[:, 0]
        self.connection_parameters: IntArray = costs[:, 1]
        self.dense_macs, self.dense_parameters = (int(total) for total in _dense(config))
        self.least_macs = self.dense_macs - int(self.connection_macs.sum())
        self.least_parameters = self.dense_parameters - int(self.connection_parameters.sum())

    @property
    def relative_costs(self) -> NDArray[np.float64]:
        """float64[E]: relative cost of keeping each skip connection; they sum to 1."""
        return self.connection_macs / (self.dense_macs - self.least_macs)

    def macs(self, masks: Any) -> IntArray:
        """int64[...]: MACs of masks [..., E] for one image."""
        return self.least_macs + np.asarray(masks, dtype=np.int64) @ self.connection_macs

    def parameters(self, masks: Any) -> IntArray:
        """int64[...]: parameters of masks [..., E]."""
        return self.least_parameters + np.asarray(masks, dtype=np.int64) @ self.connection_parameters

    def relative_macs(self, masks: Any) -> NDArray[np.float64]:
        """float64[...]: MACs / dense MACs."""
        return self.macs(masks) / self.dense_macs

    def relative_cost(self, masks: Any) -> NDArray[np.float64]:
        """float64[...], 0 to 1: (MACs - least in this scope) / (dense - least)."""
        return (self.macs(masks) - self.least_macs) / (self.dense_macs - self.least_macs)

    def random_mask(self, rng: np.random.Generator, relative_cost: float) -> BoolArray:
        """bool[E]: connections kept in random order until the relative cost is as near `relative_cost` as it gets."""
        order = rng.permutation(self.topology.size)
        reached = np.concatenate([[0.0], np.cumsum(self.relative_costs[order])])
        mask = self.topology.chain()
        mask[order[: int(np.abs(reached - relative_cost).argmin())]] = True
        return mask


def architecture_cost(architecture: Architecture) -> tuple[int, int]:
    """(MACs, parameters) of one architecture."""
    table = CostTable(architecture.config, architecture.scope)
    return int(table.macs(architecture.mask)), int(table.parameters(architecture.mask))


def readers_macs(config: DenseNetConfig) -> IntArray:
    """int64[destinations]: MACs of all that may read each destination, block by block; 0 for the classifier."""
    macs = [
        sum(_edge(config, index, dst, src)[0] for dst in range(src + 1, block.layers + 2))
        for index, block in enumerate(config.geometry)
        for src in range(block.layers + 1)
    ]
    return np.array([*macs[1:], 0], dtype=np.int64)  # the first is the stem's


def _edge(config: DenseNetConfig, block: int, dst: int, src: int) -> tuple[int, int]:
    """(MACs, parameters) of the connection `src` -> `dst`: its share of the BatchNorm and convolution of `dst`."""
    shape = config.geometry[block]
    channels, pixels = config.source_channels(block, src), shape.height * shape.width
    if dst <= shape.layers:
        weights = channels * (4 * config.growth if config.bottleneck else 9 * config.growth)
    else:
        weights = channels * shape.out_channels
        pixels = pixels if block < len(config.blocks) - 1 else 1  # the classifier reads the average pixel
    return weights * pixels, weights + 2 * channels


def _dense(config: DenseNetConfig) -> tuple[int, int]:
    """(MACs, parameters) of the dense network."""
    kernel = 49 if config.stem is Stem.CONV7_POOL else 9
    first, channels = config.geometry[0], config.stem_channels
    stem_pixels = first.height * first.width
    if config.stem is Stem.CONV7_POOL:  # the convolution's output, before the max pool
        stem_pixels = ((config.image_shape[1] + 1) // 2) * ((config.image_shape[2] + 1) // 2)
    macs = kernel * config.image_shape[0] * channels * stem_pixels
    parameters = kernel * config.image_shape[0] * channels + (2 * channels if config.stem is Stem.CONV7_POOL else 0)
    for index, block in enumerate(config.geometry):
        for dst in range(1, block.layers + 2):
            edges = np.array([_edge(config, index, dst, src) for src in range(dst)])
            macs, parameters = macs + edges[:, 0].sum(), parameters + edges[:, 1].sum()
        if config.bottleneck:  # each layer's second BatchNorm and its 3x3 convolution
            weights = 9 * 4 * config.growth * config.growth
            macs += block.layers * weights * block.height * block.width
            parameters += block.layers * (weights + 2 * 4 * config.growth)
    return macs, parameters + config.classes
