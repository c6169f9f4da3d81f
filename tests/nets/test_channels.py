"""Bottleneck channels: sorting changes nothing, elimination is brute force's, and what narrower networks are."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from marks import slow
from networks import BN_SIZE, KINDS, random_images, trained_looking, trained_on_digits
from torch import nn
from torch.nn import functional

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.images import network_input
from ads_gym.data.splits import Split
from ads_gym.errors import InvalidValue
from ads_gym.nets.channels import sort_channels
from ads_gym.nets.cost import architecture_cost, dense_cost
from ads_gym.nets.densenet import Layer, Transition
from ads_gym.nets.folded import fold
from ads_gym.nets.from_torchvision import from_torchvision
from ads_gym.nets.repair import repair
from ads_gym.nets.scoring import measure
from ads_gym.nets.sensitivity import sensitivities
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.tasks import Task
from ads_gym.topology import Scope, Topology

SMALL = DenseNetConfig((2,), 2, 3, bottleneck=True, image_shape=(1, 4, 4), classes=3, bn_size=2)


def images_of(config, count=20, seed=0):
    return network_input(random_images(config, count, seed).images)


def narrow(supernet, config):
    """The network of a narrower config with the supernet's weights and every connection."""
    return build_sparse(Architecture(config, Topology(config.blocks).dense()), supernet)


