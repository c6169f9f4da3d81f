"""Distillation from the dense network: nearer to it on images it has not seen, the same bits each time, no labels."""

import numpy as np
import pytest
import torch
from networks import KINDS, random_images, trained_looking

from ads_gym.architecture import Architecture
from ads_gym.data.images import network_input
from ads_gym.data.spec import Split
from ads_gym.errors import AdsGymError, InvalidValue
from ads_gym.nets.cost import CostTable
from ads_gym.nets.distil import distil
from ads_gym.nets.recipe import Distillation
from ads_gym.nets.repair import repair
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.nets.training import augment
from ads_gym.tasks import Task
from ads_gym.topology import Topology

CONFIG = KINDS[0]


def images_of(count=24, seed=0):
    return network_input(random_images(CONFIG, count, seed).images)


def half(supernet):
    mask = np.random.default_rng(0).random(Topology(supernet.config.blocks).size) < 0.5
    return build_sparse(Architecture(supernet.config, mask), supernet)


def copy_of(state):
    return {name: tensor.clone() for name, tensor in state.items()}


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


def test_on_digits_it_gains_from_inherited_and_from_repaired_weights():
    task = Task.load("digits")
    supernet, valid = task.supernet(), task.images(Split.VALID)
    images = network_input(task.images(Split.TRAIN).images[:300])
    mask, losses = CostTable(task.config).random_mask(np.random.default_rng(0), 0.3), {}
    seen = []
    for start in (calibrate, lambda network, images: repair(network, supernet, images)):
        network = build_sparse(Architecture(task.config, mask), supernet)
        start(network, images)
        before = measure(network, valid).loss
        seen.clear()
        distil(network, supernet, images, Distillation(steps=25), lambda step, loss: seen.append((step, loss)))
        losses[start] = before, measure(network, valid).loss
        assert [step for step, _ in seen] == list(range(1, 26)) and seen[-1][1] < seen[0][1]
    inherited, repaired = losses.values()
    assert inherited[1] < 0.5 * inherited[0] and repaired[1] < 0.9 * repaired[0] and repaired[1] < inherited[1]


def test_the_same_call_gives_the_same_bits_and_changes_nothing_else():
    supernet, images, found = trained_looking(CONFIG).train(), images_of(), []
    before = copy_of(supernet.state_dict())
    for _ in range(2):
        network = half(supernet)
        torch.manual_seed(len(found))
        distil(network, supernet, images, Distillation(steps=3, batch_size=10, shift=1, flip=True, seed=5))
        found.append(network.state_dict())
        assert not network.training and supernet.training
        assert not any(module._forward_hooks for each in (network, supernet) for module in each.modules())
    assert equal(*found) and equal(supernet.state_dict(), before)
    assert all(parameter.grad is None for parameter in supernet.parameters())


def test_no_steps_change_nothing():
    supernet = trained_looking(CONFIG)
    network = half(supernet)
    before = copy_of(network.state_dict())
    distil(network, supernet, images_of(), Distillation(steps=0))
    assert equal(network.state_dict(), before)


def test_with_inference_mode_or_no_grad_around_it():
    supernet = trained_looking(CONFIG)
    for context in (torch.no_grad, torch.inference_mode):
        network = half(supernet)
        before = copy_of(network.state_dict())
        with context():
            distil(network, supernet, images_of(), Distillation(steps=1))
        assert not equal(network.state_dict(), before)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": images_of(1)}, "at least two images"),
        ({"images": torch.zeros(3, 5, 17, 14)}, r"\[n, 2, h, w\]"),
        ({"supernet": trained_looking(KINDS[1])}, "give its own"),
        ({"recipe": 3}, "recipe"),
    ],
)
def test_what_cannot_be_used(change, says):
    supernet = trained_looking(CONFIG)
    given = {"network": half(supernet), "supernet": supernet, "images": images_of()} | change
    with pytest.raises(AdsGymError, match=says):
        distil(**given)


def test_recipes_are_checked():
    for wrong in ({"steps": -1}, {"learning_rate": 0}, {"batch_size": 1}, {"shift": 1.5}):
        with pytest.raises(InvalidValue, match=next(iter(wrong))):
            Distillation(**wrong)


def test_a_loss_that_is_no_number_is_told():
    supernet = trained_looking(CONFIG)
    with pytest.raises(InvalidValue, match="step 1 is nan"):
        distil(half(supernet), supernet, torch.full((4, *CONFIG.image_shape), float("nan")), Distillation(steps=1))


def test_edges_come_into_images_of_floats():
    image = torch.arange(9.0).view(1, 1, 3, 3).repeat(50, 1, 1, 1) + 1
    moved = augment(image, 2, False, torch.Generator().manual_seed(0))
    assert moved.min() >= 1 and len({tuple(each.flatten().tolist()) for each in moved}) > 10
