"""What `ads-gym throughput` measures: the kinds of masks, the work that is counted, the peak rates."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from ads_gym.data.splits import Split
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.roofline import Work, count_work, measure_roofline
from ads_gym.evaluators.throughput import KINDS, Timing, drop_repeated, measure_throughput
from ads_gym.tasks import Task
from ads_gym.topology import Topology

TOPOLOGY = Topology((6, 6, 6))


def drawn(kind, count=64, topology=TOPOLOGY):
    return list(KINDS[kind](topology, count, np.random.default_rng(0)))


def test_random_masks_keep_half():
    (masks,) = drawn("random")
    assert masks.shape == (64, 45) and abs(masks.mean() - 0.5) < 0.05


def test_neighbours_lie_one_or_two_flips_from_one_parent():
    (masks,) = drawn("neighbours")
    parent = masks.mean(axis=0) > 0.5
    assert (masks != parent).sum(axis=1).tolist() == [1, 2] * 32


def test_a_converging_policy_becomes_deterministic():
    batches = drawn("converging", 60)
    assert [len(batch) for batch in batches] == [8] * 7 + [4]
    first, *_, last = (np.abs(batch.mean(axis=0) - 0.5).mean() for batch in batches)  # 0.5: all the same
    assert first < 0.2 and last > 0.45


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_decision_has_masks(kind):
    batches = drawn(kind, 9, Topology((2,)))
    assert all(batch.shape[1] == 1 for batch in batches) and sum(map(len, batches)) == 9


def test_repeated_masks_are_dropped():
    a, b, c = np.eye(3, dtype=bool)
    batches = drop_repeated([np.stack([a, b, a]), np.stack([b, a]), np.stack([c, b])])
    assert [batch.tolist() for batch in batches] == [[a.tolist(), b.tolist()], [c.tolist()]]


def test_work_is_counted_whatever_the_threads():
    images, weight = torch.ones(2, 3, 8, 8), torch.ones(5, 3, 3, 3)

    def run():
        with torch.inference_mode():
            maps = functional.conv2d(images, weight, padding=1)
            return maps[:, 1:].relu_().flatten(1) @ torch.ones(256, 7)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        work = count_work(run)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert work.operations == 2 * (2 * 64 * 5 * 27) + 2 * (2 * 256 * 7)
    maps, part, ones, product = 4 * 640, 4 * 512, 4 * 256 * 7, 4 * 14
    read = 4 * 384 + 4 * 135 + maps, 2 * part, ones, part + ones + product  # a view reads nothing
    assert work.traffic == sum(read)


def test_rates_are_of_each_repeat():
    timing = Timing("random", 4, Work(8e9, 4e8), 1e10, [10, 30, 20], [1.0, 1.0, 1.0])
    assert (timing.rates, timing.rate, timing.operations, timing.traffic) == ([10, 30, 20], 20, 40e9, 2e9)


def test_a_machine_has_peak_rates():
    roofline = measure_roofline(torch.device("cpu"), calls=1)
    assert min(roofline.product, roofline.convolution, roofline.bandwidth) > 1e8


def measure(device="cpu", masks=6, repeats=2):
    task = Task.load("digits")
    images = task.calibration(), task.images(Split.VALID)
    return measure_throughput(task.supernet(), *images, device, masks, repeats)


@pytest.fixture(scope="module")
def measured():
    return measure()


def test_a_task_is_measured(measured):
    assert (measured.device, measured.decisions, measured.valid, measured.calibration) == ("cpu", 45, 500, 500)
    assert [timing.kind for timing in measured.timings] == ["random", "neighbours", "converging"]
    for timing in measured.timings:
        assert len(timing.masks) == len(timing.seconds) == 2 and 1 <= max(timing.masks) <= timing.counted <= 6
        assert 0 < timing.operations < measured.roofline.convolution and timing.traffic > 0
    assert measured.peak_memory > measured.added_memory >= 0


def test_neighbours_share_work(measured):
    random, neighbours, _ = (timing.work.operations / timing.needed for timing in measured.timings)
    assert neighbours < random < 1.5  # statistics by source: all of a source's slices, so one mask may cost more


@pytest.mark.parametrize("masks", [0, -1, 2**16 + 1])
def test_a_number_of_masks_out_of_range_is_refused(masks):
    with pytest.raises(InvalidValue, match=rf"masks should be .*, got {masks}"):
        measure(masks=masks)


@pytest.mark.gpu
def test_on_a_gpu_the_same_work_is_counted():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    here, there = (measure(device, 4, 1) for device in ("cpu", "cuda"))
    assert there.peak_memory > 0 and there.device != "cpu"
    for a, b in zip(here.timings, there.timings, strict=True):
        assert a.needed == b.needed and b.work.operations == pytest.approx(a.work.operations, rel=0.5)
