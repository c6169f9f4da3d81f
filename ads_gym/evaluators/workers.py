"""A pool of threads, each of which computes on one OpenMP thread."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import TypeVar

import torch

from ads_gym.torch_state import use_one_thread

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerPool:
    """Runs jobs on as many threads as torch may use in the calling thread; started at the first need, until `close`.

    On a GPU, and where torch may use one thread only, jobs run in the calling thread.

    Args:
        device: on which jobs compute.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._lock = device, Lock()
        self._executor: ThreadPoolExecutor | None = None

    def map(self, run: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> list[Result]:
        """The results of `run` on each job, in inference mode, in order; at most `workers` jobs at once."""
        if self.threads == 1:
            with torch.inference_mode():
                return [run(job) for job in jobs]
        waiting, results = deque(enumerate(jobs)), dict[int, Result]()

        def work() -> None:
            with torch.inference_mode():
                while waiting:
                    try:
                        index, job = waiting.popleft()
                    except IndexError:  # another worker was faster
                        return
                    results[index] = run(job)

        futures = self._submit(work, min(workers, len(jobs)))
        try:
            wait(futures, return_when=FIRST_EXCEPTION)  # in whichever worker
        finally:
            waiting.clear()  # after an error or an interrupt, the other workers end after their present job
            wait(futures)
        for future in futures:
            future.result()
        return [results[index] for index in range(len(jobs))]

    @property
    def threads(self) -> int:
        """Most jobs that are worth running at once."""
        return 1 if self._device.type == "cuda" else torch.get_num_threads()

    def close(self) -> None:
        """End the threads; the next `map` starts new ones."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()

    def _submit(self, work: Callable[[], None], times: int) -> list[Future[None]]:
        with self._lock:
            if self._executor is None:
                limit = max(self.threads, os.cpu_count() or 1)  # threads are started one by one, as they are needed
                self._executor = ThreadPoolExecutor(limit, "ads-gym", initializer=use_one_thread)
            return [self._executor.submit(work) for _ in range(times)]
