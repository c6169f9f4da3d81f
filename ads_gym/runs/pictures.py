"""Print the closing table of a search, and draw its pictures."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ads_gym import files
from ads_gym.architecture import Architecture
from ads_gym.envs import render
from ads_gym.runs.folder import RunFolder
from ads_gym.runs.record import Row, best_of
from ads_gym.runs.recorder import EPISODES_PER_EVALUATION, StoppedBy
from ads_gym.runs.result import Line, SearchResult
from ads_gym.tables import make_table, print_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 120
INK, PALE, ACCENT = "#006978", "#9bb8bd", "#d1495b"


def print_result(result: SearchResult, console: Console | None = None) -> None:
    """Prints what a search closes with: why it ended, the table, where things are.

    Args:
        result: of the search.
        console: where to; None: stdout.
    """
    console = console or Console()
    if result.stored is not None:
        console.print(_stored_line(result), highlight=False, markup=False, soft_wrap=True)
    print_table(closing_table(result), console)
    for line in result.table:
        if line.masks > 1:
            told = f"{line.name}: mean of {line.masks} masks of the best's relative cost"
            told += f"; sd of their objective {line.objective_sd:.4f}"
            console.print(told, highlight=False, markup=False, soft_wrap=True)
    for what, path in places(result):
        console.print(f"{what:<26}{path}", highlight=False, markup=False, soft_wrap=True)  # paths stay whole


def _stored_line(result: SearchResult) -> str:
    """Where a result comes from that this command did not compute."""
    stored = result.stored
    assert stored is not None
    size = f"{stored.evaluations} evaluations"
    if stored.evaluations != result.evaluations:
        size += f", of which the first {result.evaluations} are shown"
    return f"Stored result of {stored.date}, {size}, in {result.folder}. --restart plays it again."


def closing_table(result: SearchResult) -> Table:
    """Dense, chain, random masks and best side by side."""
    both = ("inherited\naccuracy", "repaired\naccuracy")
    has_both = all(line.repaired_accuracy is not None for line in result.table)
    accuracy = both if has_both else ("accuracy",)
    columns = ("objective", *accuracy, "soft\naccuracy", "loss", "relative\nMACs", "relative\ncost", "parameters")
    table = make_table(("network",), columns, _title(result))
    for line in result.table:
        accuracies = (line.inherited_accuracy, line.repaired_accuracy) if has_both else (line.accuracy,)
        scores = (line.objective, *accuracies, line.soft_accuracy, line.loss)
        table.add_row(
            line.name,
            *(f"{value:.4f}" for value in scores),
            *(f"{value:.3f}" for value in (line.relative_macs, line.relative_cost)),
            f"{line.parameters:,.0f}",
            style="bold" if line is result.table[-1] else "",
        )
    return table


def _title(result: SearchResult) -> str:
    """How much was searched, and why it ended."""
    told = result.counts
    if result.stopped_by is StoppedBy.EPISODES:
        return f"{told}: stopped, since {EPISODES_PER_EVALUATION} episodes for each evaluation of the budget came first"
    if result.stopped_by is StoppedBy.AGENT:
        return f"{told}: the agent stopped before the budget was spent"
    return told


def places(result: SearchResult) -> list[tuple[str, Path]]:
    """Return (what, where) of everything that a run leaves behind and that is there."""
    folder = RunFolder(result.folder)
    if result.stored is not None and result.stored.evaluations != result.evaluations:
        return []  # files are of the whole run
    named = [
        ("best architecture", folder.best),
        ("its sparse network", folder.best.with_suffix(".safetensors")),
        ("trained policy", folder.policy.with_suffix(".safetensors")),
        ("pictures", folder.pictures),
        ("history", folder.history),
        ("for tensorboard --logdir", folder.tensorboard),
    ]
    return [(what, path) for what, path in named if path.exists()]


def draw_pictures(folder: Path, rows: Sequence[Row], result: SearchResult) -> None:
    """Writes best-so-far.png, accuracy-macs.png and adjacency.png.

    Args:
        folder: made if it is not there.
        rows: the history of the run.
        result: of the run.

    Raises:
        StorageError: no space, no permission.
    """
    figures = {
        "best-so-far.png": best_so_far(rows, result.table),
        "accuracy-macs.png": accuracy_against_macs(rows, result.table),
        "adjacency.png": adjacency(result.architecture),
    }
    files.make_folder(folder)
    for name, figure in figures.items():
        png = io.BytesIO()
        figure.savefig(png, dpi=DOTS_PER_INCH)
        files.write_file(folder / name, png.getvalue())


def best_so_far(rows: Sequence[Row], lines: Sequence[Line]) -> "Figure":
    """The highest objective after so many evaluations, above the objective of each."""
    figure, axes = _figure("evaluations", "objective")
    objectives = [row.objective for row in rows]
    indices = [row.number for row in rows]
    axes.plot(indices, objectives, ".", color=PALE, markersize=3, label="each")
    axes.step(indices, np.maximum.accumulate(objectives), where="post", color=INK, label="best so far")
    for line, style in zip(lines[:-1], ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2))), strict=False):
        axes.axhline(line.objective, color=ACCENT, linestyle=style, linewidth=1, label=line.name)
    axes.legend(loc="lower right")
    return figure


def accuracy_against_macs(rows: Sequence[Row], lines: Sequence[Line]) -> "Figure":
    """Every mask's accuracy against its relative MACs, and the front of those that none beats in both."""
    figure, axes = _figure("relative MACs", "accuracy on validation images")
    front = pareto_front(rows)
    best = best_of(rows).metrics
    axes.plot(*_points(rows), ".", color=PALE, markersize=3, label="each")
    axes.step(*_points(front), where="post", color=INK, label="front")
    for line, mark in zip(lines[:-1], ("s", "v", "d", "P"), strict=False):
        axes.plot(line.relative_macs, line.accuracy, mark, color=ACCENT, label=line.name)
    axes.plot(best.relative_macs, best.accuracy, "*", color=INK, markersize=12, label="best objective")
    axes.legend(loc="lower right")
    return figure


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other beats in accuracy without more MACs; MACs ascending."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.metrics.macs, -row.metrics.accuracy)):
        if not front or row.metrics.accuracy > front[-1].metrics.accuracy:
            front.append(row)
    return front


def adjacency(architecture: Architecture) -> "Figure":
    """Which connections the dense network has, and which of them the architecture keeps."""
    topology = architecture.topology
    share = architecture.mask.mean()
    masks = {"dense": topology.dense(), f"best: {share:.0%} of the skip connections": architecture.mask}
    figure = _empty_figure(height=5.2)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.06, top=0.93)
    for place, (title, mask) in enumerate(masks.items(), start=1):
        axes = figure.add_subplot(2, 1, place)
        axes.imshow(render.rgb_array(topology, mask), interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    figure.supxlabel("a block each: row = destination, column = source; grey = always kept", fontsize=8)
    return figure


def _points(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row.metrics.relative_macs for row in rows], [row.metrics.accuracy for row in rows]


def _figure(x: str, y: str) -> "tuple[Figure, Axes]":
    figure = _empty_figure()
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _empty_figure(height: float = 4.0) -> "Figure":
    """Drawn by Agg into files, whatever windows pyplot would open."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(6.4, height))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.12, right=0.97, bottom=0.13, top=0.96)  # a layout engine would draw all of it twice
    return figure  # type: ignore[no-any-return]
