"""What a trained network tells about its skip connections: their weights, gradients by their gates, residuals.

Shapes: E skip connections, n images, m masks.
"""

import copy
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ads_gym.data.images import ImageSet, network_input
from ads_gym.nets.cost import dense_cost, destinations, map_bytes
from ads_gym.nets.densenet import DenseNet, readers
from ads_gym.nets.features import Feature, Known
from ads_gym.nets.pace import ELIMINATION
from ads_gym.nets.repair import ROWS_PER_UNKNOWN
from ads_gym.nets.residual import elimination_order
from ads_gym.nets.scoring import check_images
from ads_gym.records import checked
from ads_gym.topology import BoolArray, Scope, ScopeName, Topology
from ads_gym.torch_state import isolated

Floats = NDArray[np.float64]

RANDOM_MASKS = 4  # that keep half, for saliencies
WITH_GRADIENT = 3  # forward passes that a forward and a backward pass count as
MEMORY = 1 << 29  # bytes of the feature maps of one pass, roughly


@checked
def network_feature(network: DenseNet, images: ImageSet, feature: Feature, scope: ScopeName = Scope.LAYERS) -> Known:
    """What a trained network tells about its skip connections before any evaluation.

    Args:
        network: with every connection; not changed.
        images: uint8, with labels, that it was calibrated on; at least two.
        feature: one that needs a network.
        scope: which skip connections.

    Raises:
        InvalidValue: images that the network does not read.
    """
    topology, macs = Topology(network.config.blocks, scope), dense_cost(network.config)[0] * len(images)
    if feature is Feature.MAGNITUDE:
        return Known(magnitudes(network, scope), 0)
    if feature is Feature.SALIENCY_DENSE:
        return Known(saliencies(network, images, topology.dense(), scope), WITH_GRADIENT * macs)
    if feature is Feature.SALIENCY_HALF:
        masks = np.random.default_rng(0).random((RANDOM_MASKS, topology.size)) < 0.5
        return Known(saliencies(network, images, masks, scope), WITH_GRADIENT * len(masks) * macs)
    device = next(network.parameters()).device
    order = elimination_order(network, network_input(images.images.to(device)), scope)
    places = np.empty(topology.size)
    places[[each.part for each in order]] = np.arange(topology.size) / max(topology.size - 1, 1)
    return Known(places, (WITH_GRADIENT + 1) * macs + _elimination_macs(network, len(images), scope))


def _elimination_macs(network: DenseNet, images: int, scope: Scope) -> int:
    """Multiply-adds of elimination besides passes: a Gram matrix of each destination, and the order in it."""
    total = 0
    for module, place in zip(readers(network), destinations(network.config), strict=True):
        if place.is_layer or scope is Scope.ALL:
            unknowns = module.weight[0].numel()
            rows = min(ROWS_PER_UNKNOWN * unknowns, images * place.pixels)
            total += rows * unknowns**2 + ELIMINATION * unknowns**3
    return total


@checked
def magnitudes(network: DenseNet, scope: ScopeName = Scope.LAYERS) -> Floats:
    """Mean absolute weights with which destinations read sources, float64 [E]: Figure 5 of the DenseNet paper.

    (G. Huang et al., "Densely Connected Convolutional Networks", CVPR 2017.)

    Args:
        network: the trained network with every connection.
        scope: which skip connections.
    """
    topology, config = Topology(network.config.blocks, scope), network.config
    places = ((index, dst) for index, layers in enumerate(config.blocks) for dst in range(1, layers + 2))
    means = {}
    for (index, dst), module, widths in zip(places, readers(network), config.source_widths, strict=True):
        sizes = (
            module.weight.detach().double().abs().transpose(0, 1).flatten(1).mean(1)
        )  # of each channel that it reads
        for src, (start, width) in enumerate(zip(accumulate(widths, initial=0), widths, strict=False)):
            means[index, dst, src] = float(sizes[start : start + width].mean())
    return np.array([means[connection] for connection in map(tuple, topology.connections.tolist())])


@checked
def saliencies(network: DenseNet, images: ImageSet, masks: BoolArray, scope: ScopeName = Scope.LAYERS) -> Floats:
    """By how much the loss rises without each connection, to first order, nats, float64 [E]: mean over masks.

    This is minus the derivative of the loss by the connection's gate, which multiplies what its destination reads.
    Where a mask drops the connection, it tells by how much the loss would fall with it. BatchNorm statistics are the
    batch's.

    Args:
        network: the trained network with every connection; not changed.
        images: uint8, with labels, at least two; one batch where memory allows that.
        masks: bool [m, E].
        scope: of the masks.

    Raises:
        InvalidValue: images that the network does not read, or masks of another network.
    """
    check_images(images, network.config)
    masks = np.atleast_2d(Topology(network.config.blocks, scope).check_masks(masks))
    device = next(network.parameters()).device
    batch = max(2, MEMORY // map_bytes(network.config, is_training=True))
    total = torch.zeros(masks.shape[1], dtype=torch.float64)
    with isolated(device), torch.inference_mode(False), torch.enable_grad():
        computing = copy.deepcopy(network).train().requires_grad_(False)
        for mask in masks:
            for part in range(0, len(images), batch):
                gates = torch.tensor(mask, dtype=torch.float32, requires_grad=True)
                some = images.images[part : part + batch].to(device)
                logits = computing(network_input(some), gates, scope)
                labels = images.labels[part : part + batch].to(device)
                loss = functional.cross_entropy(logits, labels, reduction="sum")
                total -= torch.autograd.grad(loss, gates)[0].double()
    return np.asarray(total.numpy() / (len(images) * len(masks)))
