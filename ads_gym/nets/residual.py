"""In which order connections are best dropped, from what the dense network computes: no masks are scored.

Without some of its sources a destination cannot give what it gave. Backward elimination (`ads_gym.nets.elimination`)
drops, again and again, the connection for which its destination's squared error, weighted by how much the loss rises
with it (`ads_gym.nets.sensitivity`), grows least for each MAC that is saved.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ads_gym.architecture import Architecture
from ads_gym.errors import InvalidValue
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet, Layer, Transition, check_input
from ads_gym.nets.elimination import Dropped, Elimination, merged
from ads_gym.nets.repair import LayerProgress, Solvable
from ads_gym.nets.sensitivity import sensitivities
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, calibrate
from ads_gym.records import Seed, checked
from ads_gym.topology import BoolArray, IntArray, Scope, ScopeName, Topology
from ads_gym.torch_state import isolated


@checked
def elimination_order(
    supernet: DenseNet,
    images: Tensor,
    scope: ScopeName = Scope.LAYERS,
    *,
    seed: Seed = 0,
    progress: LayerProgress | None = None,
) -> list[Dropped]:
    """All skip connections (`part`: their numbers), in the order in which backward elimination drops them.

    Args:
        supernet: the trained network; not changed.
        images: float [n, c, h, w] as it reads them, at least two, on its device; no labels are needed.
        scope: which skip connections are dropped.
        seed: of what is drawn: positions of the images, and classes from the network's predictions.
        progress: called after every destination with those done and their number.

    Raises:
        InvalidValue: images that the network does not read.
    """
    config = supernet.config
    check_input(images, config)
    if len(images) < 2 or not torch.isfinite(images).all():
        raise InvalidValue(f"residuals need at least two images of finite numbers, got {len(images)}.")
    topology = Topology(config.blocks, scope)
    network = build_sparse(Architecture(config, topology.dense(), scope), supernet)
    macs = CostTable(config, scope).connection_macs
    rises = sensitivities(supernet, images, seed=seed)
    numbers = {tuple(connection): number for number, connection in enumerate(topology.connections.tolist())}
    queues: list[list[Dropped]] = []

    destinations = list(zip(_destinations(network), config.source_widths, strict=True))
    names = {module: name for name, module in network.named_modules()}

    def eliminate(
        number: int, place: tuple[int, int], widths: tuple[int, ...], module: Solvable, inputs: tuple[Tensor]
    ) -> None:
        skips = {src: numbers[*place, src] for src in range(len(widths)) if (*place, src) in numbers}
        if skips:
            elimination = Elimination(module, inputs[0], seed + len(queues), rises[names[module]])
            starts = list(accumulate(widths, initial=0))
            parts = [range(start, start + width) for start, width in zip(starts, widths, strict=False)]
            order = elimination.order(parts, {src: float(macs[number]) for src, number in skips.items()})
            queues.append([each._replace(part=skips[each.part]) for each in order])
        if progress is not None:
            progress(number, len(destinations))

    for number, ((module, place), widths) in enumerate(destinations, start=1):
        module.register_forward_pre_hook(partial(eliminate, number, place, widths))
    with isolated(images.device):
        calibrate(network, images)
    return [each for _, each in merged(queues)]


def kept_within(order: Sequence[Dropped], macs: IntArray, room: int) -> BoolArray:
    """The mask bool [E] that elimination leaves, with what was dropped last put back as far as it fits.

    Args:
        order: of all skip connections.
        macs: of each connection.
        room: most MACs that those that are kept need in all.
    """
    mask, numbers = np.ones(len(order), np.bool_), [each.part for each in order]
    for connection in numbers:
        if int(mask @ macs) <= room:
            break
        mask[connection] = False
    for connection in reversed(numbers):
        mask[connection] |= int(mask @ macs) + int(macs[connection]) <= room
    return mask


def _destinations(network: SparseDenseNet) -> list[tuple[Solvable, tuple[int, int]]]:
    """Of each destination in order: what reads its sources, and (block, dst)."""
    found: list[tuple[Solvable, tuple[int, int]]] = []
    block = last = 0
    for child in network.features.children():
        if isinstance(child, nn.Sequential):
            found += [(cast(Layer, layer).conv1, (block, dst)) for dst, layer in enumerate(child, start=1)]
            last = len(child) + 1
        elif isinstance(child, Transition):
            found.append((child.conv, (block, last)))
            block += 1
    return [*found, (network.classifier, (block, last))]
