"""Feature maps under one mask after another, each computed once where masks agree.

A layer is a sum: a convolution of concatenated sources equals the sum of one convolution a source, with its slice of
the weights. And pre-activation BatchNorm normalises channel by channel, so mean and variance belong to a source,
whoever reads it. So what one version of a source contributes to one reader does not depend on the rest of the mask: it
is computed once, and added, in the order of sources, wherever it is kept. (In a bottleneck layer this holds up to the
second BatchNorm.) What a source contributes to a transition is its pooled maps, with which the 1x1 convolution
commutes, and to the classifier their means: these are small, and one product of all together is faster than a sum.

Sorted masks make a trie: two that agree on what the first destinations read have the same maps up to there. A walk goes
through it depth first and holds one path. Shapes: n images, c channels, h x w pixels, E skip connections.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.architecture import DenseNetConfig
from ads_gym.nets.densenet import DenseNet, Layer, Transition, source_widths

Sources = tuple[int, ...]  # nodes of a block that a destination reads, ascending


class Moments(NamedTuple):
    """Statistics of feature maps over the calibration images, float [c]."""

    mean: Tensor
    biased: Tensor  # variance that a train-mode pass normalises by
    unbiased: Tensor  # variance that it stores, and an eval-mode pass normalises by


class Statistics(NamedTuple):
    """What BatchNorm needs of a node under a mask."""

    output: Moments | None  # of its maps; None at the classifier
    inner: Moments | None  # of what the node's own second BatchNorm reads (bottleneck layers, the ImageNet stem)


class Node:
    """What one node is under one mask, for the images at hand."""

    def __init__(self, maps: Tensor, statistics: Statistics) -> None:
        self.maps = maps  # [n, c, h, w]; logits [n, classes] at the classifier
        self.statistics = statistics
        self.contributions: dict[int, Tensor] = {}  # to the destination of that index, without regard to the mask


class Walk:
    """A set of images on its way through the trie of masks.

    Args:
        parts: of the supernet.
        images: float [n, c, h, w] scaled to [-1, 1].
        room: bytes of contributions that it may hold; what does not fit is computed again, to the same bits.
    """

    def __init__(self, parts: "Parts", images: Tensor, room: int) -> None:
        self._parts, self._room = parts, room
        self._images = images.contiguous(memory_format=parts.layout)  # what is computed of them keeps it
        self._path: list[Node] = []
        self._plan: list[Sources] = []  # what the destinations on the path read

    def __call__(self, plan: Sequence[Sources], known: Sequence[Statistics] | None = None) -> list[Node]:
        """The nodes under a mask: stem first, then every destination, the classifier last.

        Args:
            plan: what each destination reads (`kept_sources`).
            known: each node's statistics; None: estimate them, on these images.
        """
        agree = next((i for i, (a, b) in enumerate(zip(plan, self._plan, strict=False)) if a != b), len(self._plan))
        self._go_back(agree)
        if not self._path:
            self._path.append(self._parts.stem(self._images, known[0] if known else None))
        for index in range(agree, len(plan)):
            node = self._arrive(index, plan[index], known[index + 1] if known else None)
            self._path.append(node)
            self._plan.append(plan[index])
        return self._path

    def _go_back(self, length: int) -> None:
        """Leaves all but the stem and the first `length` destinations, and what is contributed to those beyond."""
        for node in self._path[length + 1 :]:
            self._room += sum(tensor.nbytes for tensor in node.contributions.values())
        del self._path[length + 1 :], self._plan[length:]

    def _arrive(self, index: int, sources: Sources, known: Statistics | None) -> Node:
        """The node of destination `index` that reads `sources`."""
        destination = self._parts.destinations[index]
        terms = []
        for src in sources:
            node = self._path[destination.first + src]
            term = node.contributions.get(index)
            if term is None:
                term = destination.contribution(src, node, known is None)
                if term.nbytes <= self._room:
                    self._room -= term.nbytes
                    node.contributions[index] = term
            terms.append(term)
        return destination.node(sources, terms, known)


class Stem:
    """The first feature map; it does not depend on the mask."""

    def __init__(self, modules: nn.Module) -> None:
        self.modules = modules

    def __call__(self, images: Tensor, known: Statistics | None) -> Node:
        """Of images [n, c, h, w]; `known` has its statistics, None: estimate them."""
        inner, maps = None, images
        for module in self.modules.children():
            if isinstance(module, nn.BatchNorm2d):
                inner = known.inner if known else _moments(maps)
                affine = module.weight, module.bias
                maps = _normalise(maps, cast(Moments, inner), affine, module.eps, known is None)
            else:
                maps = module(maps)
        return Node(maps, known or Statistics(_moments(maps), inner))


class Destination:
    """What reads other nodes, taken apart by what it reads.

    Args:
        weight: of its convolution or product, for all sources.
        norm: its first BatchNorm.
        widths: channels of each node that it could read.
        first: position of its block's node 0 on a path.
    """

    def __init__(self, weight: Tensor, norm: nn.BatchNorm2d, widths: list[int], first: int) -> None:
        self.first, self._eps = first, norm.eps
        self._weights = [part.contiguous() for part in torch.split(weight, widths, dim=1)]
        self._affine = list(zip(torch.split(norm.weight, widths), torch.split(norm.bias, widths), strict=True))

    def contribution(self, src: int, node: Node, calibrating: bool) -> Tensor:
        """What source `src`, which is `node`, comes to here."""
        moments = cast(Moments, node.statistics.output)
        maps = functional.relu_(_normalise(node.maps, moments, self._affine[src], self._eps, calibrating))
        return self._contribution(src, maps)

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """The node, from what `sources` contribute; `known` has its statistics, None: estimate them."""
        raise NotImplementedError

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        """Of normalised maps [n, c, h, w], which may be changed."""
        raise NotImplementedError


class LayerDestination(Destination):
    """A layer: a sum of convolutions."""

    def __init__(self, layer: Layer, widths: list[int], first: int) -> None:
        super().__init__(layer.conv1.weight, layer.norm1, widths, first)
        self._layer = layer

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        weight = self._weights[src]
        return functional.conv2d(maps, weight, padding=weight.shape[-1] // 2)

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """See `Destination`."""
        total, inner = terms[0], None
        for count, term in enumerate(terms[1:]):
            total = total.add_(term) if count else total + term  # the first sum is a fresh tensor
        if self._layer.bottleneck:
            norm, inner = self._layer.norm2, known.inner if known else _moments(total)
            maps = _normalise(total, cast(Moments, inner), (norm.weight, norm.bias), norm.eps, known is None)
            total = functional.conv2d(functional.relu_(maps), self._layer.conv2.weight, padding=1)
        return Node(total, known or Statistics(_moments(total), inner))


class TransitionDestination(Destination):
    """A transition: a 1x1 convolution of pooled maps."""

    def __init__(self, transition: Transition, widths: list[int], first: int) -> None:
        super().__init__(transition.conv.weight, transition.norm, widths, first)

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        return _pooled(maps)

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """See `Destination`."""
        weight = torch.cat([self._weights[src] for src in sources], dim=1)
        maps = functional.conv2d(torch.cat(terms, dim=1), weight)  # type: ignore[arg-type]
        return Node(maps, known or Statistics(_moments(maps), None))


class ClassifierDestination(Destination):
    """The classifier: a product with the means over pixels."""

    def __init__(self, classifier: nn.Linear, norm: nn.BatchNorm2d, widths: list[int], first: int) -> None:
        super().__init__(classifier.weight, norm, widths, first)
        self._bias = classifier.bias

    def _contribution(self, src: int, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))

    def node(self, sources: Sources, terms: Sequence[Tensor], known: Statistics | None) -> Node:
        """See `Destination`."""
        weight = torch.cat([self._weights[src] for src in sources], dim=1)
        return Node(functional.linear(torch.cat(terms, dim=1), weight, self._bias), Statistics(None, None))  # type: ignore[arg-type]


class Parts:
    """A copy of a supernet, taken apart: the stem, and every destination, block by block.

    Convolutions to 12 channels are 1.4 times as fast with channels last (a CPU of 16 lanes, 32 x 32 pixels), those to
    8 or fewer are not.
    """

    def __init__(self, supernet: DenseNet, device: torch.device, dtype: torch.dtype) -> None:
        network = DenseNet(supernet.config)
        network.load_state_dict(supernet.state_dict())
        network.to(device, torch.promote_types(dtype, torch.float32)).requires_grad_(False)
        for module in network.modules():  # BatchNorm stays in float32 at least, as its statistics do
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(dtype)
        widths = iter(source_widths(supernet.config))
        stem, first = nn.Sequential(), 0
        self.destinations: list[Destination] = []
        for name, child in network.features.named_children():
            if isinstance(child, nn.Sequential):
                self.destinations += [LayerDestination(cast(Layer, layer), next(widths), first) for layer in child]
            elif isinstance(child, Transition):
                self.destinations.append(TransitionDestination(child, next(widths), first))
                first = len(self.destinations)  # its node, behind the stem's
            elif isinstance(child, nn.BatchNorm2d) and name == "norm5":
                self.destinations.append(ClassifierDestination(network.classifier, child, next(widths), first))
            else:
                stem.add_module(name, child)
        self.stem = Stem(stem)
        is_wide = supernet.config.growth > 8 or device.type == "cuda"
        self.layout = torch.channels_last if is_wide else torch.contiguous_format  # what convolves faster


def numbers_an_image(config: DenseNetConfig) -> tuple[int, int]:
    """What a path holds of one image when it is longest: numbers in feature maps, and in contributions."""
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


def _pooled(maps: Tensor) -> Tensor:
    """2x2 average pool [n, c, h, w] -> [n, c, h // 2, w // 2]; in slices, four times `avg_pool2d`'s speed on a CPU."""
    height, width = maps.shape[2] // 2 * 2, maps.shape[3] // 2 * 2
    upper, lower = maps[:, :, 0:height:2, :width], maps[:, :, 1:height:2, :width]
    rows = upper + lower
    return (rows[..., 0::2] + rows[..., 1::2]).mul_(0.25)


def _moments(maps: Tensor) -> Moments:
    """Mean and variances of every channel of maps [n, c, h, w]; in two passes, ten times `torch.var_mean`'s speed."""
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    mean = maps.mean(dim=(0, 2, 3))
    variance = (maps - mean[:, None, None]).square_().mean(dim=(0, 2, 3))
    count = maps.numel() // maps.shape[1]
    return Moments(mean, variance, variance * (count / max(1, count - 1)))


def _normalise(maps: Tensor, moments: Moments, affine: tuple[Tensor, Tensor], eps: float, calibrating: bool) -> Tensor:
    """BatchNorm of maps [n, c, h, w]; a fresh tensor."""
    variance = moments.biased if calibrating else moments.unbiased
    return functional.batch_norm(maps, moments.mean, variance, affine[0], affine[1], training=False, eps=eps)
