"""The geometry of a report's pictures, as the paths that SVG draws. No style: see templates/style.css.

Lengths are in units of the picture, which a browser scales. Many points become one path, and points that fall on each
other one point, so that a picture of any number of evaluations stays small.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ads_gym.architecture import Architecture
from ads_gym.envs import render
from ads_gym.envs.render import Cell
from ads_gym.reports.page import Curve, Points, Role

Place = tuple[float, float]

THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 410, 22, 262  # of the area within the axes
SIDE, EDGE = 200, 30  # of the picture of a matrix, and of the margin of its numbers
MAX_LABELS = 8  # of the rows or columns of a matrix
MAX_DISTANCES = 20  # that are named
NARROW = 16  # layers of a block, up to which two blocks stand beside each other
GRIDS = ((0.5, 5_000), (1, 20_000), (2, math.inf))  # units, for up to so many points: a dot is 3.2 wide
MAX_GRID = 64  # rows, beyond which cells are not set apart


@dataclass(frozen=True)
class Tick:
    """A number at an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Series:
    """What is drawn in one style."""

    name: str  # in the legend; "": not there
    style: str  # class
    path: str
    sample: str = ""  # path of its mark in the legend, in a square of 16 units


@dataclass(frozen=True)
class Chart:
    """A picture with two axes."""

    x: str  # what is on the axis
    y: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Matrix:
    """The adjacency matrix of a block: row = destination, column = source."""

    side: float  # of a cell
    paths: tuple[tuple[str, str], ...]  # (style, path), in cells
    grid: str  # lines between cells
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]


@dataclass(frozen=True)
class Bar:
    """What one destination keeps of its skip connections."""

    at: float  # its middle, downwards
    text: str  # "layer 4"
    kept: int
    of: int
    sources: str  # all that it reads, the chain among them


@dataclass(frozen=True)
class Block:
    """A block before and after."""

    number: int  # from 1
    before: Matrix
    after: Matrix
    bars: tuple[Bar, ...]
    kept: int
    of: int


class Axis:
    """Places of numbers along an axis.

    Args:
        values: at least one; all of them lie on the axis.
        start, end: where the axis begins and ends in the picture.
        limits: beyond which it is not widened.
    """

    def __init__(
        self, values: Iterable[float], start: float, end: float, limits: Place = (-math.inf, math.inf)
    ) -> None:
        found = list(values)
        low, high = min(found), max(found)
        margin = (high - low) * 0.04 or abs(high) * 0.1 or 0.1
        self.low = min(low, max(limits[0], low - margin))
        self.high = max(high, min(limits[1], high + margin))
        if self.high <= self.low:
            self.low, self.high = self.low - margin, self.high + margin
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        """Where a number is."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int, text: Callable[[float], str] = "{:.12g}".format) -> tuple[Tick, ...]:
        """Round numbers on the axis, at most so many."""
        return tuple(Tick(self.at(value), text(value)) for value in round_numbers(self.low, self.high, most))


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two numbers, at most `most` of them."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(
        power * factor
        for factor in (1, 2, 5, 10, 20)
        if math.floor(high / (power * factor)) - math.ceil(low / (power * factor)) < most
    )
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def percent(share: float, digits: int = 0) -> str:
    """A share in per cent."""
    return f"{share * 100:.{digits}f}{THIN_SPACE}%"


def _dot(x: float, y: float) -> str:
    return f"M{x:g} {y:g}h0"


def _polygon(*corners: Place) -> Callable[[float, float], str]:
    """A mark with corners around its middle."""
    return lambda x, y: "M" + "L".join(f"{x + a:g} {y + b:g}" for a, b in corners) + "Z"


MARKS: dict[Role, Callable[[float, float], str]] = {
    Role.EVALUATED: _dot,
    Role.RANDOM: _polygon((0, -3.5), (3.2, 2.5), (-3.2, 2.5)),
    Role.RESIDUAL: lambda x, y: f"M{x - 2.5:g} {y - 2.5:g}l5 5m0 -5l-5 5",
    Role.CHANNELS: lambda x, y: f"M{x - 2.5:g} {y:g}h5m-2.5 -2.5v5",
    Role.CHAIN: _polygon((0, 5.5), (5, -4), (-5, -4)),
    Role.DENSE: _polygon((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)),
    Role.CHOSEN: _polygon((0, -7), (5.5, 0), (0, 7), (-5.5, 0)),
}
FILLS: dict[str | None, str] = {"inherited": "hollow", "distilled": "ringed"}  # by weights


def accuracy_against_macs(groups: Sequence[Points], measured: str) -> Chart:
    """Every network's accuracy against its relative MACs."""
    places = [place for group in groups for place in group.places]
    x = Axis([place[0] for place in places], LEFT, RIGHT)
    y = Axis([place[1] for place in places], BOTTOM, TOP, (0.0, 1.0))
    series = [_marks(group, x, y) for group in groups]
    chosen = [place for group in groups if group.role is Role.CHOSEN for place in group.places]
    if len(chosen) > 1:  # from inherited to repaired and distilled
        line = "M" + "L".join(f"{x.at(a):.1f} {y.at(b):.1f}" for a, b in chosen)
        series.insert(-len(chosen), Series("", "lead", line))
    return Chart("MACs / dense MACs", measured, x.ticks(6, percent), y.ticks(6, _share_format(y)), tuple(series))


