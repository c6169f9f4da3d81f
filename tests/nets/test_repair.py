"""Closed-form repair against least squares of numpy's, on digits, and where there is little to solve from."""

import numpy as np
import pytest
import torch
from networks import KINDS, random_images, trained_looking
from torch.nn import functional

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.images import network_input
from ads_gym.data.spec import Split
from ads_gym.errors import InvalidValue
from ads_gym.nets.cost import CostTable
from ads_gym.nets.repair import repair
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.tasks import Task
from ads_gym.topology import Scope, Topology


def images_of(config, count=24, seed=0):
    return network_input(random_images(config, count, seed).images)


def built(supernet, mask, scope=Scope.LAYERS):
    return build_sparse(Architecture(supernet.config, mask, scope), supernet)


def half(config, scope=Scope.LAYERS, seed=0):
    return np.random.default_rng(seed).random(Topology(config.blocks, scope).size) < 0.5


def states_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


@pytest.mark.parametrize("config", KINDS, ids=str)
def test_where_nothing_was_dropped_no_bit_changes(config):
    supernet, images = trained_looking(config), images_of(config)
    network = built(supernet, Topology(config.blocks).dense())
    expected = calibrate(built(supernet, Topology(config.blocks).dense()), images)
    assert repair(network, supernet, images) == []
    assert states_equal(network.state_dict(), expected.state_dict()) and not network.training