@pytest.mark.parametrize("config", [config for config in KINDS if config.bottleneck], ids=str)
def test_a_network_with_sorted_channels_is_the_same_network(config):
    supernet, images = trained_looking(config), images_of(config)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    made = sort_channels(supernet, images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(made.supernet(images), supernet(images), rtol=1e-4, atol=1e-4)
    for width, order in zip(sum(config.bottleneck_channels, ()), made.orders, strict=True):
        assert sorted(each.part for each in order) == list(range(width))


def test_the_order_of_channels_is_that_of_brute_force():
    supernet, images = trained_looking(SMALL).double(), images_of(SMALL, 8).double()
    made = sort_channels(supernet, images)
    rises = sensitivities(supernet, images)
    read = {}
    network = narrow(supernet, SMALL)
    for number, layer in enumerate(network.features.denseblock1):
        layer.conv2.register_forward_pre_hook(lambda module, inputs, number=number: read.update({number: inputs[0]}))
    calibrate(network, images)
    for number, layer in enumerate(network.features.denseblock1):
        weight = layer.conv2.weight.detach().flatten(1).T
        rows = functional.unfold(read[number], 3, padding=1).transpose(1, 2).flatten(0, 1)
        rows = rows - rows.mean(0)
        penalty, cost = 1e-3 * (rows**2).sum(0).mean(), rises[f"features.denseblock1.denselayer{number + 1}.conv2"]

        def error(channels, weight=weight, rows=rows, penalty=penalty, cost=cost):
            kept = [9 * channel + pixel for channel in channels for pixel in range(9)]
            stacked = torch.cat([rows[:, kept], penalty.sqrt() * torch.eye(len(kept), dtype=torch.float64)])
            solution = torch.linalg.lstsq(stacked, torch.cat([rows @ weight, penalty.sqrt() * weight[kept]])).solution
            gone = penalty * (weight.square().sum(0) - weight[kept].square().sum(0))
            penalties = penalty * (solution - weight[kept]).square().sum(0) + gone
            return float(((rows[:, kept] @ solution - rows @ weight).square().sum(0) + penalties) @ cost) / len(rows)

        left = list(range(4))
        for each in made.orders[number]:
            errors = {channel: error([c for c in left if c != channel]) for channel in left}
            assert each.part == min(errors, key=errors.get)
            assert each.growth == pytest.approx(errors[each.part] - error(left), rel=1e-6, abs=1e-12)
            left.remove(each.part)


def test_sensitivities_are_squared_gradients_of_the_loss():
    supernet, images = trained_looking(SMALL).double(), images_of(SMALL, 5).double()
    labels = torch.tensor([0, 1, 2, 0, 1])
    found = sensitivities(supernet, images, labels)
    name = "features.denseblock1.denselayer2.conv2"
    kept = []
    handle = supernet.get_submodule(name).register_forward_hook(lambda module, inputs, output: kept.append(output))
    expected = torch.zeros(2, dtype=torch.float64)
    for image, label in zip(images, labels, strict=True):
        loss = functional.cross_entropy(supernet(image[None]), label[None])
        (gradient,) = torch.autograd.grad(loss, kept.pop())
        expected += gradient[0].square().sum((1, 2)) / (2 * len(images))
    handle.remove()
    torch.testing.assert_close(found[name], expected)
    layers = [f"features.denseblock1.denselayer{layer}.conv{number}" for layer in (1, 2) for number in (1, 2)]
    assert set(found) == {*layers, "classifier"}
    assert sensitivities(supernet, images).keys() == found.keys()  # without labels


@pytest.mark.parametrize("multiple", [1, 2, 3])
@pytest.mark.parametrize("share", [1.0, 0.8, 0.6])
def test_a_narrowed_config_has_the_most_that_fits(share, multiple):
    supernet = trained_looking(BN_SIZE)
    made = sort_channels(supernet, images_of(BN_SIZE))
    limit = int(share * dense_cost(BN_SIZE)[0])
    config = made.narrowed(limit, multiple)
    macs = dense_cost(config)[0]
    assert macs <= limit and config.fits_in(BN_SIZE)
    assert (config == BN_SIZE) == (macs == limit) == (share == 1.0)
    for layer, width in enumerate(config.widths or ()):
        assert width == 8 or (width % multiple == 0 and width >= multiple)
        if width < 8:  # another group does not fit
            assert macs + made.savings[layer] * min(multiple, 8 - width) > limit


def test_a_saving_is_what_a_channel_costs():
    made = sort_channels(trained_looking(BN_SIZE), images_of(BN_SIZE))
    for layer, saving in enumerate(made.savings):
        widths = [8] * 5
        widths[layer] -= 1
        assert dense_cost(BN_SIZE)[0] - dense_cost(dataclasses.replace(BN_SIZE, widths=tuple(widths)))[0] == saving


def test_repaired_it_reads_digits_and_beats_the_first_channels():
    supernet, task = trained_on_digits(bottleneck=True), Task.load("digits")
    images, valid = network_input(task.images(Split.TRAIN).images), task.images(Split.VALID)
    made = sort_channels(supernet, images)
    config = made.narrowed(int(0.5 * dense_cost(supernet.config)[0]))
    scores = {}
    for name, full in {"sorted": made.supernet, "first": supernet}.items():
        network = narrow(full, config)
        layers = repair(network, full, images)
        assert layers[0].name == "features.denseblock1.denselayer1.conv2"  # its conv1 reads what it always read
        assert all(layer.after <= layer.before + 1e-9 for layer in layers)
        scores[name] = measure(network, valid)
        inherited = measure(calibrate(narrow(full, config), images), valid)
        assert scores[name].loss < inherited.loss
    dense = measure(supernet, valid)
    assert scores["sorted"].loss < scores["first"].loss
    assert scores["sorted"].accuracy > dense.accuracy - 0.06


def zeroed(supernet, config):
    """The supernet itself, with nothing read of the channels that a narrower config does not have."""
    network = copy.deepcopy(supernet)
    layers = [layer for block in network.features if isinstance(block, nn.Sequential) for layer in block]
    for layer, width in zip(layers, sum(config.bottleneck_channels, ()), strict=True):
        layer.conv2.weight.data[:, width:] = 0
    return network


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("full", [config for config in KINDS[:-1] if config.bottleneck], ids=str)
def test_narrow_layers_without_connections_are_the_supernet_with_zeros(full, scope):
    made = sort_channels(trained_looking(full), images_of(full))
    config = made.narrowed(int(0.75 * dense_cost(full)[0]))
    mask = np.random.default_rng(0).random(Topology(full.blocks, scope).size) < 0.5
    network, images = build_sparse(Architecture(config, mask, scope), made.supernet), images_of(full)
    with torch.no_grad():
        wanted = zeroed(made.supernet, config)(images, mask, scope)
        torch.testing.assert_close(network(images), wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fold(network)(images), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet121", "densenet161"])
def test_networks_of_imagenet_at_half_their_macs(name):
    """Random weights, 224 pixels: all kept, it is the model; halved, it is the model with zeros."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.get_model(name).eval()
    supernet, images = from_torchvision(model), torch.randn(2, 3, 224, 224)
    layers = [layer for block in supernet.features if isinstance(block, nn.Sequential) for layer in block]
    full, mask = supernet.config, np.random.default_rng(0).random(Topology(supernet.config.blocks).size) < 0.5
    config = dataclasses.replace(full, widths=(layers[0].conv1.out_channels // 2,) * len(layers))
    with torch.no_grad():
        wanted = model(images)
        network = build_sparse(Architecture(full, Topology(full.blocks).dense()), supernet)
        assert (network(images) - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max()))
        network = build_sparse(Architecture(config, mask), supernet)
        wanted = zeroed(supernet, config)(images, mask)
        assert (network(images) - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max()))
    assert architecture_cost(network.architecture)[0] <= 0.5 * dense_cost(full)[0]


def smooth_images(count, seed):
    """Of 224 pixels."""
    coarse = torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, size=224, mode="bilinear")


def lost(network, dense, images):
    """Of each layer and transition: squared error of what it gives, as a share of the variance in the dense network."""
    given = []
    for each in (network, dense):
        parts = [module for module in each.modules() if isinstance(module, Layer | Transition)]
        maps = [part.register_forward_hook(lambda module, inputs, output: given[-1].append(output)) for part in parts]
        given.append([])
        with torch.no_grad():
            each(images)
        for handle in maps:
            handle.remove()
    return torch.tensor([float((a - b).square().mean() / b.var()) for a, b in zip(*given, strict=True)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet121", slow("densenet161")])
def test_repaired_networks_of_imagenet_are_nearer_to_the_dense_one_on_other_images(name):
    """At half the MACs, without channels and without connections: at every layer."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    supernet, images, others = from_torchvision(models.get_model(name)), smooth_images(24, 0), smooth_images(6, 1)
    full = supernet.config
    layers, width = sum(full.blocks), full.bn_size * full.growth // 2
    config = dataclasses.replace(full, widths=(width,) * layers)
    mask = np.random.default_rng(0).random(Topology(full.blocks).size) < 0.5
    dense = calibrate(build_sparse(Architecture(full, Topology(full.blocks).dense()), supernet), images)
    network = calibrate(build_sparse(Architecture(config, mask), supernet), images)
    assert architecture_cost(network.architecture)[0] <= 0.5 * dense_cost(full)[0]
    before = lost(network, dense, others)
    assert len(repair(network, supernet, images)) >= 2 * layers
    after = lost(network, dense, others)
    assert (after < before).all() and after.mean() < 0.7 * before.mean()


def test_bad_input():
    with pytest.raises(InvalidValue, match="no bottlenecks"):
        sort_channels(trained_looking(KINDS[0]), images_of(KINDS[0]))
    supernet = trained_looking(BN_SIZE)
    for wrong in (images_of(BN_SIZE, 1), torch.full((3, *BN_SIZE.image_shape), float("nan")), torch.zeros(3, 1, 4, 4)):
        with pytest.raises(InvalidValue, match=r"two images|\[n, 2, h, w\]"):
            sort_channels(supernet, wrong)
    with pytest.raises(InvalidValue, match=r"still needs [\d,]+, [\d.]+% of all: raise the limit"):
        sort_channels(supernet, images_of(BN_SIZE)).narrowed(1_000)
    for widths in ((8, 8, 8, 8), (8, 8, 8, 8, 9), (8, 8, 8, 8, 0)):
        with pytest.raises(InvalidValue, match="widths"):
            dataclasses.replace(BN_SIZE, widths=widths)
    with pytest.raises(InvalidValue, match="use one of the two"):
        build_sparse(Architecture(BN_SIZE, Topology(BN_SIZE.blocks).dense()), trained_looking(KINDS[-1]))
