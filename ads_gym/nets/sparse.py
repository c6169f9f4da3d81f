"""The sparse network: the physically smaller module of an architecture. Inherit its weights, save and load it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
from pydantic import InstanceOf
from torch import Tensor, nn

from ads_gym.architecture import Architecture, find_architecture
from ads_gym.errors import InvalidValue
from ads_gym.files import resolve, write_files
from ads_gym.nets.cost import dense_cost
from ads_gym.nets.densenet import (
    DenseNet,
    Device,
    Transition,
    check_channels,
    modules,
    read_channels,
    read_out,
    uninitialised,
)
from ads_gym.nets.tensorfile import load_weights, most_bytes, read_safetensors, to_safetensors
from ads_gym.records import checked
from ads_gym.torch_state import isolated

torch.fx.wrap("check_channels")  # a trace calls it and does not look into it, for a proxy has no shape to be checked

__all__ = ["SparseDenseNet", "build_sparse", "calibrate", "load", "save"]


class Reader:
    """What a destination reads of the nodes before it: of each the first channels, all or none.

    Args:
        counts: channels that it reads of each node.
        widths: channels that each node has.
    """

    def __init__(self, counts: Sequence[int], widths: Sequence[int]) -> None:
        self.sources = tuple(src for src, count in enumerate(counts) if count)
        self._counts = {src: counts[src] for src in self.sources if counts[src] < widths[src]}

    def __call__(self, nodes: Sequence[Tensor], dim: int = 1) -> Tensor:
        """Their channels, in dimension `dim`, one behind the other."""
        parts = [
            nodes[src].narrow(dim, 0, self._counts[src]) if src in self._counts else nodes[src] for src in self.sources
        ]
        return torch.cat(parts, dim) if len(parts) > 1 else parts[0]


class SparseDenseNet(nn.Module):
    """A DenseNet in which what is not read has no weights and costs no computation.

    Its parameters have the supernet's names; their input channels are those that are read, in order. It reads
    images float [n, c, h, w] scaled to [-1, 1] (pixel / 127.5 - 1) and returns logits [n, classes].

    Args:
        architecture: what its layers read. Weights are initialised at random; `build_sparse` inherits them.
        device: "cpu", whatever torch's default device, or "meta": shapes without weights.
    """

    @checked
    def __init__(self, architecture: InstanceOf[Architecture], device: Device = "cpu") -> None:
        super().__init__()
        self.architecture = architecture
        self.readers = readers_of(architecture)
        nodes = architecture.node_widths
        self.features, self.classifier = modules(architecture.config, architecture.channels, nodes, device)
        self.widest = _widest(architecture)  # values in the widest map of one image

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images float [n, c, h, w] scaled to [-1, 1].

        Raises:
            InvalidValue: other images than the network reads.
        """
        check_channels(images, self.architecture.config.image_shape[0])
        readers, x = iter(self.readers), images
        for child in self.features:
            x = _through_block(child, x, readers) if isinstance(child, nn.Sequential) else child(x)
        return cast(Tensor, self.classifier(read_out(x)))


def _through_block(layers: nn.Sequential, x: Tensor, readers: Iterator[Reader]) -> Tensor:
    """What the output of a dense block reads; its nodes are not held any longer then."""
    nodes = [x]
    for layer in layers:
        nodes.append(layer(next(readers)(nodes)))
    return next(readers)(nodes)


@checked
@torch.inference_mode(False)
def build_sparse(architecture: InstanceOf[Architecture], supernet: DenseNet) -> SparseDenseNet:
    """The sparse network of an architecture with the supernet's weights, on its device and in its dtype.

    What is narrower than in the supernet gets the first of its channels: see `ads_gym.nets.channels`. BatchNorm
    statistics are still the dense network's: see `calibrate`.

    Raises:
        InvalidValue: the architecture belongs to another network config.
    """
    if not architecture.config.fits_in(supernet.config):
        raise InvalidValue(
            f"this architecture is of {architecture.config}, and the supernet of {supernet.config}: use one of the two."
        )
    network = uninitialised(lambda device: SparseDenseNet(architecture, device))
    kept, shapes = dict(_kept(network)), {name: tensor.shape for name, tensor in network.state_dict().items()}
    state = {}
    for name, tensor in supernet.state_dict().items():
        channels = kept.get(name.rpartition(".")[0])
        if channels is None or not tensor.ndim or name == "classifier.bias":
            read = tensor
        else:
            read = tensor.index_select(1 if tensor.ndim > 1 else 0, channels.to(tensor.device))
        state[name] = read[tuple(map(slice, shapes[name]))]  # a narrower node or layer has the first channels
    network.to(supernet.classifier.weight).load_state_dict(state)
    return network.train(supernet.training)


