"""Channels: sorting them changes nothing, elimination is brute force's, and what networks with fewer of them are."""

import copy
import dataclasses
from itertools import chain

import numpy as np
import pytest
import torch
from marks import slow
from networks import BN_SIZE, KINDS, random_images, trained_looking, trained_on_digits
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.images import network_input
from ads_gym.data.splits import Split
from ads_gym.errors import InvalidValue
from ads_gym.nets.channels import least_macs, order_channels, reordered
from ads_gym.nets.cost import CostTable, architecture_cost, dense_cost, kept_within
from ads_gym.nets.densenet import Layer, Transition, read_channels
from ads_gym.nets.distil import distil
from ads_gym.nets.folded import fold
from ads_gym.nets.from_torchvision import from_torchvision
from ads_gym.nets.recipe import Distillation
from ads_gym.nets.repair import repair
from ads_gym.nets.residual import elimination_order
from ads_gym.nets.scoring import measure
from ads_gym.nets.sensitivity import sensitivities
from ads_gym.nets.sparse import build_sparse, calibrate, load, save
from ads_gym.tasks import Task
from ads_gym.topology import Scope, Topology

SMALL = DenseNetConfig((2,), 2, 3, bottleneck=True, image_shape=(1, 4, 4), classes=3, bn_size=2)


def images_of(config, count=20, seed=0):
    return network_input(random_images(config, count, seed).images)


def narrow(supernet, config):
    """The network of a narrower config with the supernet's weights and every connection."""
    return build_sparse(Architecture(config, Topology(config.blocks).dense()), supernet)


@pytest.mark.parametrize("config", KINDS, ids=str)
def test_a_network_with_sorted_channels_is_the_same_network(config):
    supernet, images = trained_looking(config), images_of(config)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    made = order_channels(supernet, images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(made.supernet(images), supernet(images), rtol=1e-4, atol=1e-4)
    again = reordered(supernet, made.nodes, made.bottlenecks).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in made.supernet.state_dict().items())


