"""Images per second of a sparse network at half the relative MACs, beside the dense network it came from.

Three ways for both: folded, not folded, and plainly with `torch.cat` and modules as they come, which shows what the
layout in memory is worth by itself. The mask is random, the weights too, float32, on the CPU.
"""

import numpy as np
import torch
from speed.timing import Row, interleaved
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import Layer, Transition
from ads_gym.nets.folded import fold
from ads_gym.nets.scoring import infer
from ads_gym.nets.sparse import SparseDenseNet, calibrate

CONFIGS = {
    "DenseNet-40": DenseNetConfig((12, 12, 12), 12, 16, "conv3", image_shape=(3, 32, 32)),
    "Fashion-MNIST's": DenseNetConfig((6, 6, 6), 8, 16, "conv3-stride2", image_shape=(1, 28, 28)),
}
SMALL = {"a small network": DenseNetConfig((3, 3), 4, 8, "conv3", image_shape=(1, 8, 8))}
CALLS = {("DenseNet-40", 64): 1, ("DenseNet-40", 1): 20, ("Fashion-MNIST's", 64): 20, ("Fashion-MNIST's", 1): 200}


def measure(small: bool) -> list[Row]:
    """Rows: sparse against dense, three ways; then folded and unfolded against the plain way, of both networks."""
    rows = []
    for name, config in (SMALL if small else CONFIGS).items():
        networks = {kind: contestants(architecture) for kind, architecture in architectures(config).items()}
        for batch in (64, 1):
            calls, repeats = CALLS.get((name, batch), 1), 2 if small else 9
            rows += compare(f"{name}, batch {batch}", networks, batch, calls, repeats)
    return rows


def architectures(config: DenseNetConfig) -> dict[str, Architecture]:
    """The dense one, and of 100 random ones that whose relative MACs are nearest to one half."""
    table, rng = CostTable(config), np.random.default_rng(0)
    cost = (0.5 * table.dense_macs - table.least_macs) / (table.dense_macs - table.least_macs)
    masks = [table.random_mask(rng, cost) for _ in range(100)]
    half = min(masks, key=lambda mask: abs(table.relative_macs(mask) - 0.5))
    return {"dense": Architecture(config, table.topology.dense()), "sparse": Architecture(config, half)}


def contestants(architecture: Architecture) -> dict[str, nn.Module]:
    """One network in three ways; their logits agree."""
    torch.manual_seed(0)
    images = torch.rand(64, *architecture.config.image_shape) * 2 - 1
    network = calibrate(SparseDenseNet(architecture), images)
    return {"folded": fold(network), "not folded": network, "plain": Plain(network)}


class Plain(nn.Module):
    """A DenseNet as it is usually written: concatenate, normalise, ReLU, convolve. The rival."""

    def __init__(self, network: SparseDenseNet) -> None:
        super().__init__()
        self.features, self.classifier = network.features, network.classifier
        self.sources = [reader.sources for reader in network.readers]

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images float [n, c, h, w]."""
        sources, x = iter(self.sources), images
        for child in self.features:
            if isinstance(child, nn.Sequential):
                nodes = [x]
                for layer in child:
                    nodes.append(plain_layer(layer, torch.cat([nodes[src] for src in next(sources)], dim=1)))
                x = torch.cat([nodes[src] for src in next(sources)], dim=1)
            elif isinstance(child, Transition):
                x = functional.avg_pool2d(child.conv(functional.relu(child.norm(x))), 2)
            else:
                x = child(x)
        return self.classifier(functional.adaptive_avg_pool2d(functional.relu(x), 1).flatten(1))


def plain_layer(layer: Layer, x: Tensor) -> Tensor:
    x = layer.conv1(functional.relu(layer.norm1(x)))
    return layer.conv2(functional.relu(layer.norm2(x))) if layer.bottleneck else x


@torch.inference_mode()
def compare(what: str, networks: dict[str, dict[str, nn.Module]], batch: int, calls: int, repeats: int) -> list[Row]:
    """All ways of both networks in turn, `calls` batches a repeat."""
    shape = networks["dense"]["not folded"].architecture.config.image_shape
    images = torch.rand(batch, *shape) * 2 - 1

    def run(network: nn.Module) -> None:
        for _ in range(calls):
            infer(network, images)

    seconds = interleaved(
        {
            f"{kind}, {way}": lambda network=network: run(network)
            for kind, ways in networks.items()
            for way, network in ways.items()
        },
        repeats,
    )
    pairs = [(f"sparse, {way}", f"dense, {way}") for way in ("folded", "not folded", "plain")]
    pairs += [(f"{kind}, {way}", f"{kind}, plain") for kind in networks for way in ("folded", "not folded")]
    work = batch * calls
    return [Row(f"{what}: {ours}", rival, seconds[ours], seconds[rival], work, work, "images") for ours, rival in pairs]