@checked
def calibrate(network: nn.Module, images: Tensor) -> nn.Module:
    """Re-estimate every BatchNorm's statistics on `images`, one batch in train mode; return `network` in eval mode.

    Args:
        network: any network with BatchNorm; changed in place.
        images: float [n, c, h, w] scaled to [-1, 1], on the network's device.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with isolated(images.device):
        network.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


@checked
def save(network: SparseDenseNet, path: str | Path) -> tuple[Path, Path]:
    """Write `path`.json (its architecture) and `path`.safetensors (weights), both or none.

    Args:
        network: a sparse network.
        path: where, with or without one of the two endings.

    Returns:
        The two files.

    Raises:
        StorageError: no space or no permission; what stood there before still does.
    """
    architecture, weights = saved_files(path)
    text = network.architecture.to_json() + "\n"
    write_files({weights: to_safetensors(network.state_dict()), architecture: text})
    return architecture, weights


@checked
def load(path: str | Path) -> SparseDenseNet:
    """Load the sparse network that `save` wrote: float32, on the CPU, in eval mode.

    Args:
        path: as given to `save`, either of its two files, or a run folder.

    Raises:
        NotFound: one of the two files is missing.
        DamagedFile: one is damaged, foreign, or does not belong to the other.
        StorageError: one may not be read.
    """
    file = find_architecture(path)
    architecture, weights = Architecture.read(file), file.with_suffix(".safetensors")
    state = read_safetensors(weights, "weights file", most_bytes(dense_cost(architecture.config)[1]))
    network = uninitialised(lambda device: SparseDenseNet(architecture, device))
    load_weights(network, state, weights)
    return network.eval()


def readers_of(architecture: Architecture) -> list[Reader]:
    """Of every destination, block by block, layers then output."""
    counts = iter(architecture.channels)
    return [
        Reader(next(counts), widths[:dst]) for widths in architecture.node_widths for dst in range(1, len(widths) + 1)
    ]


def _widest(architecture: Architecture) -> int:
    """Most values of any map of one image: of a node, of what a destination reads, or inside a bottleneck layer."""
    config = architecture.config
    pixels = [block.height * block.width for block in config.geometry for _ in range(block.layers + 1)]
    between = [width for layers in config.bottleneck_channels for width in (*layers, 0)]
    read = map(sum, architecture.channels)
    nodes = (width for widths in architecture.node_widths for width in widths)
    return max(max(widths) * size for *widths, size in zip(read, between, nodes, pixels, strict=True))


def _kept(network: SparseDenseNet) -> Iterator[tuple[str, Tensor]]:
    """(module name, int64 channels that it reads) of every module that reads nodes."""
    kept = (torch.tensor(read, device="cpu") for read in read_channels(network.architecture))
    for name, module in network.features.named_children():
        if isinstance(module, nn.Sequential):
            for layer in range(1, len(module) + 1):
                channels = next(kept)
                yield f"features.{name}.denselayer{layer}.norm1", channels
                yield f"features.{name}.denselayer{layer}.conv1", channels
        elif isinstance(module, Transition):
            channels = next(kept)
            yield f"features.{name}.norm", channels
            yield f"features.{name}.conv", channels
    channels = next(kept)
    yield "features.norm5", channels
    yield "classifier", channels


def saved_files(path: str | Path) -> tuple[Path, Path]:
    """The two files of a network saved as `path`: its architecture and its weights."""
    stem = resolve(path)
    if stem.suffix in {".json", ".safetensors"}:
        stem = stem.with_suffix("")
    return stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".safetensors")