def test_what_reads_nothing_else_than_before_keeps_its_bits():
    """The last layer lost an input: what comes before it is as it was."""
    config = DenseNetConfig((2, 2), 3, 4, image_shape=(1, 6, 6), classes=3)
    supernet, images = trained_looking(config), images_of(config, 60)
    network = built(supernet, np.array([True, False]))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items() if "norm" not in name}
    repaired = [layer.name for layer in repair(network, supernet, images)]
    assert repaired == ["features.denseblock2.denselayer2.conv1", "classifier"]
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, network.state_dict()[name])]
    assert changed == ["features.denseblock2.denselayer2.conv1.weight", "classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("count", [3, 24])
def test_it_is_the_least_squares_of_numpy(count):
    """Where the ridge hardly counts: of the first module that is solved, every position of every image."""
    config = DenseNetConfig((2, 2), 3, 4, image_shape=(1, 6, 6), classes=3)
    supernet, images = trained_looking(config).double(), images_of(config, count).double()
    mask = np.array([True, False])
    network = built(supernet, mask)
    read, gave = {}, {}
    name = "features.denseblock2.denselayer2.conv1"
    plain, dense = built(supernet, mask), built(supernet, np.ones(2, bool))
    plain.get_submodule(name).register_forward_hook(lambda module, inputs, output: read.update(x=inputs[0].clone()))
    dense.get_submodule(name).register_forward_hook(lambda module, inputs, output: gave.update(y=output.clone()))
    for other in (plain, dense):
        calibrate(other, images)
    old = plain.get_submodule(name).weight.detach()
    rows = functional.unfold(read["x"], 3, padding=1).transpose(1, 2).flatten(0, 1).numpy()  # [n h w, c 9]
    missing = gave["y"] - functional.conv2d(read["x"], old, padding=1)
    missing = missing.flatten(2).transpose(1, 2).flatten(0, 1).numpy()
    assert len(rows) == count * 9 and old[0].numel() * 10 >= 9
    ones = np.ones((len(rows), 1))
    expected, *_ = np.linalg.lstsq(np.hstack([rows, ones]), missing, rcond=None)
    (layer, _) = repair(network, supernet, images, ridge=1e-9)
    got = (network.get_submodule(name).weight.detach() - old).flatten(1).T.numpy()
    fit = rows @ got
    residual = missing - fit - (missing - fit).mean(0)
    best = missing - np.hstack([rows, ones]) @ expected
    assert (residual**2).sum() <= (best**2).sum() * (1 + 1e-6) + 1e-9
    if layer.rows > layer.unknowns:  # else many are as good
        np.testing.assert_allclose(got, expected[:-1], rtol=1e-5, atol=1e-7)
    assert layer.is_underdetermined == (count * 9 <= layer.unknowns)
    scale = gave["y"].var(dim=(0, 2, 3), correction=0).sum() * len(rows)
    assert layer.before == pytest.approx(float((missing - missing.mean(0)).__pow__(2).sum() / scale))
    assert layer.after == pytest.approx(float((best**2).sum() / scale), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("config", KINDS, ids=str)
def test_every_layer_comes_nearer_to_the_dense_network(config, scope):
    supernet, images = trained_looking(config), images_of(config, 40)
    mask = half(config, scope)
    network = built(supernet, mask, scope)
    weights = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    layers = repair(network, supernet, images)
    assert len(layers) > sum(config.blocks) / 2 and layers[-1].name == "classifier"
    assert all(layer.after <= layer.before * (1 + 1e-9) for layer in layers)
    assert states_equal(supernet.state_dict(), weights)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    with torch.no_grad():
        held_out, inherited = images_of(config, 40, seed=1), calibrate(built(supernet, mask, scope), images)
        dense = calibrate(built(supernet, Topology(config.blocks, scope).dense(), scope), images)(held_out)
        assert (network(held_out) - dense).square().mean() < (inherited(held_out) - dense).square().mean()


def test_the_same_call_gives_the_same_bits_on_any_number_of_threads():
    config = KINDS[1]
    supernet, images, found = trained_looking(config), images_of(config, 40), []
    before = torch.get_num_threads()
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        network = built(supernet, half(config))
        layers = repair(network, supernet, images, ridge=1e-3, seed=3)
        found.append((layers, network.state_dict()))
    torch.set_num_threads(before)
    assert states_equal(found[0][1], found[2][1]) and found[0][0] == found[2][0]
    for name, tensor in found[1][1].items():
        torch.testing.assert_close(tensor, found[0][1][name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_digits_are_read_again():
    """Half of what connections cost is gone: a few points of accuracy come back, all but one of the dense network's."""
    task = Task.load("digits")
    supernet, valid = task.supernet(), task.images(Split.VALID)
    images = network_input(task.images(Split.TRAIN).images)
    table, rng = CostTable(task.config), np.random.default_rng(0)
    for cost, gain in ((0.5, 0.05), (0.2, 0.3)):
        network = built(supernet, table.random_mask(rng, cost))
        inherited = measure(calibrate(network, images), valid).accuracy
        repair(network, supernet, images)
        repaired = measure(network, valid).accuracy
        assert repaired >= inherited + gain and repaired >= measure(supernet, valid).accuracy - 0.02


def test_with_few_images_the_ridge_is_chosen_and_better_than_a_small_one():
    task = Task.load("digits")
    supernet, valid = task.supernet(), task.images(Split.VALID)
    mask, losses = CostTable(task.config).random_mask(np.random.default_rng(0), 0.3), {}
    for ridge in (None, 1e-6, 1e-3):
        losses[ridge] = 0
        for first in (0, 100, 200):
            network, images = built(supernet, mask), task.images(Split.TRAIN).images[first : first + 48]
            layers = repair(network, supernet, network_input(images), ridge=ridge)
            losses[ridge] += measure(network, valid).loss
            assert (len({layer.ridge for layer in layers}) > 1) == (ridge is None)
    assert losses[None] < losses[1e-3] < losses[1e-6]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("value", [0.0, None])
def test_constant_images_and_very_few_of_them(count, value):
    config = KINDS[0]
    supernet = trained_looking(config)
    images = images_of(config, count) if value is None else torch.full((count, *config.image_shape), value)
    network = built(supernet, half(config))
    layers = repair(network, supernet, images)
    assert any(layer.is_underdetermined for layer in layers)
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(1, 2, 17, 14), "at least two images"),
        (torch.full((3, 2, 17, 14), float("nan")), "finite"),
        (torch.zeros(3, 5, 17, 14), r"\[n, 2, h, w\]"),
        (torch.zeros(3, 2, 17, 14, dtype=torch.uint8), r"scaled to \[-1, 1\]"),
    ],
)
def test_images_that_cannot_be_used(images, says):
    supernet = trained_looking(KINDS[0])
    network = built(supernet, half(KINDS[0]))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(InvalidValue, match=says):
        repair(network, supernet, images)
    assert states_equal(network.state_dict(), before)


def test_a_supernet_of_another_config():
    with pytest.raises(InvalidValue, match="supernet of"):
        repair(built(trained_looking(KINDS[0]), half(KINDS[0])), trained_looking(KINDS[1]), images_of(KINDS[0]))
