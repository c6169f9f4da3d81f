"""What is known of each connection before any evaluation: definitions, against plain references."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import KINDS, random_images, trained_looking
from torch.nn import functional

import ads_gym
from ads_gym.data.images import network_input
from ads_gym.errors import InvalidValue, UnknownName
from ads_gym.nets import importance
from ads_gym.nets.cost import CostTable, dense_cost
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.features import Feature, ranks, shape_feature
from ads_gym.nets.importance import magnitudes, network_feature, saliencies
from ads_gym.nets.residual import elimination_order
from ads_gym.problem import make_problem
from ads_gym.tasks import Task
from ads_gym.tasks.supernet import save_task
from ads_gym.topology import Scope, Topology

BOTH = pytest.mark.parametrize("scope", Scope)
EVERY = pytest.mark.parametrize("config", KINDS, ids=str)


@BOTH
@EVERY
def test_shapes(config, scope):
    cost, topology = CostTable(config, scope), Topology(config.blocks, scope)
    assert shape_feature(cost, Feature.RELATIVE_COST).sum() == pytest.approx(1)
    places = [tuple(each) for each in topology.connections[:, :2].tolist()]
    order = list(dict.fromkeys(places))
    position = shape_feature(cost, Feature.POSITION)
    assert position.tolist() == [order.index(place) / (len(order) - 1) for place in places]
    longest = max(config.blocks) + (scope is Scope.ALL)
    distance = [(dst - src) / longest for _, dst, src in topology.connections.tolist()]
    assert shape_feature(cost, Feature.DISTANCE).tolist() == pytest.approx(distance)


@BOTH
@EVERY
def test_magnitudes_are_of_the_weights_that_read_a_source(config, scope):
    """Without them, the network gives what it gives without the connection; and only they count."""
    network, topology = trained_looking(config), Topology(config.blocks, scope)
    images = network_input(random_images(config, 4).images)
    before = magnitudes(network, scope)
    for number in range(0, topology.size, 5):
        mask = topology.dense()
        mask[number] = False
        zeroed = trained_looking(config)
        module = list(importance.readers(zeroed))[
            next(
                place
                for place, (block, dst) in enumerate(
                    (block, dst) for block, layers in enumerate(config.blocks) for dst in range(1, layers + 2)
                )
                if (block, dst) == tuple(topology.connections[number, :2])
            )
        ]
        gone = [
            channel
            for channel in range(module.weight.shape[1])
            if _source(config, topology.connections[number], channel)
        ]
        assert before[number] == pytest.approx(float(module.weight[:, gone].detach().abs().double().mean()))
        with torch.no_grad():
            module.weight[:, gone] = 0
            torch.testing.assert_close(zeroed(images), network(images, mask, scope), rtol=1e-4, atol=1e-4)
        after = magnitudes(zeroed, scope)
        assert after[number] == 0 and np.array_equal(np.delete(after, number), np.delete(before, number))


def _source(config, connection, channel):
    """Whether a channel that the destination reads is of the connection's source."""
    block, _, src = connection.tolist()
    first = config.geometry[block].in_channels
    return (0 if channel < first else 1 + (channel - first) // config.growth) == src


@BOTH
@pytest.mark.parametrize("config", KINDS[1:3], ids=str)
def test_saliencies_are_slopes_of_the_loss(config, scope):
    """Against central differences, with statistics of the batch; the network is not changed."""
    network, images = trained_looking(config), random_images(config, 24)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    topology = Topology(config.blocks, scope)
    masks = np.random.default_rng(0).random((2, topology.size)) < 0.5
    found = saliencies(network, images, masks, scope)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training and all(each.requires_grad for each in network.parameters())
    double = trained_looking(config).double().train()

    def loss(gates):
        with torch.no_grad():
            logits = double(network_input(images.images).double(), gates, scope)
            return float(functional.cross_entropy(logits, images.labels))

    for number in range(0, topology.size, 4):
        step = torch.zeros(topology.size, dtype=torch.float64)
        step[number] = 1e-6
        slopes = [(loss(torch.tensor(m).double() + step) - loss(torch.tensor(m).double() - step)) / 2e-6 for m in masks]
        assert found[number] == pytest.approx(-np.mean(slopes), abs=2e-5, rel=5e-3)


def test_saliencies_do_not_depend_on_the_batches_of_memory_beyond_their_statistics(monkeypatch):
    """Two halves: the mean of what each tells."""
    config = KINDS[0]
    network, images = trained_looking(config), random_images(config, 24)
    mask = Topology(config.blocks).dense()
    halves = [
        saliencies(network, replace(images, images=images.images[p], labels=images.labels[p]), mask)
        for p in (slice(12), slice(12, None))
    ]
    monkeypatch.setattr(importance, "MEMORY", 12 * importance.map_bytes(config, is_training=True))
    assert np.allclose(saliencies(network, images, mask), np.mean(halves, axis=0), atol=1e-7)


@BOTH
def test_residual_is_the_order_of_elimination(scope):
    config = KINDS[0]
    network, images = trained_looking(config), random_images(config, 24)
    known = network_feature(network, images, Feature.RESIDUAL, scope)
    order = [each.part for each in elimination_order(network, network_input(images.images), scope)]
    assert np.argsort(known.values).tolist() == order and (known.values.min(), known.values.max()) == (0, 1)


def test_a_source_that_is_never_read_matters_least():
    """By every feature of the network."""
    config = KINDS[0]
    network, images = trained_looking(config), random_images(config, 64)
    with torch.no_grad():
        network.features.denseblock2.denselayer4.conv1.weight[:, 6 + 12 : 6 + 12 + 4] = 0  # of its layer 0 ... 2
    for feature in (Feature.MAGNITUDE, Feature.SALIENCY_DENSE, Feature.RESIDUAL):
        values = network_feature(network, images, feature).values
        connection = Topology(config.blocks).connections[int(np.abs(values).argmin())]
        assert connection[:2].tolist() == [1, 4], feature


def test_the_price_is_passes_over_the_images():
    network, images = trained_looking(KINDS[0]), random_images(KINDS[0], 10)
    passes = 10 * dense_cost(KINDS[0])[0]
    price = {each: network_feature(network, images, each).macs for each in Feature if each.needs_network}
    assert price[Feature.MAGNITUDE] == 0 and price[Feature.SALIENCY_DENSE] == 3 * passes
    assert price[Feature.SALIENCY_HALF] == 3 * importance.RANDOM_MASKS * passes
    assert price[Feature.RESIDUAL] > 4 * passes


def test_a_task_computes_a_feature_once_and_anew_for_other_weights(tmp_path, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return network_feature(*arguments)

    monkeypatch.setattr(importance, "network_feature", counted)
    digits = Task.load("digits")
    torch.manual_seed(7)
    for seed, expected in ((0, 1), (0, 1), (1, 2)):
        torch.manual_seed(seed)
        weights = DenseNet(digits.config).state_dict()
        task = save_task(tmp_path / "task", "mine", digits.config, digits.data, weights)
        task.feature(Feature.MAGNITUDE)
        assert len(calls) == expected


def test_a_problem_tells_features_and_what_they_cost():
    charges = {}
    problem = replace(make_problem("digits"), charge=charges.__setitem__)
    table = problem.features()
    assert table.shape == (45, len(Feature)) and np.isfinite(table).all()
    assert set(charges) == {"saliency_dense", "saliency_half", "residual"} and charges["saliency_dense"] == 2
    table[:] = 0  # a copy
    assert problem.feature("residual").max() == 1
    with pytest.raises(UnknownName, match="residual"):
        problem.feature("residuals")
    planted = make_problem("planted-20")
    assert planted.feature("distance").shape == (20,)
    with pytest.raises(InvalidValue, match="planted-20 has none"):
        planted.feature("magnitude")
    with pytest.raises(InvalidValue, match="no images and no weights"):
        Task.load("planted-20").feature(Feature.MAGNITUDE)


def test_ranks():
    assert ranks([3.0, 1.0, 2.0, 2.0]).tolist() == pytest.approx([1, 0, 0.5, 0.5])
    assert ranks(np.arange(6).reshape(2, 3)).tolist() == [[0, 0.5, 1]] * 2 and ranks([5.0]).tolist() == [0]


def test_gates_are_masks_where_they_are_0_and_1():
    config = KINDS[0]
    network, images = trained_looking(config), network_input(random_images(config, 5).images)
    for scope in Scope:
        mask = np.random.default_rng(0).random(Topology(config.blocks, scope).size) < 0.5
        gates = torch.tensor(mask, dtype=torch.float32)
        assert torch.equal(network(images, gates, scope), network(images, mask, scope))
    with pytest.raises(InvalidValue, match="a gate for each of"):
        network(images, torch.ones(3))


def test_features_are_public():
    assert ads_gym.make_problem("digits").feature("magnitude").dtype == np.float64
