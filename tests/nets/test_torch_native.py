"""A sparse network is an ordinary torch module: whatever torch does with modules, it does with this one."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from marks import slow
from networks import KINDS, random_images, trained_looking
from torch import nn

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.images import network_input
from ads_gym.errors import InvalidValue
from ads_gym.nets import layout
from ads_gym.nets.from_torchvision import from_torchvision
from ads_gym.nets.scoring import infer, measure, score_logits
from ads_gym.nets.sparse import SparseDenseNet, build_sparse
from ads_gym.topology import Scope, Topology

ROUNDING = {"rtol": 0, "atol": 1e-5}


def sparse(config, scope=Scope.LAYERS, seed=0):
    mask = np.random.default_rng(seed).random(Topology(config.blocks, scope).size) < 0.5
    return build_sparse(Architecture(config, mask, scope), trained_looking(config))


def images_of(config, n):
    return network_input(random_images(config, n).images)


@pytest.fixture(params=KINDS, ids=str)
def network(request):
    return sparse(request.param)


@pytest.fixture
def images(network):
    return images_of(network.architecture.config, 5)


@pytest.fixture
def logits(network, images):
    with torch.no_grad():
        return network(images)


def test_its_state_has_torchvisions_names():
    models = pytest.importorskip("torchvision.models")
    theirs = models.densenet121()
    supernet = from_torchvision(theirs, (32, 32))
    full = Topology(supernet.config.blocks).dense()
    ours = build_sparse(Architecture(supernet.config, full), supernet)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    half = SparseDenseNet(Architecture(supernet.config, np.arange(len(full)) % 2 == 0), "meta")
    assert list(half.state_dict()) == list(theirs.state_dict())


def test_modes_and_copies(network, images, logits):
    assert network.train() is network and all(module.training for module in network.modules())
    assert network.eval() is network and not any(module.training for module in network.modules())
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert other.architecture == network.architecture
        assert torch.equal(other(images), logits)
        other.classifier.weight.data.zero_()
    assert torch.equal(network(images), logits)


def test_its_state_is_saved_and_loaded_as_any(network, images, logits):
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    other = SparseDenseNet(network.architecture).eval()
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert torch.equal(other(images), logits)


@pytest.mark.parametrize(("dtype", "off"), [(torch.float16, 0.02), (torch.bfloat16, 0.15)])
def test_half_precision(network, images, logits, dtype, off):
    half = network.to(dtype)
    assert half is network and {parameter.dtype for parameter in network.parameters()} == {dtype}
    got = network(images.to(dtype)).detach()
    assert got.dtype == dtype and float((got - logits).abs().max()) <= off * float(logits.abs().max())


def test_the_layout_in_memory_is_the_callers(network, images, logits):
    layouts = []
    network.features.get_submodule("norm5").register_forward_hook(lambda _, __, out: layouts.append(out))
    torch.testing.assert_close(network(images), logits, **ROUNDING)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(images.to(memory_format=torch.channels_last)), logits, **ROUNDING)
    plain, last = layouts
    assert plain.is_contiguous() and last.is_contiguous(memory_format=torch.channels_last)


def test_data_parallel_calls_it(network, images, logits):
    assert torch.equal(nn.DataParallel(network)(images), logits)


@pytest.mark.parametrize("backend", ["eager", slow("aot_eager")])
def test_it_compiles_into_one_graph(backend):
    network = sparse(KINDS[1])
    compiled = torch.compile(network, backend=backend, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for n in (2, 5):
            images = images_of(KINDS[1], n)
            torch.testing.assert_close(compiled(images), network(images), **ROUNDING)


@pytest.mark.slow
def test_compiled_it_learns():
    network, images = sparse(KINDS[1]).train(), images_of(KINDS[1], 6)
    plain = copy.deepcopy(network)
    torch.compile(network, backend="aot_eager", fullgraph=True)(images).square().sum().backward()
    plain(images).square().sum().backward()
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4 * float(theirs.grad.abs().max()))


@pytest.mark.parametrize("config", [KINDS[0], KINDS[4]], ids=str)
def test_it_is_exported_with_any_batch(config):
    network, batch = sparse(config, Scope.ALL), torch.export.Dim("batch")
    program = torch.export.export(network, (images_of(config, 2),), dynamic_shapes=({0: batch},), strict=True)
    with torch.no_grad():
        for n in (1, 7):
            images = images_of(config, n)
            torch.testing.assert_close(program.module()(images), network(images), **ROUNDING)


def test_it_is_traced_by_fx(network, images, logits):
    traced = torch.fx.symbolic_trace(network)
    assert torch.equal(traced(images), logits)
    assert torch.equal(pickle.loads(pickle.dumps(traced))(images), logits)
    wrong = torch.zeros(2, 9, 20, 20)
    for module in (network, traced):  # the check is in the trace
        with pytest.raises(InvalidValue, match=r"reads float images \[n, \d, h, w\], got \[2, 9, 20, 20\]"):
            module(wrong)


def test_an_observer_between_its_layers_sees_all_that_is_computed(network, images, logits):
    """As tools for attributions and statistics have it: `torch.fx.Interpreter` runs it node by node."""

    class Counter(torch.fx.Interpreter):
        convolutions = 0

        def call_module(self, target, *rest):
            self.convolutions += isinstance(self.fetch_attr(target), nn.Conv2d)
            return super().call_module(target, *rest)

    counter = Counter(torch.fx.symbolic_trace(network))
    assert torch.equal(counter.run(images), logits)
    assert counter.convolutions == sum(isinstance(module, nn.Conv2d) for module in network.modules())


@pytest.mark.parametrize("grad", [False, True])
def test_hooks_see_the_whole_batch_however_large(grad, monkeypatch):
    monkeypatch.setattr(layout, "CHUNK_BYTES", 1)
    network, seen = sparse(KINDS[0]), []
    for module in network.modules():
        module.register_forward_hook(lambda module, _, out: seen.append((module, len(out))))
    with torch.set_grad_enabled(grad):
        network(images_of(KINDS[0], 40))
    assert {count for _, count in seen} == {40} and len(seen) == len({id(module) for module, _ in seen})


def test_scoring_takes_few_images_at_a_time_and_says_the_same(network, monkeypatch):
    config, sizes = network.architecture.config, []
    labelled = random_images(config, 11)
    images = network_input(labelled.images)
    with torch.no_grad():
        expected = network(images)
    handle = network.register_forward_pre_hook(lambda _, given: sizes.append((len(given[0]), given[0].stride(1))))
    monkeypatch.setattr(layout, "CHUNK_BYTES", 4 * network.widest * 5)  # five images would fit, four are taken
    got = infer(network, images)
    torch.testing.assert_close(got, expected, **ROUNDING)
    assert sizes == [(4, 1), (4, 1), (3, 1)] and not got.requires_grad  # channels last: the next channel is beside
    sizes.clear()
    score = measure(network, labelled, chunk=6)
    assert [n for n, _ in sizes] == [4, 2, 4, 1]
    handle.remove()
    assert score == pytest.approx(score_logits(expected, labelled.labels).tolist(), abs=1e-5)


def test_one_channel_is_scored_in_the_fast_layout_too():
    """Its plain layout is channels last already by its strides, but for torch's convolutions."""
    config = DenseNetConfig((2, 2), 3, 4, "conv3", image_shape=(1, 8, 8))
    network, found = sparse(config), []
    network.features.get_submodule("norm5").register_forward_hook(
        lambda _, __, out: found.append(out.is_contiguous(memory_format=torch.channels_last))
    )
    infer(network, images_of(config, 4))
    assert found == [True]
