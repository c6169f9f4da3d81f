"""Backward elimination: in which order a convolution can best do without parts of what it reads.

Without some of its inputs a convolution cannot give what it gave; least squares says how much is missing then
(`ads_gym.nets.repair` solves the same equations). Again and again, the part is dropped for which this residual grows
least for what is saved: N. R. Draper, H. Smith, "Applied Regression Analysis", for regressors; here the regressors come
in groups, such as all that a convolution reads of one source or of one channel.

Shapes: r rows, i inputs of one output, o outputs, g parts of w inputs each.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ads_gym.errors import InvalidValue
from ads_gym.limits import check_memory
from ads_gym.nets.least_squares import RIDGE, add_square
from ads_gym.nets.repair import ROWS_PER_UNKNOWN, Solvable, draw_positions, patches

MATRICES = 4  # float64, of a layer's unknowns: a Gram matrix, its inverse, factors
CHUNK_ROWS = 4_096  # that are gathered, and added to a Gram matrix, at once


class Dropped(NamedTuple):
    """A part that is dropped next."""

    part: int
    growth: float  # of the loss, to second order, by the squared error of what the convolution gives
    price: float  # growth / what is saved


class Elimination:
    """How much a convolution's outputs need what it reads.

    Args:
        module: the convolution, or the classifier, with its weights.
        inputs: what it reads, [n, c, h, w] or [n, c].
        seed: of the positions that stand for a feature map.
        sensitivity: float [o], by how much the loss rises for a mean squared error of 1 of each output.
    """

    def __init__(self, module: Solvable, inputs: Tensor, seed: int, sensitivity: Tensor) -> None:
        weight = module.weight.detach().double()
        check_memory("eliminating what a layer reads", MATRICES * 8 * weight[0].numel() ** 2)
        gram, rows = _centred_gram(module, inputs, seed)
        self._weights = weight.flatten(1).T * sensitivity.double().sqrt()  # [i, o]
        gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()) or 1.0)
        triangle, failed = torch.linalg.cholesky_ex(gram)
        if failed or not torch.isfinite(self._weights).all():
            raise InvalidValue(
                "a layer's activations are too large, or too different, for its residuals to be computed."
            )
        self._inverse = torch.cholesky_inverse(triangle) * rows  # while no part is dropped
        self._per_channel = weight[0].numel() // weight.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that this holds."""
        return self._inverse.nbytes + self._weights.nbytes

    def order(
        self, parts: Sequence[Sequence[int]], savings: dict[int, float], after: Mapping[int, int] | None = None
    ) -> Iterator[Dropped]:
        """Parts in the order in which they go, until all that may go are gone.

        A part goes by one step of a Cholesky decomposition of the inverse, of which only what is needed is computed.

        Args:
            parts: channels of each.
            savings: what each part that may go saves, by its number.
            after: of a part that must not go before another one has, that one's number.
        """
        device = self._inverse.device
        places = [self._places(channels) for channels in parts]
        weights, inverse, done, left = self._weights.clone(), self._inverse, 0, len(savings)
        groups = [self._group(some, places) for some in _by_width(savings, places)]
        factor = inverse.new_empty(len(inverse), sum(each.place.numel() for each in groups))
        saved = inverse.new_zeros(len(parts))
        saved[list(savings)] = torch.tensor(list(savings.values()), dtype=saved.dtype, device=device)
        waiting = torch.zeros(len(parts), dtype=torch.bool, device=device)
        followers: dict[int, list[int]] = {}
        for part, other in (after or {}).items():
            if part in savings and other in savings:
                followers.setdefault(other, []).append(part)
                waiting[part] = True
        while left:
            numbers = torch.cat([group.parts for group in groups])
            growths = torch.cat([group.growths(weights) for group in groups])
            prices = (growths / saved[numbers]).masked_fill(waiting[numbers], torch.inf)
            cheapest = int(prices.argmin())
            part = int(numbers[cheapest])
            yield Dropped(part, float(growths[cheapest]), float(prices[cheapest]))
            left -= 1
            waiting[followers.get(part, [])] = False
            place = places[part]
            across = inverse[:, place] - factor[:, :done] @ factor[place, :done].T  # [i, w], with what is left
            triangle = torch.linalg.cholesky(across[place])
            step = torch.linalg.solve_triangular(triangle, across.T, upper=False).T
            weights -= step @ torch.linalg.solve_triangular(triangle, weights[place], upper=False)
            factor[:, done : done + step.shape[1]] = step
            done += step.shape[1]
            groups = [rest for group in groups if len((rest := group.without(part, step)).parts)]

    def _places(self, channels: Sequence[int]) -> Tensor:
        """int64 [w]: the inputs of some channels."""
        device, size = self._inverse.device, self._per_channel
        starts = torch.tensor(list(channels), device=device) * size
        return (starts[:, None] + torch.arange(size, device=device)).flatten()

    def _group(self, parts: list[int], places: Sequence[Tensor]) -> "_Group":
        place = torch.stack([places[part] for part in parts])
        return _Group(
            torch.tensor(parts, device=place.device), place, self._inverse[place[:, :, None], place[:, None, :]]
        )


def _by_width(parts: Iterable[int], places: Sequence[Tensor]) -> Iterable[list[int]]:
    """Some parts, those of as many inputs together."""
    found: dict[int, list[int]] = {}
    for part in parts:
        found.setdefault(len(places[part]), []).append(part)
    return found.values()


class _Group(NamedTuple):
    """Parts of one width that may go."""

    parts: Tensor  # int64 [g]: their numbers
    place: Tensor  # int64 [g, w]: their inputs
    blocks: Tensor  # float64 [g, w, w]: of the inverse Gram matrix of what is left, those on its diagonal

    def growths(self, weights: Tensor) -> Tensor:
        """[g]: by how much the error grows without each of them, with weights [i, o] of what is left."""
        own = weights[self.place]  # [g, w, o]
        solved = own / self.blocks if self.place.shape[1] == 1 else torch.linalg.solve(self.blocks, own)
        return (own * solved).sum(dim=(1, 2))

    def without(self, part: int, step: Tensor) -> "_Group":
        """What is left of them without a part, by a step [i, w] of the Cholesky decomposition."""
        kept = self.parts != part
        own = step[self.place[kept]]  # [g, w, width of the part]
        return _Group(self.parts[kept], self.place[kept], self.blocks[kept] - own @ own.transpose(1, 2))


Priced = TypeVar("Priced", bound="_Priced")


class _Priced(Protocol):
    @property
    def price(self) -> float: ...


def merged(queues: Sequence[Sequence[Priced]]) -> Iterator[tuple[int, Priced]]:
    """Each time the cheapest of what is next in its queue, with the number of that queue."""
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
        add_square(gram, shifted)
        total, count = total + shifted.double().sum(0), count + len(rows)
    return gram.triu() + gram.triu(1).T - torch.outer(total, total) / count, count


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