class Errors:
    """Squared error of a convolution without some of the channels that it reads, weighted; by least squares.

    Args:
        supernet: float64.
        images: of it.
        name: of the convolution.
    """

    def __init__(self, supernet, images, name):
        kept = {}
        network = narrow(supernet, supernet.config)
        module = network.get_submodule(name)
        module.register_forward_pre_hook(lambda module, inputs: kept.update(read=inputs[0]))
        calibrate(network, images)
        self.weight, size = module.weight.detach().flatten(1).T, module.weight[0].numel() // module.weight.shape[1]
        rows = kept["read"]
        if rows.ndim == 4:
            kernel = module.kernel_size[0]
            rows = functional.unfold(rows, kernel, padding=kernel // 2).transpose(1, 2).flatten(0, 1)
        self.rows, self.size = rows - rows.mean(0), size
        self.penalty, self.cost = 1e-3 * (self.rows**2).sum(0).mean(), sensitivities(supernet, images)[name]

    def without(self, left):
        """The error of what only the channels in `left` give."""
        kept = [self.size * channel + pixel for channel in left for pixel in range(self.size)]
        weight, rows, penalty = self.weight, self.rows, self.penalty
        stacked = torch.cat([rows[:, kept], penalty.sqrt() * torch.eye(len(kept), dtype=torch.float64)])
        solution = torch.linalg.lstsq(stacked, torch.cat([rows @ weight, penalty.sqrt() * weight[kept]])).solution
        gone = penalty * (weight.square().sum(0) - weight[kept].square().sum(0))
        penalties = penalty * (solution - weight[kept]).square().sum(0) + gone
        return float(((rows[:, kept] @ solution - rows @ weight).square().sum(0) + penalties) @ self.cost) / len(rows)


def test_the_order_of_channels_in_a_bottleneck_is_that_of_brute_force():
    supernet, images = trained_looking(SMALL).double(), images_of(SMALL, 8).double()
    made = order_channels(supernet, images)
    for number, order in enumerate(made.bottlenecks):
        errors, left = Errors(supernet, images, f"features.denseblock1.denselayer{number + 1}.conv2"), list(range(4))
        saving = [3 + 18, 5 + 18][number] * 16  # what computes a channel, and the 3x3 that reads it
        for channel, group in zip(reversed(order), made.between[number], strict=False):
            without = {each: errors.without([c for c in left if c != each]) for each in left}
            assert channel == min(without, key=without.get)
            assert group.price * saving == pytest.approx(without[channel] - errors.without(left), rel=1e-6, abs=1e-12)
            left.remove(channel)


@pytest.mark.parametrize("multiple", [1, 2])
def test_what_a_destination_reads_goes_in_the_order_of_brute_force(multiple):
    """Of each node the channel that comes last in the order that all its readers share: the cheapest one goes."""
    config = DenseNetConfig((2,), 2, 3, image_shape=(1, 4, 4), classes=3)
    supernet, images = trained_looking(config).double(), images_of(config, 8).double()
    made = order_channels(supernet, images, multiple=multiple)
    names = ["features.denseblock1.denselayer1.conv1", "features.denseblock1.denselayer2.conv1", "classifier"]
    for number, (name, groups) in enumerate(zip(names, made.reads, strict=True)):
        errors, start, nodes = Errors(supernet, images, name), [0, 3, 5], made.nodes[0][: number + 1]
        left = [[start[node] + channel for channel in order] for node, order in enumerate(nodes)]
        for group in groups:
            prices = {}
            for node, channels in enumerate(left):
                count = len(channels) % multiple or multiple
                if len(channels) > (multiple if node == number else 0):
                    others = [c for other in left for c in (other[:-count] if other is channels else other)]
                    growth = errors.without(others) - errors.without([*chain.from_iterable(left)])
                    prices[node] = growth / (count * (18 * 16 if number < 2 else 3))
            assert group.node == min(prices, key=prices.get)
            assert group.price == pytest.approx(prices[group.node], rel=1e-6, abs=1e-12)
            del left[group.node][-group.channels :]
        assert [len(each) for each in left] == [0] * number + [min(multiple, [3, 2, 2][number])]


@pytest.mark.parametrize("kept", [0, 20_000])
@pytest.mark.parametrize("config", [KINDS[0], BN_SIZE], ids=["plain", "bottlenecks"])
def test_eliminations_that_are_made_twice_give_the_same_orders(config, kept, monkeypatch):
    supernet, images = trained_looking(config), images_of(config)
    made = order_channels(supernet, images)
    monkeypatch.setattr("ads_gym.nets.channels.KEPT_BYTES", kept)
    told = []
    again = order_channels(supernet, images, progress=lambda done, of: told.append((done, of)))
    modules = len(made.reads) + len(made.between)
    assert told == [(done, modules) for done in range(1, modules + 1)]
    assert (again.reads, again.between, again.nodes) == (made.reads, made.between, made.nodes)
    assert again.bottlenecks == made.bottlenecks


def test_how_long_readers_keep_a_channel_is_its_place():
    """A channel that every reader needs comes first: the others of its node are made to give nothing."""
    supernet = trained_looking(KINDS[0])
    conv = supernet.features.denseblock1.denselayer1.conv1
    with torch.no_grad():
        conv.weight[[0, 1, 3]] *= 1e-4
        conv.weight[3] = conv.weight[0]
        for name, norm in supernet.named_modules():  # so small that normalising would make them as large as any
            if name.endswith(("norm1", "transition1.norm")) and norm.num_features > 6 and "block2" not in name:
                norm.weight[[6, 7, 9][: norm.num_features - 6]] *= 1e-3
    made = order_channels(supernet, images_of(KINDS[0], 60))
    assert made.nodes[0][1][0] == 2


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
@pytest.mark.parametrize("config", [KINDS[0], BN_SIZE], ids=["plain", "bottlenecks"])
def test_within_a_limit_there_is_the_most_that_fits(config, share, multiple):
    supernet = trained_looking(config)
    made = order_channels(supernet, images_of(config), multiple=multiple)
    limit = max(int(share * dense_cost(config)[0]), least_macs(config, multiple))
    found = made.within(limit)
    macs = architecture_cost(found)[0]
    assert macs <= limit and found.config.fits_in(config)
    assert (found == found.dense) == (macs == dense_cost(config)[0]) == (share == 1.0)
    for counts, widths in zip(found.channels, config.source_widths, strict=True):
        assert all(count in (0, width) or count % multiple == 0 for count, width in zip(counts, widths, strict=True))
    if found.reads is not None and multiple == 1:  # another channel does not fit
        more = (
            tuple(
                tuple(count + ((place, node) == (at, src)) for src, count in enumerate(counts))
                for at, counts in enumerate(found.reads)
            )
            for place, widths in enumerate(config.source_widths)
            for node, width in enumerate(widths)
            if 0 < found.reads[place][node] < width
        )
        assert min(architecture_cost(Architecture.reading(found.config, each))[0] for each in more) > limit
    narrow_only = made.within(max(limit, least_macs(config, multiple, reads=False)), reads=False)
    assert narrow_only.reads is None and narrow_only.mask.all()


@pytest.mark.parametrize("config", KINDS, ids=str)
@pytest.mark.parametrize("multiple", [1, 3])
def test_the_smallest_network_is_known_beforehand(config, multiple):
    made, least = (
        order_channels(trained_looking(config), images_of(config), multiple=multiple),
        least_macs(config, multiple),
    )
    assert architecture_cost(made.within(least))[0] == least
    with pytest.raises(InvalidValue, match=r"still needs [\d,]+, [\d.]+% of all, .* raise the limit"):
        made.within(least - 1)


@pytest.mark.parametrize("bottleneck", [False, slow(True)])
def test_repaired_it_reads_digits_and_beats_dropping_connections(bottleneck):
    supernet, task = trained_on_digits(bottleneck=bottleneck), Task.load("digits")
    images, valid = network_input(task.images(Split.TRAIN).images), task.images(Split.VALID)
    made = order_channels(supernet, images)
    cost = CostTable(supernet.config)
    limit = max(int(0.4 * cost.dense_macs), cost.least_macs)
    mask = kept_within(
        [each.part for each in elimination_order(supernet, images)], cost.connection_macs, limit - cost.least_macs
    )
    scores = {}
    for name, architecture in {"channels": made.within(limit), "mask": Architecture(supernet.config, mask)}.items():
        full = made.supernet if name == "channels" else supernet
        network = build_sparse(architecture, full)
        layers = repair(network, full, images)
        assert all(layer.after <= layer.before + 1e-9 for layer in layers)
        scores[name] = measure(network, valid)
        inherited = measure(calibrate(build_sparse(architecture, full), images), valid)
        assert scores[name].loss < inherited.loss
    assert scores["channels"].loss < scores["mask"].loss
    assert scores["channels"].accuracy > measure(supernet, valid).accuracy - (0.06 if bottleneck else 0.03)


def zeroed(supernet, config):
    """The supernet itself, with nothing read of the channels that a narrower config does not have."""
    network = copy.deepcopy(supernet)
    layers = [layer for block in network.features if isinstance(block, nn.Sequential) for layer in block]
    for layer, width in zip(layers, sum(config.bottleneck_channels, ()), strict=True):
        if width:
            layer.conv2.weight.data[:, width:] = 0
    return network


def unread(supernet, architecture):
    """The supernet itself, with zeros where a destination does not read a channel."""
    network = zeroed(supernet, architecture.config)
    readers = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and not name.endswith(("conv0", ".conv2"))
    ]
    for module, read in zip(readers, read_channels(architecture), strict=True):
        dropped = sorted(set(range(module.weight.shape[1])) - set(read))
        module.weight.data[:, dropped] = 0
    return network


