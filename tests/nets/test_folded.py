import numpy as np
import pytest
import torch
from marks import slow
from networks import KINDS, WIDE, random_images, trained_looking
from torch import nn

from ads_gym.architecture import Architecture
from ads_gym.data.images import network_input
from ads_gym.errors import InvalidValue
from ads_gym.nets import layout
from ads_gym.nets.folded import fold
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.topology import Scope, Topology


def masks_of(config, scope):
    size = Topology(config.blocks, scope).size
    return [np.ones(size, bool), np.zeros(size, bool), *(np.random.default_rng(0).random((3, size)) < 0.5)]


def hard(config):
    """A supernet whose BatchNorms turn channels over, switch them off, and nearly do."""
    supernet = trained_looking(config)
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.weight[::3] *= -1
                module.weight[1::4] = 0
                module.weight[2::5] = 1e-42
    return supernet


def images_of(config, n, dtype=torch.float32):
    return network_input(random_images(config, n).images, dtype)


@pytest.mark.parametrize("config", KINDS, ids=str)
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("make", [trained_looking, hard])
def test_folded_says_what_the_network_says(config, scope, make):
    supernet = make(config)
    for mask in masks_of(config, scope):
        network = build_sparse(Architecture(config, mask, scope), supernet)
        for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
            images, reference = images_of(config, 5, dtype), network.to(dtype)
            with torch.no_grad():
                expected = reference(images)
                got = fold(reference)(images)
            scale = max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(got, expected, rtol=0, atol=bound * scale)
        network.float()


@pytest.mark.parametrize("config", KINDS + WIDE, ids=str)
@pytest.mark.parametrize("brightness", [slow(0.3), 0.9])
def test_a_fold_is_as_exact_as_its_network_where_means_are_large_beside_deviations(config, brightness):
    """Bright images of low contrast: a channel's scale and shift are large and nearly cancel."""
    errors = []
    for seed in range(6):
        images = brightness + 0.1 * network_input(random_images(config, 40, seed).images)
        for mask in masks_of(config, Scope.LAYERS)[::2]:
            network = calibrate(build_sparse(Architecture(config, mask), trained_looking(config, seed)), images)
            with torch.no_grad():
                outputs = network(images), fold(network)(images)
                exact = network.double()(images.double())
            scale = max(1.0, float(exact.abs().max()))
            errors.append([float((output - exact).abs().max()) / scale for output in outputs])
    unfolded, folded = np.max(errors, axis=0)
    assert folded <= 2 * unfolded + 1e-6
    assert folded <= 1e-5 or brightness == 0.9  # where the network itself is off by more


def test_a_fold_has_no_batchnorm_learns_nothing_and_leaves_its_network_alone():
    config = KINDS[1]
    network = build_sparse(Architecture(config, masks_of(config, Scope.LAYERS)[2]), trained_looking(config)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = fold(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    images = random_images(config, 6)
    measured = measure(folded, images)
    assert network.training and all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    torch.testing.assert_close(measured.loss, measure(network, images).loss, rtol=1e-5, atol=1e-6)


def test_a_fold_follows_the_statistics_at_the_time_of_folding():
    config = KINDS[0]
    network = build_sparse(Architecture(config, masks_of(config, Scope.LAYERS)[2]), trained_looking(config))
    images, old = images_of(config, 9), fold(network)
    calibrate(network, images)
    with torch.no_grad():
        assert (old(images) - network(images)).abs().max() > 1e-2
        torch.testing.assert_close(fold(network)(images), network(images), rtol=0, atol=1e-5)


def test_images_of_another_size_are_refused():
    config = KINDS[0]
    folded = fold(build_sparse(Architecture(config, masks_of(config, Scope.LAYERS)[0]), trained_looking(config)))
    with pytest.raises(InvalidValue, match=r"\[n, 2, 17, 14\], got \[3, 2, 16, 14\]"):
        folded(torch.zeros(3, 2, 16, 14))


def test_chunks_say_what_the_whole_says(monkeypatch):
    config = KINDS[3]
    network = fold(build_sparse(Architecture(config, masks_of(config, Scope.LAYERS)[2]), trained_looking(config)))
    images, sizes, run = images_of(config, 11), [], network._logits

    def watched(part):
        sizes.append(len(part))
        return run(part)

    monkeypatch.setattr(network, "_logits", watched)
    with torch.no_grad():
        whole = network(images)
        monkeypatch.setattr(layout, "CHUNK_BYTES", 4 * network.widest * 5)  # five images would fit, four are taken
        torch.testing.assert_close(network(images), whole, rtol=0, atol=1e-5)
    assert sizes == [11, 4, 4, 3]


def test_it_computes_as_the_dense_network_does():
    """Unfolded and with every connection: the same bits in both modes, and the same gradients."""
    config = KINDS[3]
    network = build_sparse(Architecture(config, masks_of(config, Scope.LAYERS)[0]), trained_looking(config))
    dense, images = trained_looking(config), images_of(config, 7)
    assert torch.equal(network(images), dense(images))
    network.train(), dense.train()
    ours, theirs = network(images), dense(images)
    assert torch.equal(ours, theirs)
    ours.square().sum().backward(), theirs.square().sum().backward()
    for mine, other in zip(network.parameters(), dense.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)
    with torch.no_grad():
        assert torch.equal(network(images), dense(images))


@pytest.mark.parametrize("folded", [False, True])
def test_exports_with_any_batch(folded):
    config = KINDS[1]
    network = build_sparse(Architecture(config, masks_of(config, Scope.LAYERS)[2]), trained_looking(config))
    network = fold(network) if folded else network
    batch = torch.export.Dim("batch", min=1, max=4096)
    with torch.no_grad():
        program = torch.export.export(network, (images_of(config, 2),), dynamic_shapes=({0: batch},))
        for n in (1, 3, 64):
            images = images_of(config, n)
            torch.testing.assert_close(program.module()(images), network(images), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("folded", [False, True])
def test_compiles(folded):
    config = KINDS[0]
    network = build_sparse(Architecture(config, masks_of(config, Scope.LAYERS)[2]), trained_looking(config))
    network = fold(network) if folded else network
    compiled = torch.compile(network, dynamic=True)
    with torch.no_grad():
        for n in (2, 5):
            images = images_of(config, n)
            torch.testing.assert_close(compiled(images), network(images), rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_folds_on_cuda_too():
    config = KINDS[3]
    network = build_sparse(Architecture(config, masks_of(config, Scope.LAYERS)[2]), trained_looking(config))
    images = images_of(config, 9)
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(fold(network.cuda())(images.cuda()).cpu(), expected, rtol=0, atol=1e-3)
        torch.testing.assert_close(fold(network.cpu()).cuda()(images.cuda()).cpu(), expected, rtol=0, atol=1e-3)
