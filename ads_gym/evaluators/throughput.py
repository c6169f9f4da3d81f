"""Measure the throughput of inherited evaluation on this machine: masks per second, share of peak rates, memory."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field

from ads_gym.data.images import ImageSet
from ads_gym.devices import resolve_device
from ads_gym.evaluators.inherited import InheritedEvaluator
from ads_gym.evaluators.roofline import Roofline, Work, count_work, measure_roofline, peak_memory
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet
from ads_gym.records import Count, Masks, checked
from ads_gym.topology import BoolArray, Topology

POLICY_BATCH = 8  # masks that an agent asks for at once
MAX_LOGIT_SCALE = 20.0  # of a converged policy: about one decision in thirty is still drawn the other way
Repeats = Annotated[int, Field(ge=1, le=1000)]
Batches = Sequence[BoolArray]  # each bool[n, E], asked for at once


@dataclass(frozen=True)
class Timing:
    """Evaluations of one kind of masks: the work of some, and the time of others."""

    kind: str
    counted: int  # masks behind `work` and `needed`
    work: Work  # done for them
    needed: float  # operations if each of them were computed by itself
    masks: list[int] = field(default_factory=list)  # timed, in each repeat
    seconds: list[float] = field(default_factory=list)  # in each repeat

    @property
    def rates(self) -> list[float]:
        """Masks per second in each repeat."""
        return [masks / seconds for masks, seconds in zip(self.masks, self.seconds, strict=True)]

    @property
    def rate(self) -> float:
        """The median of `rates`."""
        return float(np.median(self.rates))

    @property
    def operations(self) -> float:
        """Operations per second that were done, in convolutions and products."""
        return self.work.operations / self.counted * self.rate

    @property
    def traffic(self) -> float:
        """Bytes per second that operations read and wrote, as if there were no cache."""
        return self.work.traffic / self.counted * self.rate


class Timings(NamedTuple):
    """What `time_evaluator` returns."""

    roofline: Roofline  # the best of all repeats
    timings: list[Timing]
    peak_memory: int  # most bytes that the process held, 0 = unknown


@dataclass(frozen=True)
class Throughput:
    """What `measure_throughput` returns."""

    device: str  # "cpu", or the GPU's name
    threads: int  # of the CPU
    decisions: int  # bits of a mask
    valid: int  # images
    calibration: int  # images
    roofline: Roofline
    timings: list[Timing]
    peak_memory: int  # most bytes that the process held, 0 = unknown
    added_memory: int  # bytes of these that the evaluator and its work added


@checked
def measure_throughput(
    supernet: DenseNet,
    calibration: ImageSet,
    valid: ImageSet,
    device: str = "auto",
    masks: Masks = 64,
    repeats: Repeats = 3,
) -> Throughput:
    """Time an evaluator on several kinds of masks in turn, and the machine's peak rates in between.

    Args:
        supernet, calibration, valid, device: of the evaluator.
        masks: of each kind in each repeat, 1 to 65,536; one that is drawn twice counts once.
        repeats: each with masks of its own, after an untimed one in which the work is counted.

    Raises:
        InvalidValue: a number out of range.
        DeviceUnavailable: a device that this machine lacks.
    """
    where = resolve_device(device)
    before = peak_memory(where)
    evaluator = InheritedEvaluator(supernet, calibration, valid, device=device)
    roofline, timings, peak = time_evaluator(evaluator, len(valid) + len(calibration), masks, repeats)
    return Throughput(
        device=torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        threads=torch.get_num_threads(),
        decisions=evaluator.topology.size,
        valid=len(valid),
        calibration=len(calibration),
        roofline=roofline,
        timings=timings,
        peak_memory=peak,
        added_memory=peak - before,
    )


@checked
def time_evaluator(evaluator: InheritedEvaluator, images: Count, masks: Masks, repeats: Repeats) -> Timings:
    """Time an evaluator as `measure_throughput` does; `images` counts both VALID and calibration."""
    rng = np.random.default_rng(0)

    def draw(kind: str) -> Batches:
        return drop_repeated(KINDS[kind](evaluator.topology, masks, rng))

    timings = [_count(evaluator, kind, draw(kind), images) for kind in KINDS]
    rooflines, peak = [], 0
    for _ in range(repeats):
        for timing in timings:
            _time(evaluator, draw(timing.kind), timing)
        peak = peak or peak_memory(evaluator.device)  # before the measurement of peak rates takes memory
        rooflines.append(measure_roofline(evaluator.device))
    return Timings(Roofline(*map(max, zip(*map(astuple, rooflines), strict=True))), timings, peak)


def _count(evaluator: InheritedEvaluator, kind: str, batches: Batches, images: int) -> Timing:
    """A timing without times; also the warm-up."""
    macs = CostTable(evaluator.config, evaluator.topology.scope).macs(np.concatenate(batches)).sum()
    work = count_work(lambda: [evaluator.evaluate(batch) for batch in batches])
    return Timing(kind, sum(map(len, batches)), work, 2.0 * float(macs) * images)


def _time(evaluator: InheritedEvaluator, batches: Batches, timing: Timing) -> None:
    """Add a repeat."""
    start = time.perf_counter()
    for batch in batches:
        evaluator.evaluate(batch)  # its metrics are on the CPU when it returns
    timing.seconds.append(time.perf_counter() - start)
    timing.masks.append(sum(map(len, batches)))


def random_masks(topology: Topology, count: int, rng: np.random.Generator) -> Iterator[BoolArray]:
    """One batch; each connection is kept with probability 1 / 2."""
    yield rng.random((count, topology.size)) < 0.5


def neighbours(topology: Topology, count: int, rng: np.random.Generator) -> Iterator[BoolArray]:
    """One batch of masks that differ from one random mask by one or two flips, in turn."""
    masks = np.repeat(rng.random((1, topology.size)) < 0.5, count, axis=0)
    for index, mask in enumerate(masks):
        mask[rng.choice(topology.size, min(1 + index % 2, topology.size), replace=False)] ^= True
    yield masks


def converging(topology: Topology, count: int, rng: np.random.Generator) -> Iterator[BoolArray]:
    """Batches of a policy that converges: independent bits, whose logits grow linearly from zero."""
    logits = rng.standard_normal(topology.size)
    for start in range(0, count, POLICY_BATCH):
        keep = 1 / (1 + np.exp(-logits * MAX_LOGIT_SCALE * start / count))
        yield rng.random((min(POLICY_BATCH, count - start), topology.size)) < keep


KINDS: dict[str, Callable[[Topology, int, np.random.Generator], Iterator[BoolArray]]] = {
    "random": random_masks,
    "neighbours": neighbours,
    "converging": converging,
}


def drop_repeated(batches: Iterable[BoolArray]) -> list[BoolArray]:
    """The batches without masks that came before, as after a store of results; no batch is empty."""
    seen: set[bytes] = set()
    batches_left = []
    for batch in batches:
        fresh = {mask.tobytes(): mask for mask in batch if mask.tobytes() not in seen}
        seen |= fresh.keys()
        if fresh:
            batches_left.append(np.stack(list(fresh.values())))
    return batches_left
