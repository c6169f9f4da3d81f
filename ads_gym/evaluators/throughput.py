"""How fast inherited evaluation is on this machine: masks per second, share of the machine's peak, memory."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from ads_gym.data.splits import Split
from ads_gym.devices import resolve_device
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.inherited import InheritedEvaluator
from ads_gym.evaluators.roofline import Machine, Work, count_work, measure_machine, peak_memory
from ads_gym.nets.cost import CostTable
from ads_gym.tasks import Task
from ads_gym.topology import BoolArray, Topology

MOST_MASKS = 100_000
POLICY_BATCH = 8  # masks that an agent asks for at once
SHARPEST = 20.0  # scale of a converged policy's logits: about one decision in thirty still goes either way
Batches = Sequence[BoolArray]  # each bool[n, E], asked for at once


@dataclass(frozen=True)
class Pace:
    """Masks of one kind: what some of them asked of the machine, and how long others took."""

    kind: str
    counted: int  # masks behind `work` and `needed`
    work: Work  # that was done for them
    needed: float  # operations that they have if each is computed by itself
    masks: list[int] = field(default_factory=list)  # timed, repeat by repeat
    seconds: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Masks a second, repeat by repeat."""
        return [masks / seconds for masks, seconds in zip(self.masks, self.seconds, strict=True)]

    @property
    def rate(self) -> float:
        """The median of `rates`."""
        return float(np.median(self.rates))

    @property
    def operations(self) -> float:
        """Operations a second that were done, in convolutions and products."""
        return self.work.operations / self.counted * self.rate

    @property
    def traffic(self) -> float:
        """Bytes a second that operations read and wrote, as if no cache held any."""
        return self.work.traffic / self.counted * self.rate


class Measured(NamedTuple):
    """Paces beside what the machine can do."""

    machine: Machine  # the best of all repeats
    paces: list[Pace]
    peak: int  # bytes that the process held at most, 0 = unknown


@dataclass(frozen=True)
class Bench:
    """What `measure_evaluator` found."""

    device: str  # cpu, or what CUDA calls its own
    threads: int  # of the CPU
    decisions: int  # bits of a mask
    valid: int  # images
    calibration: int
    machine: Machine
    paces: list[Pace]
    peak: int  # bytes that the process held at most, 0 = unknown
    growth: int  # bytes of these that came with the evaluator and its work


def measure_evaluator(task: Task, device: str = "auto", masks: int = 64, repeats: int = 3) -> Bench:
    """Times a task's evaluator on masks of several kinds in turn, and the machine's peaks between.

    Args:
        task: with images.
        device: of the evaluator.
        masks: of each kind in each repeat, 1 to 100,000; one that is drawn twice counts once.
        repeats: each with masks of its own, after an untimed one in which the work is counted.

    Raises:
        InvalidValue: a number out of range, or a planted task, which has no images.
        DeviceUnavailable: a device that this machine lacks.
    """
    if not 1 <= masks <= MOST_MASKS:
        raise InvalidValue(f"masks must lie between 1 and {MOST_MASKS:,}, got {masks}.")
    where = resolve_device(device)
    valid, calibration = len(task.images(Split.VALID).labels), len(task.calibration().labels)
    before = peak_memory(where)
    evaluator = InheritedEvaluator(task.supernet(), task.calibration(), task.images(Split.VALID), device=device)
    measured = measure_paces(evaluator, valid + calibration, masks, repeats)
    return Bench(
        device=torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        threads=torch.get_num_threads(),
        decisions=evaluator.topology.size,
        valid=valid,
        calibration=calibration,
        machine=measured.machine,
        paces=measured.paces,
        peak=measured.peak,
        growth=measured.peak - before,
    )


def measure_paces(evaluator: InheritedEvaluator, images: int, masks: int, repeats: int) -> Measured:
    """Times any such evaluator, as `measure_evaluator` does; `images` are both of VALID and for calibration."""
    rng = np.random.default_rng(0)

    def draw(kind: str) -> Batches:
        return unseen(KINDS[kind](evaluator.topology, masks, rng))

    paces = [_counted(evaluator, kind, draw(kind), images) for kind in KINDS]
    machines, peak = [], 0
    for _ in range(repeats):
        for pace in paces:
            _time(evaluator, draw(pace.kind), pace)
        peak = peak or peak_memory(evaluator.device)  # before the machine's own measurement takes memory
        machines.append(measure_machine(evaluator.device))
    return Measured(Machine(*map(max, zip(*map(astuple, machines), strict=True))), paces, peak)


def _counted(evaluator: InheritedEvaluator, kind: str, batches: Batches, images: int) -> Pace:
    """A pace without times; also warms up."""
    macs = CostTable(evaluator.config, evaluator.topology.scope).macs(np.concatenate(batches)).sum()
    work = count_work(lambda: [evaluator.evaluate(batch) for batch in batches])
    return Pace(kind, sum(map(len, batches)), work, 2.0 * float(macs) * images)


def _time(evaluator: InheritedEvaluator, batches: Batches, pace: Pace) -> None:
    """Adds a repeat."""
    start = time.perf_counter()
    for batch in batches:
        evaluator.evaluate(batch)  # its metrics are on the CPU when it returns
    pace.seconds.append(time.perf_counter() - start)
    pace.masks.append(sum(map(len, batches)))


def random_masks(topology: Topology, count: int, rng: np.random.Generator) -> Iterator[BoolArray]:
    """One batch; each connection is kept by the toss of a coin."""
    yield rng.random((count, topology.size)) < 0.5


def neighbours(topology: Topology, count: int, rng: np.random.Generator) -> Iterator[BoolArray]:
    """One batch of what lies one or two flips from a random mask, in turn."""
    masks = np.repeat(rng.random((1, topology.size)) < 0.5, count, axis=0)
    for index, mask in enumerate(masks):
        mask[rng.choice(topology.size, min(1 + index % 2, topology.size), replace=False)] ^= True
    yield masks


def converging(topology: Topology, count: int, rng: np.random.Generator) -> Iterator[BoolArray]:
    """Batches of a policy that makes up its mind: independent bits, whose logits grow from zero at an even rate."""
    logits = rng.standard_normal(topology.size)
    for start in range(0, count, POLICY_BATCH):
        keep = 1 / (1 + np.exp(-logits * SHARPEST * start / count))
        yield rng.random((min(POLICY_BATCH, count - start), topology.size)) < keep


KINDS: dict[str, Callable[[Topology, int, np.random.Generator], Iterator[BoolArray]]] = {
    "random": random_masks,
    "neighbours": neighbours,
    "converging": converging,
}


def unseen(batches: Iterable[BoolArray]) -> list[BoolArray]:
    """The batches without masks that came before, as a store hands them on; none is empty."""
    seen: set[bytes] = set()
    left = []
    for batch in batches:
        fresh = {mask.tobytes(): mask for mask in batch if mask.tobytes() not in seen}
        seen |= fresh.keys()
        if fresh:
            left.append(np.stack(list(fresh.values())))
    return left
