"""The cost of an architecture in closed form: multiply-adds (MACs) and parameters. numpy only.

1 multiply-add = 1; convolutions and the linear classifier count, BatchNorm, ReLU and pooling do not. Where whole
nodes are read, widths of outputs are always the supernet's, and both numbers are a constant plus a sum over the kept
skip connections (`CostTable`).
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ads_gym.architecture import Architecture, DenseNetConfig, Stem
from ads_gym.errors import InvalidValue
from ads_gym.limits import MAX_MACS, check_memory
from ads_gym.nets.recipe import Recipe
from ads_gym.records import Number, checked
from ads_gym.topology import BoolArray, IntArray, Scope, ScopeName, Topology

FLOAT32 = 4  # bytes


class CostTable:
    """The cost of every architecture of one config and scope.

    Attributes:
        topology: the skip connections, in order.
        connection_macs: int64[E], MACs that keeping each skip connection adds.
        connection_parameters: int64[E], likewise.
        least_macs, dense_macs: MACs with no and with every skip connection of the scope kept.
        least_parameters, dense_parameters: likewise.

    Raises:
        InvalidValue: a network of more MACs than `limits.MAX_MACS`.
    """

    @checked
    def __init__(self, config: DenseNetConfig, scope: ScopeName = Scope.LAYERS) -> None:
        self.topology = Topology(config.blocks, scope)
        self.dense_macs, self.dense_parameters = dense_cost(config)
        if self.dense_macs > MAX_MACS:
            raise InvalidValue(
                f"this network needs {self.dense_macs:.1e} MACs for one image, and {MAX_MACS:.1e} are the most "
                "that are counted: make it smaller."
            )
        block, dst, src = self.topology.connections.T
        heads = np.concatenate([[0], np.cumsum(np.array(config.blocks) + 1)])[block] + dst - 1  # which destination
        readers = list(destinations(config))
        channels = np.where(src == 0, np.array([each.in_channels for each in config.geometry])[block], config.growth)
        weights = np.array([reader.weights for reader in readers], dtype=np.int64)[heads] * channels
        self.connection_macs: IntArray = weights * np.array([reader.pixels for reader in readers])[heads]
        self.connection_parameters: IntArray = weights + 2 * channels
        self.least_macs = self.dense_macs - int(self.connection_macs.sum())
        self.least_parameters = self.dense_parameters - int(self.connection_parameters.sum())

    @property
    def relative_costs(self) -> NDArray[np.float64]:
        """float64[E]: relative cost of keeping each skip connection; they sum to 1."""
        return self.connection_macs / (self.dense_macs - self.least_macs)

    def macs(self, masks: Any) -> IntArray:
        """int64[...]: MACs of masks [..., E] for one image."""
        return self.least_macs + self._bits(masks) @ self.connection_macs

    def parameters(self, masks: Any) -> IntArray:
        """int64[...]: parameters of masks [..., E]."""
        return self.least_parameters + self._bits(masks) @ self.connection_parameters

    def _bits(self, masks: Any) -> IntArray:
        """Masks as int64[..., E]; an `InvalidValue` where they are none."""
        return self.topology.as_masks(masks).astype(np.int64)

    def relative_macs(self, masks: Any) -> NDArray[np.float64]:
        """float64[...]: MACs / dense MACs."""
        return self.macs(masks) / self.dense_macs

    def relative_cost(self, masks: Any) -> NDArray[np.float64]:
        """float64[...], 0 to 1: (MACs - least in this scope) / (dense - least)."""
        return (self.macs(masks) - self.least_macs) / (self.dense_macs - self.least_macs)

    @checked
    def random_mask(self, rng: np.random.Generator, relative_cost: Number) -> BoolArray:
        """bool[E]: connections kept in random order until the relative cost is as near `relative_cost` as it gets."""
        order = rng.permutation(self.topology.size)
        reached = np.concatenate([[0.0], np.cumsum(self.relative_costs[order])])
        mask = self.topology.chain()
        mask[order[: int(np.abs(reached - relative_cost).argmin())]] = True
        return mask


def architecture_cost(architecture: Architecture) -> tuple[int, int]:
    """(MACs, parameters) of one architecture."""
    return cost_of(architecture.config, architecture.channels, architecture.node_widths)


def relative_macs(architecture: Architecture) -> float:
    """MACs / those of the network with every connection and every channel."""
    return architecture_cost(architecture)[0] / architecture_cost(architecture.dense)[0]


def readers_macs(config: DenseNetConfig) -> IntArray:
    """int64[destinations]: MACs of all that may read each destination, block by block; 0 for the classifier."""
    macs = []
    for block, shape in enumerate(config.geometry):
        costs = [reader.weights * reader.pixels for reader in destinations(config) if reader.block == block]
        channels = [shape.in_channels] + [config.growth] * shape.layers
        macs += [width * sum(costs[node:]) for node, width in enumerate(channels)]
    return np.array([*macs[1:], 0], dtype=np.int64)  # the first is the stem's


class Destination(NamedTuple):
    """What reads sources: a layer, a transition or the classifier. A connection costs its share of it."""

    block: int
    channels: int  # that it reads, with every connection
    weights: int  # for each channel that it reads; a BatchNorm has two more
    pixels: int  # at which these weights are applied
    is_layer: bool


def kept_within(order: IntArray | Sequence[int], macs: IntArray, room: int) -> BoolArray:
    """What is kept, bool [E], if connections are dropped in an order until the others fit.

    What was dropped last is put back as far as it fits.

    Args:
        order: of all skip connections, by their numbers.
        macs: int64 [E], of each connection.
        room: most MACs that those that are kept need in all.
    """
    mask = np.ones(len(order), np.bool_)
    for connection in order:
        if int(mask @ macs) <= room:
            break
        mask[connection] = False
    for connection in reversed(order):
        mask[connection] |= int(mask @ macs) + int(macs[connection]) <= room
    return mask


def destinations(config: DenseNetConfig) -> Iterator[Destination]:
    """All destinations, block by block, layers then output."""
    for index, block in enumerate(config.geometry):
        pixels = block.height * block.width
        for layer, between in enumerate(config.bottleneck_channels[index]):
            weights = between or 9 * config.growth
            yield Destination(index, block.in_channels + layer * config.growth, weights, pixels, True)
        is_last = index == len(config.blocks) - 1  # the classifier reads the average pixel
        read = block.concatenated(config.growth)
        yield Destination(index, read, block.out_channels, 1 if is_last else pixels, False)


def dense_cost(config: DenseNetConfig) -> tuple[int, int]:
    """(MACs, parameters) of the dense network, in closed form: nothing of its size is allocated."""
    return cost_of(config, config.source_widths, config.node_widths)


def cost_of(config: DenseNetConfig, reads: Sequence[Sequence[int]], nodes: Sequence[Sequence[int]]) -> tuple[int, int]:
    """(MACs, parameters) of a network.

    Args:
        config: of it.
        reads: of every destination, how many channels it reads of each node before it.
        nodes: of each block, the channels of its input and of its layers.
    """
    is_pooled = config.stem is Stem.CONV7_POOL
    first, channels = config.geometry[0], nodes[0][0]
    stem_pixels = first.height * first.width
    if is_pooled:  # the convolution's output, before the max pool
        stem_pixels = ((config.image_shape[1] + 1) // 2) * ((config.image_shape[2] + 1) // 2)
    parameters = (49 if is_pooled else 9) * config.image_shape[0] * channels
    macs = parameters * stem_pixels
    parameters += 2 * channels if is_pooled else 0
    given, between = _outputs(config, nodes), chain.from_iterable((*each, 0) for each in config.bottleneck_channels)
    for reader, read, outputs, width in zip(destinations(config), reads, given, between, strict=True):
        # Of the first convolution, for each channel that it reads:
        weights = width or (9 if reader.is_layer else 1) * outputs
        second = 9 * width * outputs  # of the 3x3 behind a bottleneck
        macs += (sum(read) * weights + second) * reader.pixels
        parameters += sum(read) * (weights + 2) + second + 2 * width  # and of BatchNorms
    return macs, parameters + config.classes


def _outputs(config: DenseNetConfig, nodes: Sequence[Sequence[int]]) -> Iterator[int]:
    """Channels that each destination gives."""
    for block, widths in enumerate(nodes):
        yield from widths[1:]
        yield nodes[block + 1][0] if block + 1 < len(nodes) else config.classes


def map_bytes(config: DenseNetConfig, is_training: bool = False) -> int:
    """Bytes of the feature maps of one image in float32, roughly: all nodes, and what the widest destination reads.

    In training every destination's input is kept for the gradient, normalised too.
    """
    nodes = sum(
        (block.in_channels + block.layers * config.growth) * block.height * block.width for block in config.geometry
    )
    read = [
        reader.channels * config.geometry[reader.block].height * config.geometry[reader.block].width
        for reader in destinations(config)
    ]
    return FLOAT32 * (nodes + 2 * (sum(read) if is_training else max(read)))


def training_bytes(config: DenseNetConfig, images: int, shift: int = 0) -> int:
    """Bytes that a training step on so many images takes, roughly: weights, gradients, momenta, feature maps.

    Args:
        config: of the network.
        images: in a step.
        shift: pixels by which they are moved; so many are added around each.
    """
    channels, height, width = config.image_shape
    moved = channels * (height + 2 * shift) * (width + 2 * shift)
    return 3 * FLOAT32 * dense_cost(config)[1] + images * (moved + map_bytes(config, is_training=True))


def check_training_memory(config: DenseNetConfig, recipe: Recipe) -> None:
    """Check, before anything is read, that a training by a recipe needs no more memory than is allowed.

    Raises:
        InvalidValue: it needs more, see `limits.allow_large`.
    """
    batch = recipe.batch_size
    check_memory(f"training this network on {batch} images a step", training_bytes(config, batch, recipe.shift))
