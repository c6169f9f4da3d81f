import numpy as np
import pytest
import torch

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.errors import DeviceUnavailable, InvalidValue
from ads_gym.nets import latency
from ads_gym.nets.cost import CostTable
from ads_gym.nets.folded import FoldedDenseNet
from ads_gym.nets.latency import Latency, Spread, measure_latency
from ads_gym.nets.sparse import SparseDenseNet
from ads_gym.topology import Scope

CONFIG = DenseNetConfig((6, 6), 8, 16, "conv3", image_shape=(1, 16, 16))
TABLE = CostTable(CONFIG, Scope.ALL)
CHAIN = Architecture(CONFIG, TABLE.topology.chain(), Scope.ALL)


@pytest.mark.parametrize(("folded", "kind"), [(True, FoldedDenseNet), (False, SparseDenseNet)])
def test_dense_and_sparse_take_turns_after_a_warm_up(folded, kind, monkeypatch):
    calls = []
    forward = kind.forward

    def logged(network, images):
        calls.append((network.architecture.mask.all(), images.shape, torch.is_grad_enabled(), network.training))
        return forward(network, images)

    monkeypatch.setattr(kind, "forward", logged)
    measured = measure_latency(CHAIN, 32, folded=folded, repeats=7)
    shape = torch.Size((32, 1, 16, 16))
    assert calls == [(dense, shape, False, False) for _ in range(7 + latency.WARM_UP) for dense in (True, False)]
    assert (measured.batch, measured.folded, measured.repeats, measured.device) == (32, folded, 7, "cpu")
    assert measured.threads == torch.get_num_threads()
    assert measured.relative_macs == pytest.approx(TABLE.least_macs / TABLE.dense_macs)
    for spread in (measured.dense, measured.sparse, measured.ratio):
        assert 0 < spread.low <= spread.median <= spread.high
    assert measured.ratio.median > 1.2


def test_time_is_limited_to_five_repeats_and_more(monkeypatch):
    told, calls, forward = [], [], FoldedDenseNet.forward
    monkeypatch.setattr(FoldedDenseNet, "forward", lambda self, images: calls.append(self) or forward(self, images))
    measured = measure_latency(CHAIN, 1, max_seconds=1e-9, progress=lambda *counts: told.append(counts))
    assert measured.repeats == latency.FEWEST == len(told) and told == [(done, 5) for done in range(1, 6)]
    assert len(calls) == 2 * (1 + latency.FEWEST)
    assert measure_latency(CHAIN, 1, repeats=2, max_seconds=1e-9).repeats == 2
    told.clear()
    measured = measure_latency(CHAIN, 1, repeats=9, max_seconds=600, progress=lambda *counts: told.append(counts))
    assert measured.repeats == 9 and told == [(done, 9) for done in range(1, 10)]


def test_a_spread_is_median_and_percentiles():
    assert Spread.of(np.arange(101.0)) == Spread(50.0, 10.0, 90.0)


@pytest.mark.parametrize(
    ("median", "faster", "says"),
    [
        (0.98, 0.4, "No gain at batch 64"),
        (1.0, 0.5, "No gain"),
        (1.3, 0.7, "No certain gain at batch 64: the sparse network was faster in 70%"),
        (1.3, 0.95, ""),
    ],
)
def test_it_says_plainly_when_there_is_no_gain(median, faster, says):
    time = Spread(1.0, 0.9, 1.1)
    told = Latency(64, True, "cpu", 1, 30, 0.5, time, time, Spread(median, 0.5, 2.0), faster).verdict
    assert told.startswith(says) and bool(told) == bool(says)


def test_repeats_are_counted_one_by_one(monkeypatch):
    seconds = np.array([[2.0, 1.0]] * 3 + [[1.0, 2.0]])
    monkeypatch.setattr(latency, "_time_in_turn", lambda *_: seconds)
    measured = measure_latency(CHAIN, 1, repeats=4)
    assert measured.faster == 0.75 and measured.ratio.median == 2.0 and measured.dense.low == pytest.approx(1.3)


@pytest.mark.parametrize("bad", [{"batch": 0}, {"batch": 4_097}, {"repeats": 0}, {"repeats": -1}, {"device": "gpu"}])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(InvalidValue, match=str(next(iter(bad.values())))):
        measure_latency(CHAIN, **bad)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_device_is_told():
    with pytest.raises(DeviceUnavailable, match="cuda"):
        measure_latency(CHAIN, device="cuda")


def test_a_batch_without_memory_is_told(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(latency, "_time_in_turn", full)
    with pytest.raises(InvalidValue, match="batch of 9"):
        measure_latency(CHAIN, 9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_is_waited_for():
    few, many = (measure_latency(CHAIN, batch, device="cuda") for batch in (1, 4_096))
    assert few.device == torch.cuda.get_device_name() and many.dense.median > 2 * few.dense.median
