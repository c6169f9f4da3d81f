"""Backward elimination: in which order a convolution can best do without parts of what it reads.

Without some of its inputs a convolution cannot give what it gave; least squares says how much is missing then
(`ads_gym.nets.repair` solves the same equations). Again and again, the part is dropped for which this residual grows
least for what is saved: N. R. Draper, H. Smith, "Applied Regression Analysis", for regressors; here the regressors come
in groups, such as all that a convolution reads of one source or of one channel.

Shapes: r rows, i inputs of one output, o outputs, g parts of w inputs each.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ads_gym.nets.least_squares import RIDGE
from ads_gym.nets.repair import ROWS_PER_UNKNOWN, Solvable, draw_positions, patches

CHUNK_ROWS = 4_096  # that are gathered, and added to a Gram matrix, at once


class Dropped(NamedTuple):
    """A part that is dropped next."""

    part: int
    growth: float  # of the loss, to second order, by the squared error of what the convolution gives
    price: float  # growth / what is saved


class Elimination:
    """How much a convolution's outputs need each part of what it reads.

    Args:
        module: the convolution, or the classifier, with its weights.
        widths: channels of each part, in order.
        inputs: what it reads, [n, c, h, w] or [n, c].
        seed: of the positions that stand for a feature map.
        sensitivity: float [o], by how much the loss rises for a mean squared error of 1 of each output.
    """

    def __init__(self, module: Solvable, widths: Sequence[int], inputs: Tensor, seed: int, sensitivity: Tensor) -> None:
        weight = module.weight.detach().double()
        gram, rows = _centred_gram(module, inputs, seed)
        self._weights = weight.flatten(1).T * sensitivity.double().sqrt()  # [i, o]
        gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()) or 1.0)
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram)) * rows
        per_channel = weight[0].numel() // sum(widths)
        sizes = [width * per_channel for width in widths]
        starts = accumulate(sizes, initial=0)
        self._spans = dict(enumerate(zip(starts, sizes, strict=False)))  # of each part that is left: its first input, w

    def order(self, savings: dict[int, float]) -> Iterator[Dropped]:
        """The parts in the order in which they go, until none of them is left.

        Args:
            savings: what each part that may go saves.
        """
        savings = dict(savings)
        while savings:
            growth = self._growths(savings)
            part = min(savings, key=lambda part: growth[part] / savings[part])
            self._drop(part)
            yield Dropped(part, growth[part], growth[part] / savings.pop(part))

    def _growths(self, parts: Iterable[int]) -> dict[int, float]:
        """By how much the error grows without each of some parts; all parts of a width at once."""
        by_width: dict[int, list[int]] = {}
        for part in parts:
            by_width.setdefault(self._spans[part][1], []).append(part)
        growths: dict[int, float] = {}
        for width, alike in by_width.items():
            starts = torch.tensor([self._spans[part][0] for part in alike], device=self._inverse.device)
            place = starts[:, None] + torch.arange(width, device=starts.device)  # [g, w]
            weights = self._weights[place]  # [g, w, o]
            blocks = self._inverse[place[:, :, None], place[:, None, :]]
            found = (weights * torch.linalg.solve(blocks, weights)).sum(dim=(1, 2))
            growths.update(zip(alike, found.tolist(), strict=True))
        return growths

    def _drop(self, part: int) -> None:
        """Solve without a part: the weights of the others, and the inverse of their Gram matrix."""
        start, width = self._spans.pop(part)
        place = slice(start, start + width)
        rest = torch.ones(len(self._inverse), dtype=torch.bool, device=self._inverse.device)
        rest[place] = False
        across = self._inverse[rest][:, place]  # [rest, w]
        gain = torch.linalg.solve(self._inverse[place, place], across.T).T
        self._weights = self._weights[rest] - gain @ self._weights[place]
        self._inverse = torch.addmm(self._inverse[rest][:, rest], gain, across.T, alpha=-1)
        for other, (first, size) in self._spans.items():
            self._spans[other] = (first - width if first > start else first), size


def merged(queues: Sequence[Sequence[Dropped]]) -> Iterator[tuple[int, Dropped]]:
    """Each time the cheapest of the parts that are next in their queue, with the number of that queue."""
    heads = [(queue[0].price, number, 0) for number, queue in enumerate(queues) if queue]
    heapq.heapify(heads)
    while heads:
        _, number, place = heapq.heappop(heads)
        yield number, queues[number][place]
        if place + 1 < len(queues[number]):
            heapq.heappush(heads, (queues[number][place + 1].price, number, place + 1))


def _centred_gram(module: Solvable, inputs: Tensor, seed: int) -> tuple[Tensor, int]:
    """Sums of products of what a module reads, less their means: float64 [i, i]; and of how many rows.

    A convolution is read at some positions. Few rows at a time are summed in float32: the ridge is far above that
    error.
    """
    unknowns, total, count = module.weight[0].numel(), torch.zeros((), device=inputs.device), 0
    gram = torch.zeros(unknowns, unknowns, dtype=torch.float64, device=inputs.device)
    shift: Tensor | None = None  # near the mean, so that float32 is exact enough
    for rows in _rows(module, inputs, seed):
        shift = rows.mean(0) if shift is None else shift
        shifted = rows - shift
        gram += (shifted.T @ shifted).double()
        total, count = total + shifted.double().sum(0), count + len(rows)
    return gram - torch.outer(total, total) / count, count


def _rows(module: Solvable, inputs: Tensor, seed: int) -> Iterator[Tensor]:
    """What a module reads, some rows [r, i] at a time."""
    if isinstance(module, nn.Linear):
        yield inputs
        return
    wanted = ROWS_PER_UNKNOWN * module.weight[0].numel()
    places = draw_positions(len(inputs), inputs[0, 0].numel(), wanted, seed).to(inputs.device)
    images = max(1, CHUNK_ROWS // places.shape[1])
    for part, at in zip(torch.split(inputs, images), torch.split(places, images), strict=True):
        yield patches(part, at, module.kernel_size[0]).flatten(0, 1)
