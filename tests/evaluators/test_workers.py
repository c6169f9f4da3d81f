"""The evaluator's threads: one OpenMP and MKL thread each, bounded in number, with errors passed on."""

import re
import threading
import time

import pytest
import torch

from ads_gym.evaluators.workers import WorkerPool

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def numbers_of_threads(_=None):
    """torch's, OpenMP's and MKL's, as they are in the calling thread."""
    found = re.findall(r"(?:get_num_threads|omp_get_max_threads|mkl_get_max_threads)\(\) : (\d+)", information())
    return [int(number) for number in found]


def information():
    return torch.__config__.parallel_info()


def test_each_worker_computes_on_one_thread_and_nobody_else_does():
    pool = WorkerPool(CPU)
    for _ in range(20):
        assert all(set(numbers) == {1} for numbers in pool.map(numbers_of_threads, range(6), 3))
        assert set(numbers_of_threads()) == {3}
        found = []
        thread = threading.Thread(target=lambda found=found: found.extend(numbers_of_threads()))
        thread.start()
        thread.join()
        assert set(found) == {3}
        pool.close()


def test_results_are_in_order_and_no_more_jobs_run_at_once_than_asked_for():
    pool, lock, running, most = WorkerPool(CPU), threading.Lock(), set(), []

    def run(job):
        with lock:
            running.add(job)
            most.append(len(running))
        time.sleep(0.002 * (job % 3))
        with lock:
            running.remove(job)
        assert torch.is_inference_mode_enabled()
        return -job

    for workers in (1, 2, 3):
        most.clear()
        assert pool.map(run, range(20), workers) == [-job for job in range(20)]
        assert max(most) == workers
    assert pool.map(run, [], 3) == []


@pytest.mark.parametrize("wrong", [0, 1, 2, 3])  # so that it is now the first worker's, now the second's
def test_an_error_ends_the_batch_and_leaves_the_pool_usable(wrong):
    pool, done = WorkerPool(CPU), []

    def run(job):
        if job == wrong:
            raise ArithmeticError
        time.sleep(0.01)
        done.append(job)
        return job

    with pytest.raises(ArithmeticError):
        pool.map(run, range(100), 2)
    number = len(done)
    time.sleep(0.05)
    assert number == len(done) < 10  # nothing goes on behind the caller's back
    assert pool.map(str, range(3), 2) == ["0", "1", "2"]


def test_on_one_thread_the_caller_itself_computes():
    torch.set_num_threads(1)
    assert WorkerPool(CPU).map(lambda _: threading.current_thread(), range(2), 1) == [threading.current_thread()] * 2
