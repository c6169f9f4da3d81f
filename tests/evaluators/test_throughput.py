"""What `ads-gym bench` measures: the kinds of masks, the work that it counts, the machine's peaks."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from ads_gym.errors import InvalidValue
from ads_gym.evaluators.roofline import Work, count_work, measure_machine
from ads_gym.evaluators.throughput import KINDS, Pace, measure_evaluator, unseen
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


def test_a_converging_policy_makes_up_its_mind():
    batches = drawn("converging", 60)
    assert [len(batch) for batch in batches] == [8] * 7 + [4]
    first, *_, last = (np.abs(batch.mean(axis=0) - 0.5).mean() for batch in batches)  # 0.5: all of one mind
    assert first < 0.2 and last > 0.45


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_decision_has_masks(kind):
    batches = drawn(kind, 9, Topology((2,)))
    assert all(batch.shape[1] == 1 for batch in batches) and sum(map(len, batches)) == 9


def test_what_was_asked_for_before_is_not_asked_again():
    a, b, c = np.eye(3, dtype=bool)
    batches = unseen([np.stack([a, b, a]), np.stack([b, a]), np.stack([c, b])])
    assert [batch.tolist() for batch in batches] == [[a.tolist(), b.tolist()], [c.tolist()]]


def test_work_is_counted_whatever_the_threads():
    images, weight = torch.ones(2, 3, 8, 8), torch.ones(5, 3, 3, 3)

    def run():
        with torch.inference_mode():
            maps = functional.conv2d(images, weight, padding=1)
            return maps[:, 1:].relu_().flatten(1) @ torch.ones(256, 7)

    before = torch.get_num_threads()
    work = count_work(run)
    assert torch.get_num_threads() == before
    assert work.operations == 2 * (2 * 64 * 5 * 27) + 2 * (2 * 256 * 7)
    maps, part, ones, product = 4 * 640, 4 * 512, 4 * 256 * 7, 4 * 14
    read = 4 * 384 + 4 * 135 + maps, 2 * part, ones, part + ones + product  # a view reads nothing
    assert work.traffic == sum(read)


def test_rates_are_of_each_repeat():
    pace = Pace("random", 4, Work(8e9, 4e8), 1e10, [10, 30, 20], [1.0, 1.0, 1.0])
    assert (pace.rates, pace.rate, pace.operations, pace.traffic) == ([10, 30, 20], 20, 40e9, 2e9)


def test_a_machine_has_peaks():
    machine = measure_machine(torch.device("cpu"), calls=1)
    assert min(machine.product, machine.convolution, machine.bandwidth) > 1e8


@pytest.fixture(scope="module")
def found():
    return measure_evaluator(Task.load("digits"), "cpu", masks=6, repeats=2)


def test_a_task_is_measured(found):
    assert (found.device, found.decisions, found.valid, found.calibration) == ("cpu", 45, 500, 500)
    assert [pace.kind for pace in found.paces] == ["random", "neighbours", "converging"]
    for pace in found.paces:
        assert len(pace.masks) == len(pace.seconds) == 2 and 1 <= max(pace.masks) <= pace.counted <= 6
        assert 0 < pace.operations < found.machine.convolution and pace.traffic > 0
    assert found.peak > found.growth >= 0


def test_neighbours_share_work(found):
    random, neighbours, _ = (pace.work.operations / pace.needed for pace in found.paces)
    assert neighbours < random < 1.5  # statistics by source: all of a source's slices, so one mask may cost more


@pytest.mark.parametrize("masks", [0, -1, 100_001])
def test_a_number_of_masks_out_of_range_is_refused(masks):
    with pytest.raises(InvalidValue, match=f"masks must lie between 1 and 100,000, got {masks}"):
        measure_evaluator(Task.load("digits"), "cpu", masks)


@pytest.mark.gpu
def test_on_a_gpu_the_same_work_is_counted():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    here, there = (measure_evaluator(Task.load("digits"), device, 4, 1) for device in ("cpu", "cuda"))
    assert there.peak > 0 and there.device != "cpu"
    for a, b in zip(here.paces, there.paces, strict=True):
        assert a.needed == b.needed and b.work.operations == pytest.approx(a.work.operations, rel=0.5)
