"""Small networks of every kind, with nothing left at its default; and the plain reference of inherited evaluation."""

import dataclasses
import functools
import itertools

import torch
from torch import Tensor, nn

from ads_gym.architecture import Architecture, DenseNetConfig, Stem
from ads_gym.data.images import ImageSet, network_input
from ads_gym.data.splits import Split
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.sparse import build_sparse
from ads_gym.nets.training import Recipe, fit
from ads_gym.tasks import Task

KINDS = [
    DenseNetConfig((3, 4, 3), 4, 6, stem, bottleneck, 0.5 if bottleneck else 1.0, (2, 17, 14), 7)
    for stem, bottleneck in itertools.product([Stem.CONV3, Stem.CONV3_STRIDE2], [False, True])
] + [DenseNetConfig((2, 3), 3, 5, Stem.CONV7_POOL, True, 0.7, (3, 33, 30), 4)]
BN_SIZE = DenseNetConfig((3, 2), 4, 6, Stem.CONV3, True, 0.5, (2, 11, 8), 5, bn_size=2)
WIDE = [DenseNetConfig((3, 2), 10, 6, Stem.CONV3, bottleneck, 0.5, (2, 11, 8), 5) for bottleneck in (False, True)]
WIDE.append(BN_SIZE)
KINDS.append(dataclasses.replace(BN_SIZE, bn_size=4, widths=(3, 16, 1, 7, 12)))


def trained_looking(config: DenseNetConfig, seed: int = 0) -> DenseNet:
    """A supernet whose BatchNorms scale, shift and have seen data."""
    torch.manual_seed(seed)
    network = DenseNet(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@functools.cache
def trained_on_digits(bottleneck: bool) -> DenseNet:
    """A small supernet, plain or BC, that has learned the real digits."""
    torch.manual_seed(0)
    network = DenseNet(DenseNetConfig((4, 4), 4, 8, "conv3", bottleneck, 0.5 if bottleneck else 1.0, (1, 8, 8)))
    fit(network, Task.load("digits").images(Split.TRAIN), Recipe(epochs=6))
    return network


def random_images(config: DenseNetConfig, n: int, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, *config.image_shape), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.randint(0, config.classes, (n,), generator=generator))


@torch.no_grad()
def reference_logits(
    supernet: DenseNet, architecture: Architecture, calibration: ImageSet, valid: ImageSet, dtype: torch.dtype
) -> Tensor:
    """What inherited evaluation means, slow and plain."""
    network = build_sparse(architecture, supernet).to(dtype)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    network.train()(network_input(calibration.images, dtype))
    return network.eval()(network_input(valid.images, dtype))
