"""Fold BatchNorms into convolutions: an equivalent network for inference only.

A DenseNet normalises before it convolves, with a ReLU in between, so a BatchNorm cannot simply be merged. With scale a
and shift b of a channel, relu(a x + b) = a clamp(x, low, high) + b, where the bend -b / a is the lower bound if a > 0
and the upper one if a < 0. So clamping remains, a goes into the weights, and the part of b in the output is known
beforehand: a number for each output of a 1x1 convolution, a map for a 3x3, since b is absent in the padding.

Where a channel's mean is large beside its deviation, a x and b are large and nearly cancel, and float32 loses digits.
So every node is centred: the mean that its next reader knows is subtracted by the bias of what computes it.
"""

import copy
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ads_gym.errors import InvalidValue
from ads_gym.nets.densenet import Layer, Transition, check_input
from ads_gym.nets.layout import in_chunks, memory_format
from ads_gym.nets.sparse import Reader, SparseDenseNet
from ads_gym.records import checked


class FoldedDenseNet(nn.Module):
    """See `fold`. It reads images float [n, c, h, w] scaled to [-1, 1] and returns logits [n, classes]."""

    def __init__(self, network: SparseDenseNet) -> None:
        super().__init__()
        self.architecture = network.architecture
        config, features = network.architecture.config, network.features
        modules, readers = _modules(network), iter(network.readers)
        centers = _centers(network, modules)
        self.stem = _stem(features, centers[0])
        self.blocks = nn.ModuleList()
        for index, (block, shape) in enumerate(zip(modules, config.geometry, strict=True)):
            *layers, last = block
            here, folded = centers[index], nn.ModuleList()
            for dst, layer in enumerate(layers, start=1):
                reader, size = next(readers), (shape.height, shape.width)
                folded.append(_Layer(cast(Layer, layer), reader, reader(here, 0), here[dst], size))
            reader = next(readers)
            if isinstance(last, Transition):
                folded.append(_Transition(last, reader, reader(here, 0), centers[index + 1][0]))
            else:
                folded.append(_ReadOut(cast(nn.BatchNorm2d, last), network.classifier, reader, reader(here, 0)))
            self.blocks.append(folded)
        self.widest = network.widest
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images float [n, c, h, w] scaled to [-1, 1].

        Raises:
            InvalidValue: images of another size than the config's.
        """
        check_input(images, self.architecture.config)
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


@checked
def fold(network: SparseDenseNet) -> FoldedDenseNet:
    """Return a network without BatchNorm that gives the logits of `network` in eval mode, up to rounding.

    It is for inference only: it has no trainable parameters and no train mode, and reads images of the config's size
    only. `network` is not changed. `torch.compile` and `torch.export` accept the result.

    Args:
        network: sparse or dense (all bits of its mask set); its device and dtype are kept. For half precision convert
            it first, then fold: a bound can be too large a number afterwards.
    """
    with torch.inference_mode(False), torch.no_grad():
        return FoldedDenseNet(network)


def _modules(network: SparseDenseNet) -> list[list[nn.Module]]:
    """For each block: its layers, then the transition or the last BatchNorm."""
    blocks = []
    for child in network.features:
        if isinstance(child, nn.Sequential):
            blocks.append(list(child))
        elif blocks:
            blocks[-1].append(child)
    return blocks


def _centers(network: SparseDenseNet, blocks: list[list[nn.Module]]) -> list[list[Tensor]]:
    """For each node of each block, float64 [channels]: its mean, as the BatchNorm of the first that reads it has it.

    Args:
        network: not changed.
        blocks: see `_modules`.
    """
    counts, centers = iter(network.architecture.channels), []
    for block, widths in zip(blocks, network.architecture.node_widths, strict=True):
        means = [cast(Tensor, _first_norm(module).running_mean).double() for module in block]
        known = [means[0].new_full((width,), torch.nan) for width in widths]
        for mean in means:
            read = next(counts)
            for node, part in zip(known, torch.split(mean, list(read)), strict=False):
                node[: len(part)] = torch.where(node[: len(part)].isnan(), part, node[: len(part)])
        centers.append(known)
    return centers


def _first_norm(module: nn.Module) -> nn.BatchNorm2d:
    norm = module.norm1 if isinstance(module, Layer) else module.norm if isinstance(module, Transition) else module
    return cast(nn.BatchNorm2d, norm)


def _stem(features: nn.Sequential, centers: list[Tensor]) -> nn.Sequential:
    """The stem without BatchNorm; centred if it ends with a convolution, where that costs nothing."""
    convolution = cast(nn.Conv2d, copy.deepcopy(features.get_submodule("conv0")))
    if not hasattr(features, "norm0"):
        convolution.bias = nn.Parameter(-centers[0].to(convolution.weight.dtype))
        return nn.Sequential(convolution)
    centers[0] = torch.zeros_like(centers[0])
    norm = cast(nn.BatchNorm2d, copy.deepcopy(features.get_submodule("norm0")))
    pool = copy.deepcopy(features.get_submodule("pool0"))
    return nn.Sequential(fuse_conv_bn_eval(convolution.eval(), norm.eval()), nn.ReLU(inplace=True), pool)


class _Bend(NamedTuple):
    """relu(norm(x + center)) = scale * clamp(x, low, high) + shift; float64 [channels] each."""

    scale: Tensor
    shift: Tensor
    low: Tensor
    high: Tensor


def _bend(norm: nn.BatchNorm2d, center: Tensor) -> _Bend:
    scale, shift = _affine(norm, center)
    bend = -shift / scale
    flat = ~bend.to(norm.weight.dtype).isfinite()  # a channel that is constant
    scale, shift = scale.masked_fill(flat, 0), torch.where(flat, shift.relu(), shift)
    return _Bend(scale, shift, bend.masked_fill(scale <= 0, -torch.inf), bend.masked_fill(scale >= 0, torch.inf))


def _affine(norm: nn.BatchNorm2d, center: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Scale and shift of a BatchNorm in eval mode that reads x + center, float64 [channels]."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - (norm.running_mean.double() - center) * scale


class _Clamped(nn.Module):
    """What a destination reads, each channel clamped to its bounds."""

    low: Tensor  # [1, channels, 1, 1]
    high: Tensor

    def __init__(self, reader: Reader, bend: _Bend, like: Tensor) -> None:
        super().__init__()
        self.reader = reader
        self.register_buffer("low", bend.low.to(like.dtype)[None, :, None, None])
        self.register_buffer("high", bend.high.to(like.dtype)[None, :, None, None])

    def forward(self, nodes: list[Tensor]) -> Tensor:
        x = self.reader(nodes)
        is_copy = len(self.reader.sources) > 1
        return x.clamp_(self.low, self.high) if is_copy else x.clamp(self.low, self.high)


class _Layer(nn.Module):
    weight: Tensor
    bias: Tensor  # of a bottleneck [outputs], else [1, outputs, h, w]
    weight2: Tensor  # of a bottleneck only
    bias2: Tensor  # likewise, [outputs]

    def __init__(self, layer: Layer, reader: Reader, center: Tensor, own_center: Tensor, size: tuple[int, int]) -> None:
        super().__init__()
        bend, full = _bend(layer.norm1, center), layer.conv1.weight
        weight = full.double()
        self.reader, self.bottleneck = _Clamped(reader, bend, full), layer.bottleneck
        if layer.bottleneck:
            scale, shift = _affine(layer.norm2)
            bias = weight[:, :, 0, 0] @ bend.shift * scale + shift
            weight = weight * scale[:, None, None, None]
            self.register_buffer("weight2", layer.conv2.weight.detach().clone())
            self.register_buffer("bias2", -own_center.to(full.dtype))
        else:
            taps = torch.einsum("ocij,c->oij", weight, bend.shift)[:, None]  # what the shifts add through each tap
            bias = functional.conv2d(weight.new_ones(1, 1, *size), taps, padding=1) - own_center[:, None, None]
        self.register_buffer("weight", (weight * bend.scale[:, None, None]).to(full.dtype))
        self.register_buffer("bias", bias.to(full.dtype))

    def forward(self, nodes: list[Tensor]) -> Tensor:
        x = self.reader(nodes)
        if self.bottleneck:
            x = functional.conv2d(x, self.weight, self.bias).relu_()
            return functional.conv2d(x, self.weight2, self.bias2, padding=1)
        return functional.conv2d(x, self.weight, padding=1).add_(self.bias)


class _Transition(nn.Module):
    """Pools first: the 1x1 convolution then has a quarter of the pixels."""

    weight: Tensor
    bias: Tensor

    def __init__(self, transition: Transition, reader: Reader, center: Tensor, own_center: Tensor) -> None:
        super().__init__()
        bend, full = _bend(transition.norm, center), transition.conv.weight
        self.reader = _Clamped(reader, bend, full)
        self.register_buffer("weight", (full.double() * bend.scale[:, None, None]).to(full.dtype))
        self.register_buffer("bias", (full.double()[:, :, 0, 0] @ bend.shift - own_center).to(full.dtype))

    def forward(self, nodes: list[Tensor]) -> Tensor:
        return functional.conv2d(functional.avg_pool2d(self.reader(nodes), 2), self.weight, self.bias)


class _ReadOut(nn.Module):
    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.BatchNorm2d, classifier: nn.Linear, reader: Reader, center: Tensor) -> None:
        super().__init__()
        bend, full = _bend(norm, center), classifier.weight
        self.reader = _Clamped(reader, bend, full)
        self.register_buffer("weight", (full.double() * bend.scale).to(full.dtype))
        self.register_buffer("bias", (full.double() @ bend.shift + classifier.bias.double()).to(full.dtype))

    def forward(self, nodes: list[Tensor]) -> Tensor:
        return functional.linear(self.reader(nodes).mean(dim=(2, 3)), self.weight, self.bias)