def _share_format(axis: Axis) -> Callable[[float], str]:
    """Per cent, with a digit behind the point where the axis is short."""
    return lambda share: percent(share, 0 if axis.high - axis.low > 0.06 else 1)


def _marks(group: Points, x: Axis, y: Axis) -> Series:
    mark = MARKS[group.role]
    places = _apart((x.at(a), y.at(b)) for a, b in group.places)
    style = f"{group.role} {FILLS.get(group.weights, 'filled')}"
    return Series(group.name, style, "".join(mark(*place) for place in places), mark(8, 8))


def _apart(places: Iterable[Place]) -> Iterator[Place]:
    """Places rounded to a grid, each once; the more there are, the wider it is."""
    found = list(places)
    grid = next(width for width, most in GRIDS if len(found) <= most)
    yield from dict.fromkeys((round(x / grid) * grid, round(y / grid) * grid) for x, y in found)


def best_so_far(curve: Curve) -> Chart:
    """The objective of each evaluation, and the highest so far."""
    objectives = curve.objectives
    best = np.maximum.accumulate(np.asarray(objectives))
    x = Axis([1, max(2, len(objectives))], LEFT, RIGHT, (1, len(objectives)))
    y = Axis([*objectives, *(value for _, value in curve.others)], BOTTOM, TOP)
    dots = "".join(_dot(*place) for place in _apart((x.at(n), y.at(v)) for n, v in enumerate(objectives, start=1)))
    series = [Series("each evaluation", "evaluated filled", dots, _dot(8, 8))]
    by_height: dict[float, list[str]] = {}
    for name, value in curve.others:
        by_height.setdefault(round(y.at(value), 1), []).append(name)
    for height, names in by_height.items():
        series.append(
            Series(
                ", ".join(names),
                f"other of-{names[0]}" if names[0] in MARKS else "other",
                f"M{LEFT} {height:g}H{RIGHT}",
                "M0 8h16",
            )
        )
    series.append(Series("best so far", "best", _steps(best, x, y), "M0 8h16"))
    return Chart("evaluations", "objective", x.ticks(6), y.ticks(6), tuple(series))


def _steps(best: NDArray[np.float64], x: Axis, y: Axis) -> str:
    """A line that goes up where the best does; steps of less than half a unit in both directions are left out."""
    rises = np.flatnonzero(np.r_[True, np.diff(best) > 0])
    corners = dict.fromkeys((round(x.at(n + 1) * 2) / 2, round(y.at(best[n]) * 2) / 2) for n in rises.tolist())
    (start, height), *others = corners
    return f"M{start:g} {height:g}" + "".join(f"H{a:g}V{b:g}" for a, b in others) + f"H{RIGHT}"


def kept_by_distance(architecture: Architecture) -> Chart:
    """The share of skip connections that is kept, by how many layers they skip; or of the channels that are read."""
    all_of, kept_of = _by_distance(architecture)
    distances = [int(distance) for distance in np.flatnonzero(all_of)]
    width = (RIGHT - LEFT) / len(distances)
    y = Axis([0, 1], BOTTOM, TOP, (0, 1))
    step = max(1, math.ceil(len(distances) / MAX_DISTANCES))
    ticks, bars, tracks = [], "", ""
    for index, distance in enumerate(distances):
        left, wide = LEFT + (index + 0.14) * width, 0.72 * width
        top = y.at(kept_of[distance] / all_of[distance])
        tracks += f"M{left:.1f} {TOP}h{wide:.1f}V{BOTTOM}h{-wide:.1f}Z"
        bars += f"M{left:.1f} {top:.1f}h{wide:.1f}V{BOTTOM}h{-wide:.1f}Z"
        if index % step == 0:
            ticks.append(Tick(LEFT + (index + 0.5) * width, str(distance)))
    series = (Series("dropped", "track", tracks, "M1 2h14v12h-14Z"), Series("kept", "bar", bars, "M1 2h14v12h-14Z"))
    return Chart(
        "distance: destination - source", f"share of {unit(architecture)}", tuple(ticks), y.ticks(6, percent), series
    )


