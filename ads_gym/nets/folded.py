"""Folding: a network for inference only, whose BatchNorms have gone into its convolutions.

A DenseNet normalises before it convolves, and a ReLU stands between. Still nothing is left to do but to clamp: with
scale a and shift b of a channel, relu(a x + b) = a clamp(x, low, high) + b, where the bend -b / a is the lower bound if
a > 0 and the upper one if a < 0. So a goes into the weights, and what b adds to the output is known beforehand: a
number for each output of a 1x1 convolution, a map for a 3x3, since b is not there in the padding.
"""

import copy
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ads_gym.errors import InvalidValue
from ads_gym.nets.densenet import Layer, Transition
from ads_gym.nets.layout import in_chunks, memory_format

if TYPE_CHECKING:
    from ads_gym.nets.sparse import SparseDenseNet


def fold(network: "SparseDenseNet") -> "FoldedDenseNet":
    """A network that gives the logits of `network` in eval mode, to rounding, and has no BatchNorm.

    It is for inference: nothing in it learns, it knows no train mode, and it takes images of the config's size only.
    `network` stays as it is. What comes out can be given to `torch.compile` and `torch.export`.

    Args:
        network: sparse or dense (all bits of its mask set); its device and dtype are kept. For half precision convert
            it first, then fold: a bend can be too large a number afterwards.
    """
    with torch.no_grad():
        return FoldedDenseNet(network)


