"""A supernet taken apart, so that what a source is to one reader can be computed by itself.

A layer is a sum: a convolution of concatenated sources equals the sum of one convolution a source, with its slice of
the weights. And pre-activation BatchNorm normalises channel by channel, so mean and variance belong to a source,
whoever reads it. So what one version of a source contributes to one reader does not depend on the rest of the mask: it
is computed once, and added, in the order of sources, wherever it is kept. (In a bottleneck layer this holds up to the
second BatchNorm.) What a source contributes to a transition is its pooled maps, with which the 1x1 convolution
commutes, and to the classifier their means: these are small, and one product of all together is faster than a sum.

Shapes: n images, c channels, h x w pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.architecture import DenseNetConfig
from ads_gym.evaluators.kernels import LAYOUT, Affine, Convolution, Moments, Norms, convolution, moments, pooled
from ads_gym.nets.densenet import DenseNet, Layer, Transition, source_widths

Sources = tuple[int, ...]  # nodes of a block that a destination reads, ascending


class Statistics(NamedTuple):
    """What BatchNorm needs of a node under a mask."""

    output: Moments | None  # of its maps; None at the classifier
    inner: Moments | None  # of what the node's own second BatchNorm reads (bottleneck layers, the ImageNet stem)


class Node:
    """What one node is under one mask, for the images at hand."""

    def __init__(self, maps: Tensor, statistics: Statistics, affine: Affine | None) -> None:
        self.maps = maps  # [n, c, h, w]; logits [n, classes] at the classifier
        self.statistics = statistics
        self.affine = affine  # as its readers normalise it; None at the classifier
        self.contributions: dict[int, Tensor] = {}  # to each reader so far, without regard to the mask


class Place(NamedTuple):
    """What all parts of a block need to know."""

    first: int  # position of the block's node 0 on a path
    size: tuple[int, int]  # h, w
    chunk: int  # images that go together where more are at hand

    def convolution(self, weight: Tensor) -> Convolution:
        """Of weight [outputs, c, k, k]."""
        return convolution(weight, self.size)

    def norms(self, norms: Sequence[nn.BatchNorm2d], channels: slice) -> Norms:
        """Some channels of BatchNorms, side by side."""
        weights, biases = [norm.weight[channels] for norm in norms], [norm.bias[channels] for norm in norms]
        return Norms(weights, biases, norms[0].eps, self.size[1])

    def in_chunks(self, run: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
        """`run` of maps [n, ...], so many images at a time that all it makes of them stays in the cache."""
        if len(maps) <= self.chunk:
            return run(maps)
        return torch.cat([run(part) for part in torch.split(maps, self.chunk)])


class Stem:
    """The first feature map; it does not depend on the mask."""

    def __init__(self, modules: nn.Module, readers: Norms) -> None:
        self._modules, self._readers = modules, readers

    def __call__(self, images: Tensor, known: Statistics | None) -> Node:
        """Of images [n, c, h, w]; `known` has its statistics, None: estimate them."""
        inner, maps = None, images
        for module in self._modules.children():
            if isinstance(module, nn.BatchNorm2d):
                inner = cast(Moments, known.inner) if known else moments(maps)
                variance = inner.unbiased if known else inner.biased
                maps = functional.batch_norm(maps, inner.mean, variance, module.weight, module.bias, eps=module.eps)
            else:
                maps = module(maps)
        maps = maps.contiguous(memory_format=LAYOUT)  # of one channel, torch does not see that it had this layout
        statistics = known or Statistics(moments(maps), inner)
        return Node(maps, statistics, self._readers(cast(Moments, statistics.output), known is None))


class Destination:
    """What reads other nodes.

    Args:
        place: where it stands.
        readers: their BatchNorms; None at the classifier, which has none.
    """

    def __init__(self, place: Place, readers: Norms | None) -> None:
        self.place, self._readers = place, readers

    def contribution(self, src: int, node: Node, reader: int) -> Tensor:
        """What source `src` comes to here; it is `node`, whose reader of that number this is."""
        affine = cast(Affine, node.affine)
        return self.place.in_chunks(lambda maps: self._contribution(src, affine.relu(maps, reader)), node.maps)

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """The node, from what `sources` contribute; `known` has its statistics, None: estimate them."""
        raise NotImplementedError

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        """Of normalised maps [n, c, h, w]."""
        raise NotImplementedError

    def _finished(self, maps: Tensor, known: Statistics | None, inner: Moments | None = None) -> Node:
        statistics = known or Statistics(moments(maps), inner)
        return Node(maps, statistics, cast(Norms, self._readers)(cast(Moments, statistics.output), known is None))


class LayerDestination(Destination):
    """A layer: a sum of convolutions."""

    def __init__(self, layer: Layer, widths: list[int], place: Place, readers: Norms) -> None:
        super().__init__(place, readers)
        self._convolutions = [place.convolution(part) for part in torch.split(layer.conv1.weight, widths, dim=1)]
        self._bottleneck = None
        if layer.bottleneck:
            self._bottleneck = place.norms([layer.norm2], slice(None)), place.convolution(layer.conv2.weight)

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        return self._convolutions[src](maps)

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """See `Destination`."""
        total, inner = terms[0], None
        for count, term in enumerate(terms[1:]):
            total = total.add_(term) if count else total + term  # the first sum is a fresh tensor
        total = self._convolutions[0].maps(total)
        if self._bottleneck:
            norm, convolve = self._bottleneck
            inner = cast(Moments, known.inner) if known else moments(total)
            affine = norm(inner, known is None)
            total = self.place.in_chunks(lambda maps: convolve.maps(convolve(affine.relu(maps))), total)
        return self._finished(total, known, inner)


class TransitionDestination(Destination):
    """A transition: a 1x1 convolution of pooled maps."""

    def __init__(self, transition: Transition, widths: list[int], place: Place, readers: Norms) -> None:
        super().__init__(place, readers)
        self._weights = torch.split(transition.conv.weight, widths, dim=1)

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        return pooled(maps)

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """See `Destination`."""
        weight = torch.cat([self._weights[src] for src in sources], dim=1)
        maps = torch.cat(terms, dim=1)  # type: ignore[arg-type]
        return self._finished(self.place.in_chunks(lambda part: functional.conv2d(part, weight), maps), known)


class ClassifierDestination(Destination):
    """The classifier: a product with the means over pixels."""

    def __init__(self, classifier: nn.Linear, widths: list[int], place: Place) -> None:
        super().__init__(place, None)
        self._weights, self._bias = torch.split(classifier.weight, widths, dim=1), classifier.bias

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """See `Destination`."""
        weight = torch.cat([self._weights[src] for src in sources], dim=1)
        logits = functional.linear(torch.cat(terms, dim=1), weight, self._bias)  # type: ignore[arg-type]
        return Node(logits, Statistics(None, None), None)


class Parts:
    """A copy of a supernet, taken apart: the stem, and every destination, block by block.

    Args:
        supernet: with trained weights.
        device: where they go.
        dtype: of weights and maps; BatchNorm stays in float32 at least, as its statistics do.
        chunk: images that go together where more are at hand.
    """

    def __init__(self, supernet: DenseNet, device: torch.device, dtype: torch.dtype, chunk: int) -> None:
        network, config = _copy(supernet, device, dtype), supernet.config
        firsts = accumulate((layers + 1 for layers in config.blocks), initial=0)
        places = [
            Place(first, (block.height, block.width), chunk)
            for block, first in zip(config.geometry, firsts, strict=False)
        ]
        stem, blocks = _taken_apart(network.features)
        widths = source_widths(config)
        outputs = [widths[place.first + layers] for place, layers in zip(places, config.blocks, strict=True)]
        readers = chain.from_iterable(map(_readers, blocks, outputs, places))  # as a path goes
        self.stem = Stem(stem, next(readers))
        self.destinations: list[Destination] = []
        for place, block in zip(places, blocks, strict=True):
            for module in block:
                reads = widths[len(self.destinations)]
                if isinstance(module, Layer):
                    destination: Destination = LayerDestination(module, reads, place, next(readers))
                elif isinstance(module, Transition):
                    destination = TransitionDestination(module, reads, place, next(readers))
                else:
                    destination = ClassifierDestination(network.classifier, reads, place)
                self.destinations.append(destination)


def _copy(supernet: DenseNet, device: torch.device, dtype: torch.dtype) -> DenseNet:
    network = DenseNet(supernet.config)
    network.load_state_dict(supernet.state_dict())
    network.to(device, torch.promote_types(dtype, torch.float32)).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
    return network


def _taken_apart(features: nn.Sequential) -> tuple[nn.Sequential, list[list[nn.Module]]]:
    """The stem; for each block its layers and what stands behind them: a transition or the last BatchNorm."""
    stem, blocks = nn.Sequential(), []
    for name, child in features.named_children():
        if isinstance(child, nn.Sequential):
            blocks.append(list(child))
        elif blocks:
            blocks[-1].append(child)
        else:
            stem.add_module(name, child)
    return stem, blocks


def _readers(block: list[nn.Module], widths: list[int], place: Place) -> Iterator[Norms]:
    """Of every source of a block, whose channels are `widths`: the BatchNorms of those behind it."""
    norms, start = [cast(nn.BatchNorm2d, _first_norm(module)) for module in block], 0
    for src, width in enumerate(widths):
        yield place.norms(norms[src:], slice(start, start + width))
        start += width


def _first_norm(module: nn.Module) -> nn.Module:
    return module.norm1 if isinstance(module, Layer) else module.norm if isinstance(module, Transition) else module


def numbers_an_image(config: DenseNetConfig) -> tuple[int, int]:
    """What a path holds of one image when it is longest: numbers in feature maps, and in contributions.

    (Of maps whose height is no multiple of the rows that go together, contributions have up to three rows more.)
    """
    maps = contributions = 0
    for index, block in enumerate(config.geometry):
        pixels, readers = block.height * block.width, range(1, block.layers + 1)
        maps += block.concatenated(config.growth) * pixels
        contributions += sum(readers) * config.growth * (4 if config.bottleneck else 1) * pixels
        is_last = index == len(config.blocks) - 1
        contributions += block.concatenated(config.growth) * (
            1 if is_last else (block.height // 2) * (block.width // 2)
        )
    return maps, contributions
