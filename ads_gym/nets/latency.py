"""Measure the latency of a sparse network and of the dense network of its config."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, InstanceOf
from torch import Tensor, nn

from ads_gym.architecture import Architecture
from ads_gym.devices import resolve_device
from ads_gym.errors import InvalidValue
from ads_gym.limits import check_memory
from ads_gym.nets.cost import map_bytes, relative_macs
from ads_gym.nets.folded import fold
from ads_gym.nets.scoring import infer
from ads_gym.nets.sparse import SparseDenseNet
from ads_gym.records import TimedBatch, checked

WARM_UP = 3  # untimed calls of each: they choose algorithms and allocate memory
FEWEST = 5  # repeats, however long they take
MAX_REPEATS = 10_000


@dataclass(frozen=True)
class Spread:
    """Median and percentiles of repeated measurements."""

    median: float
    low: float  # 10th percentile
    high: float  # 90th percentile

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Spread":
        """The spread of at least one value."""
        low, median, high = np.percentile(values, [10, 50, 90])
        return cls(float(median), float(low), float(high))


@dataclass(frozen=True)
class Latency:
    """Latency of the dense and the sparse network on the same images."""

    batch: int  # images
    folded: bool  # both networks, or neither
    device: str  # "cpu", or the GPU's name
    threads: int  # that one convolution may use on the CPU
    repeats: int  # that there were
    relative_macs: float  # of the sparse network
    dense: Spread  # seconds for a batch
    sparse: Spread
    ratio: Spread  # dense / sparse, repeat by repeat
    faster: float  # share of the repeats in which the sparse network was faster, 0 to 1

    @property
    def verdict(self) -> str:
        """A sentence if the sparse network was not faster in nine repeats of ten; else empty."""
        if self.ratio.median <= 1:
            return f"No gain at batch {self.batch}: the sparse network is not faster."
        if self.faster < 0.9:
            return (
                f"No certain gain at batch {self.batch}: the sparse network was faster in {self.faster:.0%} of the "
                "repeats. More of them, or a quieter machine, would tell."
            )
        return ""


@checked
def measure_latency(
    architecture: InstanceOf[Architecture],
    batch: TimedBatch = 64,
    *,
    folded: bool = True,
    device: str = "cpu",
    repeats: Annotated[int, Field(ge=1, le=MAX_REPEATS)] = 30,
    max_seconds: Annotated[float, Field(gt=0)] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Latency:
    """Measure the time of a batch through the sparse network of `architecture` and the dense one of its config.

    Both are of the same class, in float32, with random weights (the time does not depend on them), and take turns.

    Args:
        architecture: what the sparse network keeps.
        batch: images, 1 to 4,096.
        folded: fold both networks, else take both as they are, in eval mode.
        device: "cpu", "cuda", "cuda:N" or "auto".
        repeats: timed calls of each, 1 to 10,000, after three untimed ones.
        max_seconds: after which no more calls are made, but one untimed and five timed ones, if so many are asked for;
            None: no limit.
        progress: called after each repeat with those done and their number, as far as that can be told.

    Raises:
        InvalidValue: a number out of range, no such kind of device, or not enough memory for the batch.
        DeviceUnavailable: a device that this machine lacks.
    """
    check_memory(f"a batch of {batch} images", batch * map_bytes(architecture.config))
    where = resolve_device(device)
    try:
        with torch.random.fork_rng(devices=[]):  # leaves torch's random numbers as they are
            networks = [SparseDenseNet(each).to(where).eval() for each in (architecture.dense, architecture)]
        generator = torch.Generator(where).manual_seed(0)
        shape = batch, *architecture.config.image_shape
        images = torch.rand(shape, generator=generator, device=where, dtype=torch.float32) * 2 - 1
        ready = [fold(each) if folded else each for each in networks]
        seconds = _time_in_turn(ready, images, repeats, math.inf if max_seconds is None else max_seconds, progress)
    except RuntimeError as error:
        is_known = isinstance(error, torch.OutOfMemoryError) or "memory" in str(error) or "overflow" in str(error)
        if not is_known:  # torch has an error class of its own only for a GPU
            raise
        raise InvalidValue(
            f"there is no memory on {where} for this network and a batch of {batch}: take a smaller one."
        ) from error
    ratios = seconds[:, 0] / seconds[:, 1]
    return Latency(
        batch=batch,
        folded=folded,
        device=torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        threads=torch.get_num_threads(),
        repeats=len(seconds),
        relative_macs=relative_macs(architecture),
        dense=Spread.of(seconds[:, 0]),
        sparse=Spread.of(seconds[:, 1]),
        ratio=Spread.of(ratios),
        faster=float((ratios > 1).mean()),
    )


@torch.inference_mode()
def _time_in_turn(
    networks: Sequence[nn.Module],
    images: Tensor,
    repeats: int,
    max_seconds: float,
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.float64]:
    """float64 [repeats, networks]: seconds of each call."""
    began = time.perf_counter()

    def wait() -> None:  # a CUDA call returns before its work is done
        if images.is_cuda:
            torch.cuda.synchronize(images.device)

    def timed(network: nn.Module) -> float:
        wait()
        start = time.perf_counter()
        infer(network, images)
        wait()
        return time.perf_counter() - start

    def is_late() -> bool:
        return time.perf_counter() - began > max_seconds

    for _ in range(WARM_UP):
        for network in networks:
            timed(network)
        if is_late():
            break
    seconds: list[list[float]] = []
    while len(seconds) < repeats and (len(seconds) < FEWEST or not is_late()):
        seconds.append([timed(network) for network in networks])
        if progress is not None:
            left = (max_seconds - (time.perf_counter() - began)) / sum(seconds[-1])
            progress(len(seconds), min(repeats, max(FEWEST, len(seconds) + max(0, math.ceil(min(left, repeats))))))
    return np.array(seconds)