class FoldedDenseNet(nn.Module):
    """See `fold`. It reads images float [n, c, h, w] scaled to [-1, 1] and gives logits [n, classes]."""

    def __init__(self, network: "SparseDenseNet") -> None:
        super().__init__()
        self.architecture = network.architecture
        config, sources, features = network.architecture.config, iter(network.sources), network.features
        self.stem = _stem(features)
        self.blocks = nn.ModuleList()
        for index, shape in enumerate(config.geometry, start=1):
            block = nn.ModuleList()
            for layer in cast(nn.Sequential, features.get_submodule(f"denseblock{index}")):
                block.append(_Layer(cast(Layer, layer), next(sources), shape.height, shape.width))
            if index < len(config.blocks):
                transition = cast(Transition, features.get_submodule(f"transition{index}"))
                block.append(_Transition(transition, next(sources)))
            else:
                norm = cast(nn.BatchNorm2d, features.get_submodule("norm5"))
                block.append(_ReadOut(norm, network.classifier, next(sources)))
            self.blocks.append(block)
        self.widest = network.widest
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images float [n, c, h, w] scaled to [-1, 1].

        Raises:
            InvalidValue: images of another size than the config's.
        """
        if images.shape[1:] != self.architecture.config.image_shape:
            raise InvalidValue(
                f"a folded network reads images [n, {', '.join(map(str, self.architecture.config.image_shape))}], "
                f"got {list(images.shape)}: fold a network of that config, or use it unfolded."
            )
        return in_chunks(self._logits, images, self.widest)

    def _logits(self, images: Tensor) -> Tensor:
        layout, x = memory_format(images), self.stem(images)
        for block in self.blocks:
            *layers, output = cast(nn.ModuleList, block)
            nodes = [x.to(memory_format=layout)]
            for layer in layers:
                nodes.append(layer(nodes))
            x = output(nodes)
        return cast(Tensor, x)


def _stem(features: nn.Sequential) -> nn.Sequential:
    convolution = cast(nn.Conv2d, copy.deepcopy(features.get_submodule("conv0")))
    if not hasattr(features, "norm0"):
        return nn.Sequential(convolution)
    norm = cast(nn.BatchNorm2d, copy.deepcopy(features.get_submodule("norm0")))
    pool = copy.deepcopy(features.get_submodule("pool0"))
    return nn.Sequential(fuse_conv_bn_eval(convolution.eval(), norm.eval()), nn.ReLU(inplace=True), pool)


class _Bend(NamedTuple):
    """relu(norm(x)) = scale * clamp(x, low, high) + shift; float64 [channels] each."""

    scale: Tensor
    shift: Tensor
    low: Tensor
    high: Tensor


def _bend(norm: nn.BatchNorm2d) -> _Bend:
    scale, shift = _affine(norm)
    bend = -shift / scale
    flat = ~bend.to(norm.weight.dtype).isfinite()  # a channel that says the same whatever it reads
    scale, shift = scale.masked_fill(flat, 0), torch.where(flat, shift.relu(), shift)
    return _Bend(scale, shift, bend.masked_fill(scale <= 0, -torch.inf), bend.masked_fill(scale >= 0, torch.inf))


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a BatchNorm in eval mode, float64 [channels]."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


class _Reader(nn.Module):
    """The sources of a destination side by side, each channel clamped to its bounds: written once, in the cache."""

    low: Tensor  # [1, channels, 1, 1]
    high: Tensor

    def __init__(self, sources: tuple[int, ...], bend: _Bend, like: Tensor) -> None:
        super().__init__()
        self.sources = sources
        self.register_buffer("low", bend.low.to(like.dtype)[None, :, None, None])
        self.register_buffer("high", bend.high.to(like.dtype)[None, :, None, None])

    def forward(self, nodes: list[Tensor]) -> Tensor:
        if len(self.sources) == 1:
            return nodes[self.sources[0]].clamp(self.low, self.high)
        return torch.cat([nodes[src] for src in self.sources], dim=1).clamp_(self.low, self.high)


class _Layer(nn.Module):
    weight: Tensor
    bias: Tensor  # of a bottleneck [outputs], else [1, outputs, h, w]
    weight2: Tensor  # of a bottleneck only

    def __init__(self, layer: Layer, sources: tuple[int, ...], height: int, width: int) -> None:
        super().__init__()
        bend, full = _bend(layer.norm1), layer.conv1.weight
        weight = full.double()
        self.reader, self.bottleneck = _Reader(sources, bend, full), layer.bottleneck
        if layer.bottleneck:
            scale, shift = _affine(layer.norm2)
            bias = weight[:, :, 0, 0] @ bend.shift * scale + shift
            weight = weight * scale[:, None, None, None]
            self.register_buffer("weight2", layer.conv2.weight.detach().clone())
        else:
            taps = torch.einsum("ocij,c->oij", weight, bend.shift)[:, None]  # what a shift adds through each tap
            bias = functional.conv2d(weight.new_ones(1, 1, height, width), taps, padding=1)
        self.register_buffer("weight", (weight * bend.scale[:, None, None]).to(full.dtype))
        self.register_buffer("bias", bias.to(full.dtype))

    def forward(self, nodes: list[Tensor]) -> Tensor:
        x = self.reader(nodes)
        if self.bottleneck:
            return functional.conv2d(functional.conv2d(x, self.weight, self.bias).relu_(), self.weight2, padding=1)
        return functional.conv2d(x, self.weight, padding=1).add_(self.bias)


class _Transition(nn.Module):
    """Pools first: the 1x1 convolution then has a quarter of the pixels."""

    weight: Tensor
    bias: Tensor

    def __init__(self, transition: Transition, sources: tuple[int, ...]) -> None:
        super().__init__()
        bend, full = _bend(transition.norm), transition.conv.weight
        self.reader = _Reader(sources, bend, full)
        self.register_buffer("weight", (full.double() * bend.scale[:, None, None]).to(full.dtype))
        self.register_buffer("bias", (full.double()[:, :, 0, 0] @ bend.shift).to(full.dtype))

    def forward(self, nodes: list[Tensor]) -> Tensor:
        return functional.conv2d(functional.avg_pool2d(self.reader(nodes), 2), self.weight, self.bias)


class _ReadOut(nn.Module):
    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.BatchNorm2d, classifier: nn.Linear, sources: tuple[int, ...]) -> None:
        super().__init__()
        bend, full = _bend(norm), classifier.weight
        self.reader = _Reader(sources, bend, full)
        self.register_buffer("weight", (full.double() * bend.scale).to(full.dtype))
        self.register_buffer("bias", (full.double() @ bend.shift + classifier.bias.double()).to(full.dtype))

    def forward(self, nodes: list[Tensor]) -> Tensor:
        return functional.linear(self.reader(nodes).mean(dim=(2, 3)), self.weight, self.bias)
