"""The supernet: a DenseNet whose skip connections a mask can switch off, with torchvision's parameter names.

Shapes: n images, c channels, h x w pixels, E skip connections.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.architecture import Architecture, DenseNetConfig, Stem
from ads_gym.errors import InvalidValue, shown
from ads_gym.limits import check_memory
from ads_gym.nets.cost import FLOAT32, cost_of, map_bytes
from ads_gym.records import checked
from ads_gym.topology import BoolArray, Scope, Topology
from ads_gym.torch_state import check_process

Device = Literal["cpu", "meta"]
Network = TypeVar("Network", bound=nn.Module)


class Layer(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution to `growth` channels; with a bottleneck, BatchNorm, ReLU, 1x1 first.

    Args:
        in_channels, growth: that it reads, and gives.
        bottleneck: channels between its two convolutions; 0: there is one.
        device: see `DenseNet`.
    """

    def __init__(self, in_channels: int, growth: int, bottleneck: int, device: str = "cpu") -> None:
        super().__init__()
        options = _options(device)
        self.norm1 = nn.BatchNorm2d(in_channels, **options)
        if bottleneck:
            self.conv1 = nn.Conv2d(in_channels, bottleneck, 1, bias=False, **options)
            self.norm2 = nn.BatchNorm2d(bottleneck, **options)
            self.conv2 = nn.Conv2d(bottleneck, growth, 3, padding=1, bias=False, **options)
        else:
            self.conv1 = nn.Conv2d(in_channels, growth, 3, padding=1, bias=False, **options)
        self.bottleneck = bool(bottleneck)

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """[n, in_channels, h, w] -> [n, growth, h, w]; `gate` [in_channels] multiplies what the convolution reads."""
        x = self.conv1(_gated(functional.relu(self.norm1(x), inplace=True), gate))
        return self.conv2(functional.relu(self.norm2(x), inplace=True)) if self.bottleneck else x


class Transition(nn.Module):
    """BatchNorm, ReLU, 1x1 convolution, 2x2 average pool."""

    def __init__(self, in_channels: int, out_channels: int, device: str = "cpu") -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels, **_options(device))
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False, **_options(device))

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """[n, in_channels, h, w] -> [n, out_channels, h // 2, w // 2]."""
        return functional.avg_pool2d(self.conv(_gated(functional.relu(self.norm(x), inplace=True), gate)), 2)


def stem(config: DenseNetConfig, width: int, device: str = "cpu") -> "OrderedDict[str, nn.Module]":
    """The modules that turn images into the first feature map, of `width` channels."""
    channels, options = config.image_shape[0], _options(device)
    if config.stem is not Stem.CONV7_POOL:
        stride = 2 if config.stem is Stem.CONV3_STRIDE2 else 1
        return OrderedDict(conv0=nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False, **options))
    return OrderedDict(
        conv0=nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False, **options),
        norm0=nn.BatchNorm2d(width, **options),
        relu0=nn.ReLU(),
        pool0=nn.MaxPool2d(3, stride=2, padding=1),
    )


class DenseNet(nn.Module):
    """The DenseNet of a config, with every connection; a mask given to `forward` switches some off.

    Its weights are float32, initialised as in torchvision: He normal for convolutions, zero for the classifier's bias.
    It reads images scaled to [-1, 1] (`ads_gym.data.images.network_input`).

    Args:
        config: of the network.
        device: "cpu", whatever torch's default device, or "meta": shapes without weights (`uninitialised`).
    """

    @checked
    def __init__(self, config: DenseNetConfig, device: Device = "cpu") -> None:
        super().__init__()
        self.config = config
        self.features, self.classifier = modules(config, config.source_widths, config.node_widths, device)

    def forward(self, images: Tensor, mask: BoolArray | Tensor | None = None, scope: Scope = Scope.LAYERS) -> Tensor:
        """Logits [n, classes] of images float [n, c, h, w].

        Args:
            images: scaled to [-1, 1].
            mask: bool[E] of `Topology(config.blocks, scope)`; a dropped connection contributes nothing (its channels
                are zero after BatchNorm and ReLU). Or gates, a float tensor [E]: what the channels of each connection
                are multiplied by there. None keeps all.
            scope: of the mask.

        Raises:
            InvalidValue: other images than the network reads, or a mask of another topology.
        """
        check_input(images, self.config)
        gates = self._gates(mask, scope, images)
        x = images
        for child in self.features:
            if isinstance(child, nn.Sequential):  # a dense block
                for layer in child:
                    x = torch.cat([x, layer(x, next(gates))], dim=1)
            else:
                x = child(x, next(gates)) if isinstance(child, Transition) else child(x)
        return cast(Tensor, self.classifier(read_out(x, next(gates))))

    def _gates(self, mask: BoolArray | Tensor | None, scope: Scope, like: Tensor) -> Iterator[Tensor | None]:
        """For every destination in order: None, or what each channel that it reads is multiplied by."""
        if mask is None:
            yield from itertools.repeat(None)
            return
        topology = Topology(self.config.blocks, scope)
        gates = mask if isinstance(mask, Tensor) else torch.from_numpy(topology.check_mask(mask))
        if gates.shape != (topology.size,):
            raise InvalidValue(f"there is a gate for each of {topology.size} connections, got {list(gates.shape)}.")
        every = torch.ones(len(self.config.blocks), topology.nodes, topology.nodes, dtype=like.dtype, device="cpu")
        every = every.index_put(tuple(torch.tensor(topology.connections.T)), gates.to(every))
        places = ((index, dst) for index, layers in enumerate(self.config.blocks) for dst in range(1, layers + 2))
        for (index, dst), widths in zip(places, self.config.source_widths, strict=True):
            row = every[index, dst, :dst].repeat_interleave(torch.tensor(widths, device="cpu"))
            yield row.to(like.device, non_blocking=True)


