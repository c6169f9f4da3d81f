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

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.architecture import DenseNetConfig
from ads_gym.evaluators.kernels import LAYOUT, Affine, Convolution, Moments, Norms, average_pool, convolution, moments
from ads_gym.nets.densenet import DenseNet, Layer, Transition, uninitialised

Sources = tuple[int, ...]  # nodes of a block that a destination reads, ascending


class Estimates(NamedTuple):
    """What the calibration images say about a node under a mask."""

    output: Moments | None  # of its maps; None at the classifier
    inner: Moments | None = None  # of what its own second BatchNorm reads (bottleneck layers, the ImageNet stem)
    weights: tuple[Any, ...] = ()  # its own, where they are not the supernet's, in the form that computes


class Node:
    """One node under one mask, for a set of images."""

    def __init__(self, maps: Tensor, estimates: Estimates, affine: Affine | None) -> None:
        self.maps = maps  # [n, c, h, w]; logits [n, classes] at the classifier
        self.estimates = estimates
        self.affine = affine  # its readers' BatchNorms; None at the classifier
        self.is_whole = True  # whether it is what it is in the dense network, as far as repairs are concerned
        self.kept: dict[Hashable, Tensor] = {}  # by reader, what is computed of it for that one: see `Memory`


class Input(NamedTuple):
    """A node that a destination reads."""

    src: int  # its number in the block
    node: Node
    reader: int  # number of the destination among the node's readers


