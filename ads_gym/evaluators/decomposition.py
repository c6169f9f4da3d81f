"""Decompose a supernet by connection: under any mask, a layer's output is a sum of terms, one for each kept source.

A layer is a sum: a convolution of concatenated sources equals the sum of one convolution per source, with its slice of
the weights. And pre-activation BatchNorm normalises channel by channel, so mean and variance belong to a source and are
the same for all its readers. So the contribution of one version of a source to one reader does not depend on the rest
of the mask: it is computed once, and added, in the order of sources, wherever the connection is kept. (In a bottleneck
layer this holds up to the second BatchNorm.) The contribution to a transition is the pooled maps, with which the 1x1
convolution commutes, and to the classifier their means: these are small, and one product of their concatenation is
faster than a sum of products.

Shapes: n images, c channels, h x w pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.architecture import DenseNetConfig
from ads_gym.evaluators.kernels import LAYOUT, Affine, Convolution, Moments, Norms, average_pool, convolution, moments
from ads_gym.nets.densenet import DenseNet, Layer, Transition, source_widths, uninitialised

Sources = tuple[int, ...]  # nodes of a block that a destination reads, ascending


class Statistics(NamedTuple):
    """BatchNorm statistics of a node under a mask."""

    output: Moments | None  # of its maps; None at the classifier
    inner: Moments | None  # of the input of the node's own second BatchNorm (bottleneck layers, the ImageNet stem)


class Node:
    """One node under one mask, for a set of images."""

    def __init__(self, maps: Tensor, statistics: Statistics, affine: Affine | None) -> None:
        self.maps = maps  # [n, c, h, w]; logits [n, classes] at the classifier
        self.statistics = statistics
        self.affine = affine  # its readers' BatchNorms; None at the classifier
        self.contributions: dict[int, Tensor] = {}  # by reader, as far as computed; they do not depend on the mask


class Block(NamedTuple):
    """What all destinations of a block have in common."""

    first: int  # position of the block's node 0 on a path
    size: tuple[int, int]  # h, w
    chunk: int  # images computed together

    def convolution(self, weight: Tensor) -> Convolution:
        """The convolution of weight [outputs, c, k, k]."""
        return convolution(weight, self.size)

    def norms(self, norms: Sequence[nn.BatchNorm2d], channels: slice) -> Norms:
        """BatchNorms restricted to some of their channels."""
        weights, biases = [norm.weight[channels] for norm in norms], [norm.bias[channels] for norm in norms]
        return Norms(weights, biases, norms[0].eps, self.size[1])

    def apply_in_chunks(self, run: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
        """Apply `run` to maps [n, ...], few images at a time, so that intermediate results stay in the cache."""
        if len(maps) <= self.chunk:
            return run(maps)
        return torch.cat([run(part) for part in torch.split(maps, self.chunk)])


class Stem:
    """Computes the first feature map, which does not depend on the mask."""

    def __init__(self, modules: nn.Module, readers: Norms) -> None:
        self._modules, self._readers = modules, readers

    def __call__(self, images: Tensor, known: Statistics | None) -> Node:
        """The node of images [n, c, h, w], with `known` statistics; None: estimate them on these images."""
        inner, maps = None, images
        for module in self._modules.children():
            if isinstance(module, nn.BatchNorm2d):
                inner = cast(Moments, known.inner) if known else moments(maps)
                variance = inner.unbiased if known else inner.biased
                maps = functional.batch_norm(maps, inner.mean, variance, module.weight, module.bias, eps=module.eps)
            else:
                maps = module(maps)
        maps = maps.contiguous(memory_format=LAYOUT)  # with one channel, torch does not recognise this layout
        statistics = known or Statistics(moments(maps), inner)
        return Node(maps, statistics, self._readers(cast(Moments, statistics.output), known is None))


class Destination:
    """A node that reads other nodes.

    Args:
        block: to which it belongs.
        readers: the BatchNorms of its own readers; None at the classifier, which has none.
    """

    def __init__(self, block: Block, readers: Norms | None) -> None:
        self.block, self._readers = block, readers

    def contribution(self, src: int, node: Node, reader: int) -> Tensor:
        """The contribution of source `src` to this destination.

        Args:
            src: number of the source in the block.
            node: of the source.
            reader: number of this destination among the source's readers.
        """
        affine = cast(Affine, node.affine)
        return self.block.apply_in_chunks(lambda maps: self._contribution(src, affine.relu(maps, reader)), node.maps)

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """The node, from the contributions `terms` of `sources`, with `known` statistics; None: estimate them."""
        raise NotImplementedError

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        """The same, from normalised maps [n, c, h, w] of the source."""
        raise NotImplementedError

    def _make_node(self, maps: Tensor, known: Statistics | None, inner: Moments | None = None) -> Node:
        statistics = known or Statistics(moments(maps), inner)
        return Node(maps, statistics, cast(Norms, self._readers)(cast(Moments, statistics.output), known is None))


class LayerDestination(Destination):
    """A layer: a sum of convolutions."""

    def __init__(self, layer: Layer, widths: list[int], block: Block, readers: Norms) -> None:
        super().__init__(block, readers)
        self._convolutions = [block.convolution(part) for part in torch.split(layer.conv1.weight, widths, dim=1)]
        self._bottleneck = None
        if layer.bottleneck:
            self._bottleneck = block.norms([layer.norm2], slice(None)), block.convolution(layer.conv2.weight)

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        return self._convolutions[src](maps)

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """See `Destination`."""
        total, inner = terms[0], None
        for count, term in enumerate(terms[1:]):
            total = total.add_(term) if count else total + term  # the first sum is a new tensor
        total = self._convolutions[0].maps(total)
        if self._bottleneck:
            norm, convolve = self._bottleneck
            inner = cast(Moments, known.inner) if known else moments(total)
            affine = norm(inner, known is None)
            total = self.block.apply_in_chunks(lambda maps: convolve.maps(convolve(affine.relu(maps))), total)
        return self._make_node(total, known, inner)


class TransitionDestination(Destination):
    """A transition: a 1x1 convolution of pooled maps."""

    def __init__(self, transition: Transition, widths: list[int], block: Block, readers: Norms) -> None:
        super().__init__(block, readers)
        self._weights = torch.split(transition.conv.weight, widths, dim=1)

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        return average_pool(maps)

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """See `Destination`."""
        weight = torch.cat([self._weights[src] for src in sources], dim=1)
        maps = torch.cat(terms, dim=1)  # type: ignore[arg-type]
        return self._make_node(self.block.apply_in_chunks(lambda part: functional.conv2d(part, weight), maps), known)


class ClassifierDestination(Destination):
    """The classifier: a product with the means over pixels."""

    def __init__(self, classifier: nn.Linear, widths: list[int], block: Block) -> None:
        super().__init__(block, None)
        self._weights, self._bias = torch.split(classifier.weight, widths, dim=1), classifier.bias

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """See `Destination`."""
        weight = torch.cat([self._weights[src] for src in sources], dim=1)
        logits = functional.linear(torch.cat(terms, dim=1), weight, self._bias)  # type: ignore[arg-type]
        return Node(logits, Statistics(None, None), None)


class Decomposition:
    """A decomposed copy of a supernet: the stem, and every destination, block by block.

    Args:
        supernet: with trained weights.
        device: of the copy.
        dtype: of weights and maps; BatchNorm and its statistics are in float32 at least.
        chunk: images computed together.
    """

    def __init__(self, supernet: DenseNet, device: torch.device, dtype: torch.dtype, chunk: int) -> None:
        network, config = _copy(supernet, device, dtype), supernet.config
        firsts = accumulate((layers + 1 for layers in config.blocks), initial=0)
        blocks = [
            Block(first, (shape.height, shape.width), chunk)
            for shape, first in zip(config.geometry, firsts, strict=False)
        ]
        stem, modules = _split_features(network.features)
        widths = source_widths(config)
        outputs = [widths[block.first + layers] for block, layers in zip(blocks, config.blocks, strict=True)]
        readers = chain.from_iterable(map(_reader_norms, modules, outputs, blocks))  # in the order of a path
        self.stem = Stem(stem, next(readers))
        self.destinations: list[Destination] = []
        for block, block_modules in zip(blocks, modules, strict=True):
            for module in block_modules:
                in_widths = widths[len(self.destinations)]
                if isinstance(module, Layer):
                    destination: Destination = LayerDestination(module, in_widths, block, next(readers))
                elif isinstance(module, Transition):
                    destination = TransitionDestination(module, in_widths, block, next(readers))
                else:
                    destination = ClassifierDestination(network.classifier, in_widths, block)
                self.destinations.append(destination)


def copy_weights(supernet: DenseNet) -> DenseNet:
    """A copy on the CPU, in the same dtype."""
    network = uninitialised(lambda device: DenseNet(supernet.config, device))
    network.to(supernet.classifier.weight.dtype).load_state_dict(supernet.state_dict())
    return network.eval()


def _copy(supernet: DenseNet, device: torch.device, dtype: torch.dtype) -> DenseNet:
    network = copy_weights(supernet)
    network.to(device, torch.promote_types(dtype, torch.float32)).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
    return network


def _split_features(features: nn.Sequential) -> tuple[nn.Sequential, list[list[nn.Module]]]:
    """The stem; for each block its layers and the module behind them: a transition or the last BatchNorm."""
    stem, blocks = nn.Sequential(), []
    for name, child in features.named_children():
        if isinstance(child, nn.Sequential):
            blocks.append(list(child))
        elif blocks:
            blocks[-1].append(child)
        else:
            stem.add_module(name, child)
    return stem, blocks


def _reader_norms(modules: list[nn.Module], widths: list[int], block: Block) -> Iterator[Norms]:
    """For every source of a block, whose channels are `widths`: the BatchNorms of all its readers."""
    norms, start = [cast(nn.BatchNorm2d, _first_norm(module)) for module in modules], 0
    for src, width in enumerate(widths):
        yield block.norms(norms[src:], slice(start, start + width))
        start += width


def _first_norm(module: nn.Module) -> nn.Module:
    return module.norm1 if isinstance(module, Layer) else module.norm if isinstance(module, Transition) else module


def values_per_image(config: DenseNetConfig) -> tuple[int, int]:
    """Numbers that the longest path holds for one image: in feature maps, and in contributions.

    (Where the height is no multiple of the rows computed together, contributions have up to three rows more.)
    """
    maps = contributions = 0
    for index, shape in enumerate(config.geometry):
        pixels, readers = shape.height * shape.width, range(1, shape.layers + 1)
        maps += shape.concatenated(config.growth) * pixels
        contributions += sum(readers) * config.growth * (4 if config.bottleneck else 1) * pixels
        is_last = index == len(config.blocks) - 1
        contributions += shape.concatenated(config.growth) * (
            1 if is_last else (shape.height // 2) * (shape.width // 2)
        )
    return maps, contributions
