"""What a machine does at best, and what a computation asks of it: both measured, neither looked up."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Machine:
    """The best of several calls in float32, on all threads that torch may use."""

    product: float  # operations a second (2 for a multiply-add) in a large matrix product
    convolution: float  # and in a large 3x3 convolution
    bandwidth: float  # bytes a second, read and written, in a large copy


@dataclass(frozen=True)
class Work:
    """What a computation asked of a machine."""

    operations: float  # in convolutions and matrix products, 2 for a multiply-add, those with zeros included
    traffic: float  # bytes that its tensor operations read and wrote, as if no cache held any


def measure_machine(device: torch.device, calls: int = 4) -> Machine:
    """Takes about a second on a CPU, and 100 MB.

    Args:
        device: where.
        calls: timed ones of each kind; one untimed call goes before.
    """
    large = device.type == "cuda"
    size, images, copied = (8192, 512, 1 << 28) if large else (1024, 8, 1 << 23)
    matrix = torch.randn(size, size, device=device)
    maps = torch.randn(images, 128, 32, 32, device=device).to(memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3, device=device).to(memory_format=torch.channels_last)
    source = torch.zeros(copied, device=device)
    target = torch.zeros_like(source)

    def rate(work: float, run: Callable[[], Tensor]) -> float:
        run()
        return work / min(_seconds(run, device) for _ in range(calls))

    with torch.inference_mode():
        return Machine(
            rate(2.0 * size**3, lambda: matrix @ matrix),
            rate(2.0 * 9 * 128 * maps.numel(), lambda: functional.conv2d(maps, weight, padding=1)),
            rate(2.0 * source.nbytes, lambda: target.copy_(source)),
        )


def count_work(run: Callable[[], object]) -> Work:
    """The work of a call, counted operation by operation while it runs on one thread of the CPU, or on a GPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a mode sees its own thread only
    try:
        with _Traffic() as traffic, FlopCounterMode(display=False) as operations:
            run()
    finally:
        torch.set_num_threads(threads)
    return Work(float(operations.get_total_flops()), float(traffic.bytes))


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that this process ever held, on a GPU in tensors. 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the sizes of what every operation reads and writes; views move nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(each.nbytes for each in tree_leaves((args, kwargs, result)) if isinstance(each, Tensor))
        return result


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one call, its work on a GPU included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
