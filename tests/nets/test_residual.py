"""Backward elimination by residuals against brute force."""

import pytest
import torch
from networks import KINDS, random_images, trained_looking
from torch.nn import functional

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.images import network_input
from ads_gym.errors import InvalidValue
from ads_gym.nets.cost import CostTable
from ads_gym.nets.least_squares import RIDGE
from ads_gym.nets.residual import elimination_order
from ads_gym.nets.sensitivity import sensitivities
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.topology import Scope, Topology

SMALL = DenseNetConfig((4,), 3, 5, image_shape=(1, 4, 4), classes=3)


def images_of(config, count=20, seed=0):
    return network_input(random_images(config, count, seed).images)


def by_brute_force(supernet, images):
    """The same order where every position of every image counts, each residual solved by itself."""
    config, topology = supernet.config, Topology(supernet.config.blocks)
    network = build_sparse(Architecture(config, topology.dense()), supernet)
    read = {}
    layers = list(network.features.denseblock1)
    for dst, layer in enumerate(layers, start=1):
        layer.conv1.register_forward_hook(lambda module, inputs, output, dst=dst: read.update({dst: inputs[0]}))
    calibrate(network, images)
    rises = sensitivities(supernet, images)
    macs, connections = CostTable(config).connection_macs, [tuple(c) for c in topology.connections.tolist()]

    def objective(dst, sources):
        """Of the best weights: squared error, and penalty for what changed, by what they cost each output."""
        weight = layers[dst - 1].conv1.weight.detach().double().flatten(1).T
        rows = functional.unfold(read[dst].double(), 3, padding=1).transpose(1, 2).flatten(0, 1)
        rows = rows - rows.mean(0)
        targets, penalty = rows @ weight, RIDGE * (rows**2).sum(0).mean()
        channels = [c for src in sources for c in ([*range(5)] if src == 0 else range(2 + 3 * src, 5 + 3 * src))]
        kept = [9 * channel + pixel for channel in channels for pixel in range(9)]
        stacked = torch.cat([rows[:, kept], penalty.sqrt() * torch.eye(len(kept), dtype=torch.float64)])
        wanted = torch.cat([targets, penalty.sqrt() * weight[kept]])
        solution = torch.linalg.lstsq(stacked, wanted).solution
        gone = penalty * (weight.square().sum(0) - weight[kept].square().sum(0))
        lost = (stacked @ solution - wanted).square().sum(0) + gone
        return float((lost * rises[f"features.denseblock1.denselayer{dst}.conv1"]).sum()) / len(rows)

    left = {dst: set(range(dst)) for dst in range(1, len(layers) + 1)}
    order = []
    while any(len(sources) > 1 for sources in left.values()):
        candidates = []
        for dst, sources in left.items():
            for src in sources - {dst - 1}:
                growth = objective(dst, sorted(sources - {src})) - objective(dst, sorted(sources))
                number = connections.index((0, src, dst) if (0, src, dst) in connections else (0, dst, src))
                candidates.append((growth / macs[number], growth, number, dst, src))
        _, growth, number, dst, src = min(candidates)
        left[dst].discard(src)
        order.append((number, growth))
    return order


def test_it_is_the_order_of_brute_force():
    supernet, images = trained_looking(SMALL).double(), images_of(SMALL, 8).double()  # so few that all rows count
    found, expected = elimination_order(supernet, images), by_brute_force(supernet, images)
    assert [each.part for each in found] == [number for number, _ in expected]
    for each, (_, growth) in zip(found, expected, strict=True):
        assert each.growth == pytest.approx(growth, rel=1e-6)


def test_a_source_without_weight_goes_first():
    supernet = trained_looking(SMALL)
    layer = supernet.features.denseblock1.denselayer4
    with torch.no_grad():
        layer.conv1.weight[:, 5:8] = 0  # of layer 1
    first, second = elimination_order(supernet, images_of(SMALL))[:2]
    topology = Topology(SMALL.blocks)
    block, *ends = topology.connections[first.part].tolist()
    assert block == 0 and sorted(ends) == [1, 4] and abs(first.growth) < 1e-9 < second.growth


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("config", KINDS, ids=str)
def test_every_connection_goes_once(config, scope):
    supernet, images = trained_looking(config), images_of(config)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    order = elimination_order(supernet, images, scope)
    assert sorted(each.part for each in order) == list(range(Topology(config.blocks, scope).size))
    assert all(each.growth > -1e-9 for each in order)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    assert elimination_order(supernet, images, scope) == order


def test_blocks_of_one_layer_have_skip_connections_into_their_outputs():
    config = DenseNetConfig((1, 1), 4, 4, image_shape=(1, 8, 8), classes=3)
    order = elimination_order(trained_looking(config), images_of(config), Scope.ALL)
    assert sorted(each.part for each in order) == [0, 1]


def test_few_or_constant_images():
    supernet = trained_looking(SMALL)
    for images in (images_of(SMALL, 2), torch.zeros(3, *SMALL.image_shape)):
        assert len(elimination_order(supernet, images)) == 6
    for wrong in (images_of(SMALL, 1), torch.full((3, *SMALL.image_shape), float("nan")), torch.zeros(3, 2, 4, 4)):
        with pytest.raises(InvalidValue, match=r"two images|\[n, 1, h, w\]"):
            elimination_order(supernet, wrong)
