"""In which order connections are best dropped, from the dense network's activations alone: no masks are evaluated.

Without some of its sources a destination cannot give what it gave; least squares says how much is missing then, as a
share of its outputs' variance (`ads_gym.nets.repair` solves the same equations). Backward elimination drops, again and
again, the connection for which this residual grows least for each MAC that is saved: N. R. Draper, H. Smith, "Applied
Regression Analysis", for regressors; here the regressors are what a convolution reads of one source.

Shapes: n images, p positions, i inputs of one output, o outputs.
"""

import heapq
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ads_gym.architecture import Architecture
from ads_gym.errors import InvalidValue
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet, Layer, Transition, check_input, source_widths
from ads_gym.nets.least_squares import RIDGE
from ads_gym.nets.repair import ROWS_PER_UNKNOWN, Solvable, draw_positions, patches
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, calibrate
from ads_gym.records import checked
from ads_gym.topology import BoolArray, IntArray, Scope, ScopeName, Topology
from ads_gym.torch_state import isolated

CHUNK_IMAGES = 64  # whose patches are gathered at once


class Dropped(NamedTuple):
    """A connection that is dropped next."""

    connection: int  # its number in the topology
    growth: float  # of the squared error of its destination, as a share of the variance; weights that change count too


@checked
def elimination_order(supernet: DenseNet, images: Tensor, scope: ScopeName = Scope.LAYERS) -> list[Dropped]:
    """All skip connections, in the order in which backward elimination drops them.

    Args:
        supernet: the trained network; not changed.
        images: float [n, c, h, w] as it reads them, at least two, on its device; no labels are needed.
        scope: which skip connections are dropped.

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
    numbers = {tuple(connection): number for number, connection in enumerate(topology.connections.tolist())}
    queues: list[list[tuple[Dropped, float]]] = []

    def eliminate(module: Solvable, place: tuple[int, int], widths: list[int], read: Tensor) -> None:
        skips = {src: numbers[*place, src] for src in range(len(widths)) if (*place, src) in numbers}
        if skips:
            equations = _Equations(module, widths, read, len(queues))
            queues.append(equations.eliminate(skips, {src: int(macs[number]) for src, number in skips.items()}))

    handles = []
    for (module, place), widths in zip(_destinations(network), source_widths(config), strict=True):

        def hook(
            module: Solvable, inputs: tuple[Tensor], place: tuple[int, int] = place, widths: list[int] = widths
        ) -> None:
            eliminate(module, place, widths, inputs[0])

        handles.append(module.register_forward_pre_hook(hook))
    with isolated(images.device):
        calibrate(network, images)
    return _merge(queues)


def kept_within(order: Sequence[Dropped], macs: IntArray, room: int) -> BoolArray:
    """The mask bool [E] that elimination leaves, with what was dropped last put back as far as it fits.

    Args:
        order: of all skip connections.
        macs: of each connection.
        room: most MACs that those that are kept need in all.
    """
    mask, numbers = np.ones(len(order), np.bool_), [each.connection for each in order]
    for connection in numbers:
        if int(mask @ macs) <= room:
            break
        mask[connection] = False
    for connection in reversed(numbers):
        mask[connection] |= int(mask @ macs) + int(macs[connection]) <= room
    return mask


class _Equations:
    """How much a destination's outputs need each of its sources.

    Args:
        module: its convolution, or the classifier.
        widths: channels of each source.
        inputs: what it reads, [n, c, h, w] or [n, c].
        seed: of the positions that stand for a feature map.
    """

    def __init__(self, module: Solvable, widths: list[int], inputs: Tensor, seed: int) -> None:
        weight = module.weight.detach().double()
        rows = _rows(module, inputs, seed).double()
        rows -= rows.mean(0)
        self._weights = weight.flatten(1).T.clone()  # [i, o]
        gram = rows.T @ rows
        self._variance = float((self._weights * (gram @ self._weights)).sum()) or 1.0
        gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()) or 1.0)
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        per_channel = weight[0].numel() // sum(widths)
        ends = accumulate((width * per_channel for width in widths), initial=0)
        self._spans = [slice(*pair) for pair in pairwise(ends)]

    def eliminate(self, skips: dict[int, int], macs: dict[int, int]) -> list[tuple[Dropped, float]]:
        """The sources `skips` (source -> connection) in the order in which they go, and what each costs for a MAC."""
        order = []
        left = dict(skips)
        while left:
            growth = {src: self._growth(src) for src in left}
            src = min(left, key=lambda src: growth[src] / macs[src])
            self._drop(src)
            order.append((Dropped(left.pop(src), growth[src]), growth[src] / macs[src]))
        return order

    def _growth(self, src: int) -> float:
        span = self._spans[src]
        weights = self._weights[span]
        return float((weights * torch.linalg.solve(self._inverse[span, span], weights)).sum()) / self._variance

    def _drop(self, src: int) -> None:
        """Solve without a source: the weights of the others, and the inverse of their Gram matrix."""
        span = self._spans[src]
        gain = torch.linalg.solve(self._inverse[span, span], self._inverse[span]).T  # [i, of the source]
        self._weights = self._weights - gain @ self._weights[span]
        self._inverse = self._inverse - gain @ self._inverse[span]


def _rows(module: Solvable, inputs: Tensor, seed: int) -> Tensor:
    """What a module reads, [r, i]; a convolution at some positions."""
    if isinstance(module, nn.Linear):
        return inputs
    wanted = ROWS_PER_UNKNOWN * module.weight[0].numel()
    places = draw_positions(len(inputs), inputs[0, 0].numel(), wanted, seed).to(inputs.device)
    few = zip(torch.split(inputs, CHUNK_IMAGES), torch.split(places, CHUNK_IMAGES), strict=True)
    return torch.cat([patches(part, at, module.kernel_size[0]).flatten(0, 1) for part, at in few])


def _merge(queues: list[list[tuple[Dropped, float]]]) -> list[Dropped]:
    """One order of all destinations' connections: each time the cheapest of those that are next in theirs."""
    heads = [(queue[0][1], number, 0) for number, queue in enumerate(queues)]
    heapq.heapify(heads)
    order = []
    while heads:
        _, number, place = heapq.heappop(heads)
        order.append(queues[number][place][0])
        if place + 1 < len(queues[number]):
            heapq.heappush(heads, (queues[number][place + 1][1], number, place + 1))
    return order


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
