"""Growth of the time of inherited evaluation with masks, images and depth, and of its memory, which stays constant."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from speed.evaluator import FASHION, TINY, Setting, problem

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.splits import Split
from ads_gym.evaluators.inherited import InheritedEvaluator
from ads_gym.evaluators.roofline import peak_memory
from ads_gym.evaluators.throughput import neighbours, random_masks
from ads_gym.tasks import Task

KINDS = {"random": random_masks, "neighbours": neighbours}


@dataclass(frozen=True)
class Growth:
    """Time for one mask at one point."""

    HEAD: ClassVar[str] = "| what grows | to | masks | ms a mask (range) |"

    axis: str
    value: int
    kind: str
    seconds: list[float]  # a mask, repeat by repeat

    def line(self) -> str:
        """As HEAD says."""
        middle, low, high = (1e3 * each for each in (np.median(self.seconds), min(self.seconds), max(self.seconds)))
        return f"| {self.axis} | {self.value:,} | {self.kind} | {middle:.4g} ({low:.4g} - {high:.4g}) |"


@dataclass(frozen=True)
class Memory:
    """What the process held, over many evaluations."""

    HEAD: ClassVar[str] = "| what | after evaluations | MiB held | last - first |"

    what: str
    evaluations: list[int]
    held: list[int]  # bytes

    def line(self) -> str:
        """As HEAD says."""
        held = " ".join(f"{each / 2**20:.0f}" for each in self.held)
        at = " ".join(f"{each:,}" for each in self.evaluations)
        return f"| {self.what} | {at} | {held} | {(self.held[-1] - self.held[0]) / 2**20:+.1f} MiB |"


class Point(NamedTuple):
    """What is timed."""

    axis: str
    value: int
    kind: str
    evaluator: InheritedEvaluator
    masks: int  # at once


def measure(small: bool) -> list[Growth | Memory]:
    """Points along every axis, then memory."""
    points = [*masks(small), *images(small), *depth(small)]
    return [*timed(points, repeats=1 if small else 5), memory(small)]


def masks(small: bool) -> Iterator[Point]:
    """Batches of more and more masks."""
    evaluator = problem(Setting(TINY, 100, 50) if small else Setting(FASHION, 400, 100)).evaluator
    for kind in KINDS:
        for count in (1, 4) if small else (1, 8, 64, 512):
            yield Point("masks in a batch", count, kind, evaluator, count)


def images(small: bool) -> Iterator[Point]:
    """More and more images, a fifth of them for calibration."""
    for count in (100, 200) if small else (1000, 2000, 5000, 10_000):
        evaluator = problem(Setting(TINY if small else FASHION, count - count // 5, count // 5)).evaluator
        yield Point("images, calibration included", count, "random", evaluator, 8)


def depth(small: bool) -> Iterator[Point]:
    """More and more layers: depth 3 L + 4 with three blocks of L layers, k = 12, 32x32."""
    for layers in (2, 3) if small else (6, 12, 20):
        shape = (3, 8, 8) if small else (3, 32, 32)
        config = DenseNetConfig((layers,) * 3, 12, 16, "conv3", image_shape=shape)
        evaluator = problem(Setting(config, 80, 20)).evaluator
        for kind in KINDS:
            yield Point("depth", 3 * layers + 4, kind, evaluator, 8)


def timed(points: list[Point], repeats: int) -> list[Growth]:
    """All of them in turn, each repeat with masks of its own, after an untimed mask for each."""
    rng = np.random.default_rng(0)
    seconds: list[list[float]] = [[] for _ in points]
    for point in points:
        point.evaluator.evaluate(point.evaluator.topology.dense()[None])
    for _ in range(repeats):
        for point, times in zip(points, seconds, strict=True):
            (batch,) = KINDS[point.kind](point.evaluator.topology, point.masks, rng)
            start = time.perf_counter()
            point.evaluator.evaluate(batch)
            times.append((time.perf_counter() - start) / point.masks)
    return [Growth(*point[:3], times) for point, times in zip(points, seconds, strict=True)]


def memory(small: bool) -> Memory:
    """The digits' network on 64 images and 64 for calibration; every batch has 64 neighbours of another mask."""
    task, rng, some = Task.load("digits"), np.random.default_rng(0), torch.arange(64)
    evaluator = InheritedEvaluator(task.supernet(), task.calibration().take(some), task.images(Split.VALID).take(some))
    step, total = (64, 256) if small else (2000, 20_000)
    evaluations, held, done = [], [], 0
    while done < total:
        (batch,) = neighbours(evaluator.topology, 64, rng)
        evaluator.evaluate(batch)
        done += len(batch)
        if done >= step * (len(held) + 1):
            evaluations.append(done)
            held.append(resident(evaluator.device))
    return Memory("digits on 64 + 64 images", evaluations, held)


def resident(device: torch.device) -> int:
    """Bytes that the process holds now, on a GPU too; where the system does not say, the most that it ever held."""
    reserved = torch.cuda.memory_reserved(device) if device.type == "cuda" else 0
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_memory(torch.device("cpu")) + reserved
    return pages * os.sysconf("SC_PAGE_SIZE") + reserved


def draw(rows: list[Growth | Memory], path: Path) -> None:
    """One picture: a panel for each axis, and one for memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3), layout="constrained")
    points = [row for row in rows if isinstance(row, Growth)]
    names = list(dict.fromkeys(row.axis for row in points))
    *panels, last = figure.subplots(1, len(names) + 1)
    for panel, axis in zip(panels, names, strict=True):
        for kind in KINDS:
            line = [row for row in points if (row.axis, row.kind) == (axis, kind)]
            if line:
                panel.loglog(
                    [row.value for row in line], [1e3 * np.median(row.seconds) for row in line], "o-", label=kind
                )
        values = sorted({row.value for row in points if row.axis == axis})
        panel.set_xticks([], minor=True)
        panel.set_xticks(values, [f"{value:,}" for value in values])
        panel.set(xlabel=axis, ylabel="ms a mask")
        panel.legend()
    for row in rows:
        if isinstance(row, Memory):
            last.plot(row.evaluations, [each / 2**20 for each in row.held], "o-")
    last.set(xlabel="evaluations", ylabel="MiB held")
    last.set_ylim(0, 1.2 * last.get_ylim()[1])
    figure.savefig(path, dpi=110)