def _by_distance(architecture: Architecture) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By destination - source: how many skip connections, or channels, there are, and how many are kept."""
    if architecture.reads is None:
        _, dst, src = architecture.topology.connections.T
        return np.bincount(dst - src), np.bincount((dst - src)[architecture.mask], minlength=dst.max() + 1)
    sums = np.zeros((2, max(architecture.config.blocks) + 2), np.int64)
    for both in zip(architecture.config.source_widths, architecture.reads, strict=True):
        for total, counts in zip(sums, both, strict=True):
            total[1 : len(counts) + 1] += counts[::-1]
    return sums[0], sums[1]


def unit(architecture: Architecture) -> str:
    """What is counted of an architecture."""
    return "skip connections" if architecture.reads is None else "channels"


def blocks(architecture: Architecture) -> list[Block]:
    """Each block's matrices, and what each destination kept."""
    if architecture.reads is not None:
        return list(_blocks_of_channels(architecture))
    topology = architecture.topology
    dense, found = (render.cells(topology, mask) for mask in (topology.dense(), architecture.mask))
    return [
        Block(
            number,
            _matrix(before),
            _matrix(after),
            _bars(after),
            int((after == Cell.KEPT).sum()),
            int((before == Cell.KEPT).sum()),
        )
        for number, (before, after) in enumerate(zip(dense, found, strict=True), start=1)
    ]


def _blocks_of_channels(architecture: Architecture) -> Iterator[Block]:
    """Where destinations read some channels of a node: cells have a shade for the share."""
    pairs = list(zip(architecture.channels, architecture.config.source_widths, strict=True))
    for number, layers in enumerate(architecture.config.blocks, start=1):
        here, pairs = pairs[: layers + 1], pairs[layers + 1 :]
        shares = np.full((layers + 1, layers + 1), np.nan)
        for row, (counts, widths) in enumerate(here):
            shares[row, : len(counts)] = np.array(counts) / widths
        side = (SIDE - EDGE) / len(shares)
        bars = tuple(
            Bar(
                EDGE + (row + 0.5) * side,
                "output" if row == layers else f"layer {row + 1}",
                sum(counts),
                sum(widths),
                ", ".join(f"{count} of {node}" for node, count in enumerate(counts) if count),
            )
            for row, (counts, widths) in enumerate(here)
        )
        before = _shades(np.where(np.isnan(shares), np.nan, 1.0))
        totals = (sum(sum(each[part]) for each in here) for part in (0, 1))
        yield Block(number, before, _shades(shares), bars, *totals)


def _shades(shares: NDArray[np.float64]) -> Matrix:
    """A matrix of shares, 0 to 1; NaN: nothing can be read there."""
    steps = np.ceil(np.nan_to_num(shares) * 3) - (shares < 1)  # 0: at most a third, 1, 2: less than all, 3: all
    marked = {"dropped": ~np.isnan(shares)}
    marked |= {f"part{step:.0f}": (shares > 0) & (shares < 1) & (steps == step) for step in range(3)}
    return _marked(marked | {"kept": shares == 1})


def _matrix(cells: NDArray[Any]) -> Matrix:
    kept = cells == Cell.KEPT
    return _marked({"fixed": cells == Cell.FIXED, "dropped": kept | (cells == Cell.DROPPED), "kept": kept})


def _marked(marked: Mapping[str, NDArray[np.bool_]]) -> Matrix:
    """A matrix of cells, by style; each above those before."""
    size = len(next(iter(marked.values())))
    side = (SIDE - EDGE) / size
    paths = tuple((style, "".join(_runs(bits))) for style, bits in marked.items())
    lines = [EDGE + index * side for index in range(size + 1)] if size <= MAX_GRID else []
    grid = "".join(f"M{EDGE} {at:.2f}H{SIDE}M{at:.2f} {EDGE}V{SIDE}" for at in lines)
    return Matrix(side, tuple(path for path in paths if path[1]), grid, *_numbers(size, side))


def _runs(marked: NDArray[np.bool_]) -> Iterator[str]:
    """A stroke for each run of marked cells in a row, in cells."""
    for row, bits in enumerate(marked):
        edges = np.flatnonzero(np.diff(np.r_[False, bits, False].astype(np.int8)))
        yield from (f"M{first} {row}h{last - first}" for first, last in edges.reshape(-1, 2).tolist())


def _numbers(count: int, side: float) -> tuple[tuple[Tick, ...], tuple[Tick, ...]]:
    """Names of some rows (destinations 1.. and the output) and columns (sources 0..)."""
    step = max(1, math.ceil(count / MAX_LABELS))
    middles = [EDGE + (index + 0.5) * side for index in range(count)]
    rows = [Tick(middles[index], str(index + 1)) for index in range(0, count - 1, step)]
    if count - 1 - (len(rows) - 1) * step < step:
        rows.pop()
    columns = [Tick(middles[index], str(index)) for index in range(0, count, step)]
    return (*rows, Tick(middles[-1], "out")), tuple(columns)


def _bars(cells: NDArray[Any]) -> tuple[Bar, ...]:
    """Of the destinations that have skip connections to decide about."""
    side, bars = (SIDE - EDGE) / len(cells), []
    for row, values in enumerate(cells):
        kept, dropped = int((values == Cell.KEPT).sum()), int((values == Cell.DROPPED).sum())
        if kept + dropped:
            name = "output" if row == len(cells) - 1 else f"layer {row + 1}"
            reads = np.flatnonzero((values == Cell.KEPT) | (values == Cell.FIXED)).tolist()
            bars.append(Bar(EDGE + (row + 0.5) * side, name, kept, kept + dropped, ranges(reads)))
    return tuple(bars)


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in words: "0, 2-4"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