@pytest.mark.parametrize("share", [0.75, 0.5])
@pytest.mark.parametrize("full", KINDS, ids=str)
def test_fewer_channels_are_the_supernet_with_zeros(full, share):
    made, images = order_channels(trained_looking(full), images_of(full)), images_of(full)
    found = made.within(max(int(share * dense_cost(full)[0]), least_macs(full, 1)))
    network = build_sparse(found, made.supernet)
    with torch.no_grad():
        wanted = unread(made.supernet, found)(images)
        torch.testing.assert_close(network(images), wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fold(network)(images), wanted, rtol=1e-4, atol=1e-4)
    assert sum(each.numel() for each in network.parameters()) == architecture_cost(found)[1]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images[:1])
    assert counter.get_total_flops() == 2 * architecture_cost(found)[0]


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("full", [config for config in KINDS[:-1] if config.bottleneck], ids=str)
def test_narrow_layers_without_connections_are_the_supernet_with_zeros(full, scope):
    made = order_channels(trained_looking(full), images_of(full))
    config = made.within(int(0.75 * dense_cost(full)[0]), reads=False).config
    mask = np.random.default_rng(0).random(Topology(full.blocks, scope).size) < 0.5
    network, images = build_sparse(Architecture(config, mask, scope), made.supernet), images_of(full)
    with torch.no_grad():
        wanted = zeroed(made.supernet, config)(images, mask, scope)
        torch.testing.assert_close(network(images), wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fold(network)(images), wanted, rtol=1e-4, atol=1e-4)


def test_a_network_of_channels_is_saved_and_distilled(tmp_path):
    made, images = order_channels(trained_looking(KINDS[0]), images_of(KINDS[0])), images_of(KINDS[0])
    network = build_sparse(made.within(int(0.5 * dense_cost(KINDS[0])[0])), made.supernet)
    repair(network, made.supernet, images)
    save(network, tmp_path / "net")
    loaded = load(tmp_path / "net")
    assert loaded.architecture == network.architecture and torch.equal(loaded(images), network(images))
    before = (loaded(images) - made.supernet(images)).square().mean()
    distil(loaded, made.supernet, images, Distillation(30))
    assert (loaded(images) - made.supernet(images)).square().mean() < before


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
    supernet = trained_looking(BN_SIZE)
    for wrong in (images_of(BN_SIZE, 1), torch.full((3, *BN_SIZE.image_shape), float("nan")), torch.zeros(3, 1, 4, 4)):
        with pytest.raises(InvalidValue, match=r"two images|\[n, 2, h, w\]"):
            order_channels(supernet, wrong)
    made = order_channels(supernet, images_of(BN_SIZE))
    flat = (tuple(chain.from_iterable(made.nodes)),)
    for nodes, bottlenecks in ((made.nodes[1:], made.bottlenecks), (made.nodes, made.bottlenecks[1:]), (flat, ())):
        with pytest.raises(InvalidValue, match="channels should be orders"):
            reordered(supernet, nodes, bottlenecks)
    for widths in ((8, 8, 8, 8), (8, 8, 8, 8, 9), (8, 8, 8, 8, 0)):
        with pytest.raises(InvalidValue, match="widths"):
            dataclasses.replace(BN_SIZE, widths=widths)
    with pytest.raises(InvalidValue, match="use one of the two"):
        build_sparse(Architecture(BN_SIZE, Topology(BN_SIZE.blocks).dense()), trained_looking(KINDS[-1]))
