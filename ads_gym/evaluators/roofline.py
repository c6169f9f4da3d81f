"""Measure the machine's peak rates, and count the operations and memory traffic of a computation (a roofline model)."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ads_gym.records import checked
from ads_gym.torch_state import isolated


@dataclass(frozen=True)
class Roofline:
    """Peak rates in float32, on all threads that torch may use: the best of several calls."""

    product: float  # operations per second (2 for a multiply-add) of a large matrix product
    convolution: float  # the same of a large 3x3 convolution
    bandwidth: float  # bytes per second, read and written, of a large copy


@dataclass(frozen=True)
class Work:
    """Operations and memory traffic of a computation."""

    operations: float  # in convolutions and matrix products, 2 for a multiply-add, those with zeros included
    traffic: float  # bytes that tensor operations read and wrote, as if there were no cache


def measure_roofline(device: torch.device, calls: int = 4) -> Roofline:
    """Measure the peak rates of a device; takes about a second and 100 MB on a CPU.

    Args:
        device: to be measured.
        calls: timed calls of each kind, after an untimed one.
    """
    is_gpu = device.type == "cuda"
    size, images, copied = (8192, 512, 1 << 28) if is_gpu else (1024, 8, 1 << 23)
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=torch.float32, generator=generator)

    def rate(work: float, run: Callable[[], Tensor]) -> float:
        run()
        return work / min(_seconds(run, device) for _ in range(calls))

    with isolated(device), torch.inference_mode():
        matrix = random(size, size)
        maps = random(images, 128, 32, 32).to(memory_format=torch.channels_last)
        weight = random(128, 128, 3, 3).to(memory_format=torch.channels_last)
        source = torch.zeros(copied, device=device, dtype=torch.float32)
        target = torch.zeros_like(source)
        return Roofline(
            rate(2.0 * size**3, lambda: matrix @ matrix),
            rate(2.0 * 9 * 128 * maps.numel(), lambda: functional.conv2d(maps, weight, padding=1)),
            rate(2.0 * source.nbytes, lambda: target.copy_(source)),
        )


@checked
def count_work(run: Callable[[], object]) -> Work:
    """Count the work of a call, operation by operation; it runs on one thread of the CPU, or on a GPU.

    Only the calling thread's operations are counted. Sets torch's number of threads to 1 meanwhile.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so an evaluator computes in the calling thread
    try:
        with _Traffic() as traffic, FlopCounterMode(display=False) as operations:
            run()
    finally:
        torch.set_num_threads(threads)
    return Work(float(operations.get_total_flops()), float(traffic.bytes))


@checked
def peak_memory(device: torch.device) -> int:
    """Most bytes that this process has held so far, on a GPU in tensors. 0 if the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class _Traffic(TorchFunctionMode):
    """Sums the bytes that every torch function reads and writes; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        read, written = list(_tensors((args, kwargs))), list(_tensors(result))
        is_in_place = func.__name__.endswith("_") and not func.__name__.endswith("__")
        storages = {tensor.untyped_storage().data_ptr() for tensor in read}
        is_view = not is_in_place and all(tensor.untyped_storage().data_ptr() in storages for tensor in written)
        if not is_view:
            self.bytes += sum(tensor.nbytes for tensor in (*read, *written))
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one call, its work on a GPU included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
