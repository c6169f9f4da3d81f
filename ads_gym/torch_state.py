"""Run torch code so that its result does not depend on what the calling program has set in torch, and restore that.

What belongs to one thread (autocast, inference mode, grad mode) is set in the thread that computes. What belongs to the
whole process (oneDNN, float32 precision) is set by the first that enters and restored by the last that leaves.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import torch

from ads_gym.errors import ForkedProcess

FULL = ("ieee", "none")  # float32 precisions that round nothing beyond float32
_backends: Any = torch.backends  # typed as plain modules, and most of their attributes are properties


@contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """Compute on `device` in full float32 precision, without autocast, outside inference mode and without gradients.

    Default dtype and default device are not set: code inside must name both wherever it makes a tensor.

    A process-wide setting that another thread changes meanwhile takes effect at once, for both, until the next
    computation is entered; the value set last by others is the one that remains at the end. Setting exactly what is
    set here is not noticed. On CUDA, reading `torch.backends.cudnn.allow_tf32` meanwhile raises torch's error about
    mixed APIs.

    Raises:
        ForkedProcess: this process was forked from one in which torch had computed on several threads or on a GPU.
    """
    check_process()
    _process.note_use(device)
    no_autocast = torch.autocast(device.type, enabled=False)
    with _SETTINGS[device.type].held(), torch.inference_mode(False), torch.no_grad(), no_autocast:
        yield


def check_process() -> None:
    """Raise in a process in which torch would hang. `isolated` does it too.

    Raises:
        ForkedProcess: this process was forked from one in which torch had computed on several threads or on a GPU.
    """
    if _process.is_broken:
        raise ForkedProcess(
            "this process was forked from one in which torch had already computed, and would hang: start processes "
            'by spawn, as multiprocessing.get_context("spawn") or vector_kwargs={"context": "spawn"}.'
        )


def use_one_thread() -> None:
    """Make torch compute on one thread in the calling thread, for good, and change no other thread's number.

    `torch.set_num_threads` would also change it for every thread that uses torch for the first time afterwards.
    """
    from threadpoolctl import threadpool_limits

    torch.get_num_threads()  # a thread takes over the process's number at its first use of torch: have that over with
    threadpool_limits(1, user_api="openmp")
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    with suppress(OSError, AttributeError):  # a torch without MKL
        # MKL has a number of its own for each thread, if torch.set_num_threads was called before.
        ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local(1)


class Setting(Protocol):
    """A process-wide setting of torch."""

    def is_right(self) -> bool:
        """Whether it is as evaluation needs it."""

    def own(self) -> Any:
        """Its value, to be given to `write`."""

    def write(self, value: Any) -> None:
        """Set it."""

    right: Any  # the value that evaluation needs


class Switch:
    """A setting that is an attribute of a module.

    Args:
        module: that has it.
        name: of the attribute.
        right: the value that evaluation needs.
    """

    def __init__(self, module: Any, name: str, right: Any) -> None:
        self._module, self._name, self.right = module, name, right

    def is_right(self) -> bool:
        """See `Setting`."""
        return bool(self.own() == self.right)

    def own(self) -> Any:
        """See `Setting`."""
        return getattr(self._module, self._name)

    def write(self, value: Any) -> None:
        """See `Setting`."""
        setattr(self._module, self._name, value)


class DeterministicMode:
    """`torch.use_deterministic_algorithms`, which on CUDA raises errors where an operation has no such algorithm."""

    right = 0

    def is_right(self) -> bool:
        """See `Setting`."""
        return torch.get_deterministic_debug_mode() == self.right

    def own(self) -> Any:
        """See `Setting`."""
        return torch.get_deterministic_debug_mode()

    def write(self, value: Any) -> None:
        """See `Setting`."""
        torch.set_deterministic_debug_mode(value)


class Precision:
    """The float32 precision of one operation of a backend.

    An operation without a precision of its own has its backend's; a backend without one has the process's.

    Args:
        operation: has the attribute `fp32_precision`.
        read_backend: gives the precision of the whole backend.
        write_backend: sets it.
    """

    right = "ieee"

    def __init__(self, operation: Any, read_backend: Callable[[], str], write_backend: Callable[[str], object]) -> None:
        self._operation, self._read_backend, self._write_backend = operation, read_backend, write_backend

    def is_right(self) -> bool:
        """See `Setting`."""
        return self._operation.fp32_precision in FULL

    def own(self) -> Any:
        """The operation's own precision, "none" if it has none. Asked only when what it reads as is not full.

        torch tells no difference between own and inherited values: so the ones above are taken away for a moment.
        """
        seen, process = self._operation.fp32_precision, _backends.fp32_precision
        _backends.fp32_precision = "none"
        backend = self._read_backend()
        self._write_backend("none")
        _backends.fp32_precision = "ieee"
        own = "none" if self._operation.fp32_precision == "ieee" else seen
        self._write_backend(backend)
        _backends.fp32_precision = process
        return own

    def write(self, value: Any) -> None:
        """See `Setting`."""
        self._operation.fp32_precision = value


class HeldSettings:
    """Process-wide settings, set while at least one computation is under way.

    Args:
        settings: all of one kind of device.
    """

    def __init__(self, settings: Sequence[Setting]) -> None:
        self._settings, self._lock = settings, Lock()
        self._computations, self._before = 0, dict[Setting, Any]()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Set what is not right; the last computation that leaves restores what nobody has changed since."""
        with self._lock:
            self._computations += 1
            for setting in self._settings:
                if not setting.is_right():
                    self._before[setting] = setting.own()
                    setting.write(setting.right)
        try:
            yield
        finally:
            with self._lock:
                self._computations -= 1
                if not self._computations:
                    self._restore()

    def _restore(self) -> None:
        for setting, value in self._before.items():
            if setting.is_right():
                setting.write(value)
        self._before.clear()


class Process:
    """Whether torch can still compute here: the threads that it starts, and a GPU, do not survive a fork."""

    def __init__(self) -> None:
        self._has_threads = self.is_broken = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def note_use(self, device: torch.device) -> None:
        """Remember whether a computation on `device` would break processes forked later."""
        self._has_threads = self._has_threads or device.type == "cuda" or torch.get_num_threads() > 1

    def _after_fork(self) -> None:
        self.is_broken = self._has_threads


def _mkldnn(operation: str) -> Precision:
    backend = _backends.mkldnn
    return Precision(  # `mkldnn.fp32_precision = ...` sets the whole process's
        getattr(backend, operation),
        lambda: str(backend.fp32_precision),
        lambda value: backend.set_flags(_fp32_precision=value),
    )


def _cuda(operation: Any) -> Precision:
    backend = _backends.cudnn
    return Precision(
        operation, lambda: str(backend.fp32_precision), lambda value: setattr(backend, "fp32_precision", value)
    )


_process = Process()
_SETTINGS = {
    "cpu": HeldSettings([Switch(_backends.mkldnn, "enabled", True), _mkldnn("conv"), _mkldnn("matmul")]),
    "cuda": HeldSettings([DeterministicMode(), _cuda(_backends.cudnn.conv), _cuda(_backends.cuda.matmul)]),
}
