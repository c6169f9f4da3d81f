"""Processes that play runs: of one thread each, ended with their parent, and replaced where they die."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Self, TypeVar

THREADS = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"  # one of each in a process: a run a core

Given = TypeVar("Given")
Got = TypeVar("Got")


class Workers:
    """Processes that are spawned when they are first needed; a context manager, which ends them.

    Args:
        count: of processes.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(
        self,
        function: Callable[[Given], Got],
        jobs: Sequence[Given],
        update: Callable[[int], None],
        died: Callable[[Given], Got],
    ) -> list[Got]:
        """Call a function on every job, and return what it gave, in the jobs' order.

        Args:
            function: of a module, called in a process.
            jobs: that pickle.
            update: called with how many are done, after each.
            died: what there is of a job that ended its process, without an error that could be told.

        Raises:
            Exception: what the function raises; no further job begins then.
        """
        done: dict[int, Got] = {}
        try:
            self._run(function, dict(enumerate(jobs)), done, update)
        except BrokenProcessPool:  # which of several jobs it was cannot be told: one by one
            for number, job in enumerate(jobs):
                if number not in done:
                    try:
                        self._run(function, {number: job}, done, update)
                    except BrokenProcessPool:
                        done[number] = died(job)
                        update(len(done))
        return [done[number] for number in range(len(jobs))]

    def _run(
        self,
        function: Callable[[Given], Got],
        jobs: dict[int, Given],
        done: dict[int, Got],
        update: Callable[[int], None],
    ) -> None:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, initializer=_end_with_parent)
        try:
            with one_thread():  # processes begin when there are jobs for them
                futures = {self._pool.submit(function, job): number for number, job in jobs.items()}
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                update(len(done))
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when its parent is gone, however it went: nobody else would."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes that are started in the block compute on one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
