"""Operations per second of inherited evaluation, as a share of the peak rate of a large convolution.

Counted twice. Needed: what the masks have in closed form (2 for a multiply-add, times images), each by itself. Done:
what convolutions and products were carried out, counted operation by operation; the rest was shared between masks.
Done includes zeros: a kernel that makes two rows of 8 channels at once is a quarter zeros, the matrix of one in 4x4
pixels near half.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar
from unittest.mock import patch

import numpy as np
import torch
from speed.evaluator import problem, settings
from speed.stopwatch import Part, Stopwatch
from torch.nn import functional

from ads_gym.evaluators import decomposition, kernels
from ads_gym.evaluators.inherited import InheritedEvaluator
from ads_gym.evaluators.roofline import count_work
from ads_gym.evaluators.throughput import neighbours, time_evaluator
from ads_gym.topology import BoolArray


@dataclass(frozen=True)
class Share:
    """One kind of masks on one network; rates a second."""

    HEAD: ClassVar[str] = (
        "| masks | masks/s (range) | needed, GFLOP/s | done, GFLOP/s | a large convolution, GFLOP/s "
        "| needed / peak | done / peak | memory traffic / a large copy's |"
    )

    what: str
    rates: list[float]  # masks, repeat by repeat
    rate: float
    needed: float  # operations, were each mask computed by itself
    done: float  # operations in convolutions and products
    convolution: float  # operations, the peak in the same run
    product: float  # operations of a large matrix product
    traffic: float  # bytes that tensor operations read and wrote, as if no cache held any
    bandwidth: float  # bytes of a large copy

    def line(self) -> str:
        """As HEAD says."""
        rates = f"{self.rate:.3g} ({min(self.rates):.3g} - {max(self.rates):.3g})"
        numbers = " | ".join(f"{each / 1e9:.1f}" for each in (self.needed, self.done, self.convolution))
        shares = self.needed / self.convolution, self.done / self.convolution, self.traffic / self.bandwidth
        return f"| {self.what} | {rates} | {numbers} | {' | '.join(f'{share:.0%}' for share in shares)} |"


def measure(small: bool) -> list[Share | Part]:
    """A line for every kind of masks, on every network; then where the time of neighbours goes."""
    shares, profiles = [], []
    for name, setting in settings(small).items():
        evaluator, images = problem(setting).evaluator, setting.valid + setting.calibration
        roofline, timings, _ = time_evaluator(evaluator, images, masks=4 if small else 16, repeats=1 if small else 5)
        for timing in timings:
            needed = timing.needed / timing.counted * timing.rate
            peaks = roofline.convolution, roofline.product, timing.traffic, roofline.bandwidth
            what = f"{timing.kind}, {timing.counted} masks, {name}"
            shares.append(Share(what, timing.rates, timing.rate, needed, timing.operations, *peaks))
        (masks,) = neighbours(evaluator.topology, 4 if small else 32, np.random.default_rng(0))
        profiles += [Part(f"{name}: {part.name}", part.seconds, part.share) for part in profile(evaluator, masks)]
    return shares + profiles


WATCHED = [
    (functional, "conv2d", "convolutions and products"),
    (functional, "linear", "convolutions and products"),
    (kernels.Affine, "relu", "BatchNorm and ReLU"),
    (kernels.Norms, "__call__", "scale and shift from statistics"),
    (decomposition, "moments", "mean and variance"),
    (decomposition, "average_pool", "pooling"),
]


def profile(evaluator: InheritedEvaluator, masks: BoolArray) -> list[Part]:
    """Seconds by part, largest first, on one thread; evaluates the masks twice before."""
    operations, threads = count_work(lambda: evaluator.evaluate(masks)).operations, torch.get_num_threads()
    stopwatch = Stopwatch("sums of contributions, scores, Python")
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(1)
        evaluator.evaluate(masks)
        for owner, function, name in WATCHED:
            stack.enter_context(patch.object(owner, function, getattr(owner, function)))  # put back at the end
            stopwatch.watch(owner, function, name)
        stopwatch.lap()
        stopwatch.seconds.clear()
        evaluator.evaluate(masks)
        stopwatch.lap()
    total = sum(stopwatch.seconds.values())
    rates = {WATCHED[0][2]: f", {operations / stopwatch.seconds[WATCHED[0][2]] / 1e9:.0f} GFLOP/s"}
    largest = sorted(stopwatch.seconds.items(), key=lambda part: -part[1])
    return [Part(name + rates.get(name, ""), seconds, seconds / total) for name, seconds in largest]