@torch.inference_mode(False)  # weights made in inference mode could never be trained
def modules(
    config: DenseNetConfig, reads: Sequence[Sequence[int]], nodes: Sequence[Sequence[int]], device: str = "cpu"
) -> tuple[nn.Sequential, nn.Linear]:
    """Features and classifier of a network, initialised, with torchvision's names.

    Args:
        config, reads, nodes: see `cost_of`.
        device: see `DenseNet`.

    Raises:
        InvalidValue: a network that needs more memory than is allowed, see `limits.allow_large`.
    """
    check_memory("this network", FLOAT32 * cost_of(config, reads, nodes)[1] + map_bytes(config))
    read, options = iter(map(sum, reads)), _options(device)
    features = nn.Sequential(stem(config, nodes[0][0], device))
    for index, (widths, between) in enumerate(zip(nodes, config.bottleneck_channels, strict=True), start=1):
        dense_block = nn.Sequential()
        for number, (growth, bottleneck) in enumerate(zip(widths[1:], between, strict=True), start=1):
            dense_block.add_module(f"denselayer{number}", Layer(next(read), growth, bottleneck, device))
        features.add_module(f"denseblock{index}", dense_block)
        last = next(read)
        if index < len(nodes):
            features.add_module(f"transition{index}", Transition(last, nodes[index][0], device))
    features.add_module("norm5", nn.BatchNorm2d(last, **options))
    classifier = nn.Linear(last, config.classes, **options)
    for module in features.modules():
        if isinstance(module, nn.Conv2d) and device != "meta":  # there `normal_` imports a second's worth of torch
            nn.init.kaiming_normal_(module.weight)
    nn.init.zeros_(classifier.bias)
    return features, classifier


def uninitialised(build: Callable[[Device], Network]) -> Network:
    """A network on the CPU whose weights are still to be loaded; draws no random numbers.

    Args:
        build: makes the network on the device that it is given.

    Raises:
        ForkedProcess: this process was made by fork and would hang.
    """
    check_process()
    with torch.inference_mode(False):
        network = build("meta")
        empty = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            for name, tensor in network.state_dict().items()
        }
        network.load_state_dict(empty, assign=True)  # `to_empty` would import a second's worth of torch
        return network


def check_input(images: Tensor, config: DenseNetConfig) -> None:
    """Check that a network of this config can read images.

    Raises:
        InvalidValue: no floating tensor [n, c, h, w] of as many channels.
    """
    check_channels(images, config.image_shape[0])


def check_channels(images: Tensor, channels: int) -> None:
    """Check that images are a floating tensor [n, channels, h, w].

    Raises:
        InvalidValue: they are not.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != channels:
        got = list(images.shape) if isinstance(images, Tensor) else shown(images)
        raise InvalidValue(f"the network reads float images [n, {channels}, h, w], got {got}.")
    if not images.is_floating_point():
        raise InvalidValue(f"the network reads images scaled to [-1, 1] (network_input), got {images.dtype}.")


def _options(device: str) -> dict[str, Any]:
    """For every module: networks do not depend on torch's default dtype and default device."""
    return {"device": device, "dtype": torch.float32}


def readers(network: DenseNet) -> Iterator[nn.Conv2d | nn.Linear]:
    """What reads the nodes of each destination, block by block, layers then output."""
    for child in network.features:
        if isinstance(child, nn.Sequential):
            yield from (cast(Layer, layer).conv1 for layer in child)
        elif isinstance(child, Transition):
            yield child.conv
    yield network.classifier


def read_out(x: Tensor, gate: Tensor | None = None) -> Tensor:
    """ReLU and mean over pixels: normalised maps [n, channels, h, w] -> [n, channels] for the classifier."""
    return _gated(functional.relu(x), gate).mean(dim=(2, 3))


def kept_sources(config: DenseNetConfig, mask: BoolArray, scope: Scope) -> list[tuple[int, ...]]:
    """For every destination, block by block, layers then output: the nodes that it reads under `mask`, ascending."""
    adjacency = Topology(config.blocks, scope).adjacency(mask)
    return [
        tuple(int(src) for src in adjacency[index, dst].nonzero()[0])
        for index, block in enumerate(config.geometry)
        for dst in range(1, block.layers + 2)
    ]


def read_channels(architecture: Architecture) -> list[list[int]]:
    """Of every destination, in the order of `kept_sources`: the channels that it reads of all nodes, one after another.

    Nodes have the channels that they have in the dense network.
    """
    return [
        [
            start + channel
            for start, count in zip(accumulate(widths, initial=0), counts, strict=False)
            for channel in range(count)
        ]
        for counts, widths in zip(architecture.channels, architecture.config.source_widths, strict=True)
    ]


def _gated(x: Tensor, gate: Tensor | None) -> Tensor:
    return x if gate is None else x * gate[:, None, None]