class Memory:
    """Keeps what is computed of nodes for their readers, as far as it fits; the rest is computed again, to equal bits.

    Args:
        budget: bytes.
    """

    def __init__(self, budget: int) -> None:
        self._left = budget

    def get(self, node: Node, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """A tensor that depends on a node and on no other node behind it on a path."""
        tensor = node.kept.get(key)
        if tensor is None:
            tensor = compute()
            if tensor.nbytes <= self._left:
                self._left -= tensor.nbytes
                node.kept[key] = tensor
        return tensor

    def forget(self, nodes: Iterable[Node]) -> None:
        """Count what nodes keep, which are themselves given up, as free again."""
        self._left += sum(tensor.nbytes for node in nodes for tensor in node.kept.values())


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

    def __call__(self, images: Tensor, known: Estimates | None) -> Node:
        """The node of images [n, c, h, w], with `known` estimates; None: make them, of these images."""
        inner, maps = None, images
        for module in self._modules.children():
            if isinstance(module, nn.BatchNorm2d):
                inner = cast(Moments, known.inner) if known else moments(maps)
                variance = inner.unbiased if known else inner.biased
                maps = functional.batch_norm(maps, inner.mean, variance, module.weight, module.bias, eps=module.eps)
            else:
                maps = module(maps)
        maps = maps.contiguous(memory_format=LAYOUT)  # with one channel, torch does not recognise this layout
        estimates = known or Estimates(moments(maps), inner)
        return Node(maps, estimates, self._readers(cast(Moments, estimates.output), known is None))


class Destination:
    """A node that reads other nodes.

    Args:
        block: to which it belongs.
        readers: the BatchNorms of its own readers; None at the classifier, which has none.
    """

    def __init__(self, block: Block, readers: Norms | None) -> None:
        self.block, self._readers = block, readers

    def node(self, inputs: Sequence[Input], memory: Memory, known: Estimates | None) -> Node:
        """The node if it reads `inputs`, with `known` estimates; None: make them, of these images."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Bytes of its weights, in the form that computes."""
        raise NotImplementedError

    def terms(self, inputs: Sequence[Input], memory: Memory) -> list[Tensor]:
        """The contribution of each input."""
        return [memory.get(each.node, each.reader, partial(self._compute, each)) for each in inputs]

    def _compute(self, given: Input) -> Tensor:
        """The contribution of an input."""
        affine = cast(Affine, given.node.affine)
        return self.block.apply_in_chunks(
            lambda maps: self._contribution(given.src, affine.relu(maps, given.reader)), given.node.maps
        )

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        """The same, from normalised maps [n, c, h, w] of the source."""
        raise NotImplementedError

    def make_node(
        self, maps: Tensor, known: Estimates | None, inner: Moments | None = None, weights: tuple[Any, ...] = ()
    ) -> Node:
        """A node that has readers, of its maps [n, c, h, w]."""
        estimates = known or Estimates(moments(maps), inner, weights)
        return Node(maps, estimates, cast(Norms, self._readers)(cast(Moments, estimates.output), known is None))


class LayerDestination(Destination):
    """A layer: a sum of convolutions."""

    def __init__(self, layer: Layer, widths: list[int], block: Block, readers: Norms) -> None:
        super().__init__(block, readers)
        self.weights = torch.split(layer.conv1.weight, widths, dim=1)  # of each source
        self._convolutions = [block.convolution(part) for part in self.weights]
        self.norm2 = block.norms([layer.norm2], slice(None)) if layer.bottleneck else None
        self.weight2 = layer.conv2.weight if layer.bottleneck else None
        self._convolution2 = None if self.weight2 is None else block.convolution(self.weight2)

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        return self._convolutions[src](maps)

    def node(self, inputs: Sequence[Input], memory: Memory, known: Estimates | None) -> Node:
        """See `Destination`."""
        maps, inner = self.first_convolution(inputs, memory), None
        if self.norm2 and self._convolution2:
            inner = cast(Moments, known.inner) if known else moments(maps)
            maps = self.second_convolution(maps, self.norm2(inner, known is None), self._convolution2)
        return self.make_node(maps, known, inner)

    @property
    def nbytes(self) -> int:
        """See `Destination`."""
        second = self._convolution2.nbytes if self._convolution2 else 0
        return sum(convolve.nbytes for convolve in self._convolutions) + second

    def first_convolution(self, inputs: Sequence[Input], memory: Memory) -> Tensor:
        """What the layer's first convolution gives, as a sum of contributions."""
        first, *others = self.terms(inputs, memory)
        total = first
        for count, term in enumerate(others):
            total = total.add_(term) if count else total + term  # the first sum is a new tensor
        return self._convolutions[0].maps(total)

    def second_convolution(self, maps: Tensor, affine: Affine, convolve: Convolution) -> Tensor:
        """What a bottleneck layer makes of what its first convolution gave."""
        return self.block.apply_in_chunks(lambda part: convolve.maps(convolve(affine.relu(part))), maps)


class TransitionDestination(Destination):
    """A transition: a 1x1 convolution of pooled maps."""

    def __init__(self, transition: Transition, widths: list[int], block: Block, readers: Norms) -> None:
        super().__init__(block, readers)
        self.weights = torch.split(transition.conv.weight, widths, dim=1)  # of each source

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        return average_pool(maps)

    def node(self, inputs: Sequence[Input], memory: Memory, known: Estimates | None) -> Node:
        """See `Destination`."""
        weight = torch.cat([self.weights[each.src] for each in inputs], dim=1)
        return self.make_node(self.convolve(self.terms(inputs, memory), weight), known)

    @property
    def nbytes(self) -> int:
        """See `Destination`."""
        return sum(weight.nbytes for weight in self.weights)

    def convolve(self, terms: Sequence[Tensor], weight: Tensor) -> Tensor:
        """Convolve pooled maps of sources with a weight [outputs, c, 1, 1]."""
        maps = torch.cat(terms, dim=1)  # type: ignore[arg-type]
        return self.block.apply_in_chunks(lambda part: functional.conv2d(part, weight), maps)


class ClassifierDestination(Destination):
    """The classifier: a product with the means over pixels."""

    def __init__(self, classifier: nn.Linear, widths: list[int], block: Block) -> None:
        super().__init__(block, None)
        self.weights, self.bias = torch.split(classifier.weight, widths, dim=1), classifier.bias

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))

    def node(self, inputs: Sequence[Input], memory: Memory, known: Estimates | None) -> Node:
        """See `Destination`."""
        weight = torch.cat([self.weights[each.src] for each in inputs], dim=1)
        logits = functional.linear(torch.cat(self.terms(inputs, memory), dim=1), weight, self.bias)
        return Node(logits, Estimates(None), None)

    @property
    def nbytes(self) -> int:
        """See `Destination`."""
        return sum(weight.nbytes for weight in self.weights)


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
        widths = [list(each) for each in config.source_widths]
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

    def node(self, index: int, sources: Sources, path: Sequence[Node], memory: Memory, known: Estimates | None) -> Node:
        """The node of destination `index` if it reads `sources`, which are on the path that leads to it."""
        destination = self.destinations[index]
        first = destination.block.first
        inputs = [Input(src, path[first + src], index - first - src) for src in sources]
        return destination.node(inputs, memory, known)


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
        pixels, between = shape.height * shape.width, config.bottleneck_channels[index]
        maps += shape.concatenated(config.growth) * pixels
        contributions += sum(dst * (width or config.growth) for dst, width in enumerate(between, start=1)) * pixels
        is_last = index == len(config.blocks) - 1
        contributions += shape.concatenated(config.growth) * (
            1 if is_last else (shape.height // 2) * (shape.width // 2)
        )
    return maps, contributions
