"""Models of torchvision's as ours: the same outputs, whatever they are wrapped in; what is no DenseNet is told."""

import pytest
import torch
from marks import slow
from networks import BN_SIZE, random_images, trained_looking
from torch import nn

from ads_gym.architecture import Architecture
from ads_gym.data.images import network_input
from ads_gym.errors import DamagedFile, InvalidValue
from ads_gym.nets.cost import CostTable, dense_cost
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.from_torchvision import from_torchvision
from ads_gym.nets.repair import repair
from ads_gym.nets.sparse import build_sparse

densenet = pytest.importorskip("torchvision.models.densenet")


def model_of(growth=6, blocks=(2, 3), first=8, **settings):
    torch.manual_seed(0)
    model = densenet.DenseNet(growth, blocks, first, **{"num_classes": 5} | settings)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.3, 0.3)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return model


def images_of(size=40, count=3):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bn_size": 2},
        {"growth": 5, "blocks": (3,), "first": 7},
        {"blocks": (2, 3, 2), "first": 9, "drop_rate": 0.5, "memory_efficient": True},
    ],
    ids=str,
)
def test_it_gives_what_the_model_gives(settings):
    model, images = model_of(**settings), images_of(64)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ours = from_torchvision(model.train(), (64, 64))
    assert model.training and not ours.training
    with torch.no_grad():
        torch.testing.assert_close(ours(images), model.eval()(images), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert sum(parameter.numel() for parameter in model.parameters()) == dense_cost(ours.config)[1]


@pytest.mark.parametrize("name", ["densenet121", slow("densenet161"), slow("densenet169"), slow("densenet201")])
def test_the_published_ones(name):
    model, images = getattr(densenet, name)(num_classes=10).eval(), images_of(224, 2)
    ours = from_torchvision(model)
    assert ours.config.image_shape == (3, 224, 224)
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))


def test_wrappers_half_precision_and_replaced_classifiers():
    model, images = model_of(), images_of()
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        with torch.no_grad():
            torch.testing.assert_close(from_torchvision(wrapped, (40, 40))(images), model.eval()(images))
    half = from_torchvision(model_of().half(), (40, 40))
    assert half.classifier.weight.dtype is torch.float32
    model.classifier = nn.Linear(model.classifier.in_features, 2)
    assert from_torchvision(model, (40, 40)).config.classes == 2


def test_a_network_of_ours_is_copied():
    ours = trained_looking(BN_SIZE)
    copy, images = from_torchvision(ours), network_input(random_images(BN_SIZE, 3).images)
    assert copy is not ours and copy.config == BN_SIZE
    with torch.no_grad():
        assert torch.equal(copy(images), ours(images))


def test_what_it_becomes_can_be_made_sparse_and_repaired():
    supernet, images = from_torchvision(model_of(), (40, 40)), images_of(40, 30)
    table = CostTable(supernet.config)
    network = build_sparse(Architecture(supernet.config, table.topology.chain()), supernet)
    assert all(layer.after <= layer.before * (1 + 1e-9) for layer in repair(network, supernet, images))
    assert network(images).shape == (30, 5)


def changed(change):
    model = model_of()
    change(model)
    return model


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Linear(3, 2), "Linear has no features.conv0.weight"),
        (changed(lambda m: setattr(m, "classifier", nn.Identity())), "is of type Identity, and should be one"),
        (
            changed(lambda m: setattr(m, "classifier", nn.Sequential(nn.Linear(23, 2)))),
            "Sequential, and should be one Linear",
        ),
        (changed(lambda m: setattr(m.features, "norm5", nn.Identity())), "norm5.weight is missing in this DenseNet"),
        (
            changed(lambda m: setattr(m.features.denseblock2.denselayer1, "conv2", nn.Conv2d(24, 6, 5))),
            r"denselayer1.conv2.weight is \[6, 24, 5, 5\] in this DenseNet and \[6, 24, 3, 3\]",
        ),
        (changed(lambda m: m.features.add_module("extra", nn.Conv2d(1, 1, 1))), "features.extra.weight"),
    ],
)
def test_what_is_no_densenet_of_theirs_is_told(model, says):
    with pytest.raises(InvalidValue, match=says):
        from_torchvision(model, (40, 40))


def test_weights_that_are_no_numbers():
    with pytest.raises(DamagedFile, match=r"DenseNet: the weights 'features.conv0.weight'"):
        from_torchvision(changed(lambda m: m.features.conv0.weight.data.fill_(float("nan"))), (40, 40))


def test_images_too_small():
    with pytest.raises(InvalidValue, match="too small"):
        from_torchvision(model_of(blocks=(1, 1, 1, 1)), (8, 8))


class Mine(nn.Module):
    """Another class with a DenseNet's parts."""

    def __init__(self, read_out):
        super().__init__()
        made = model_of()
        self.features, self.classifier, self.read_out = made.features, made.classifier, read_out

    def forward(self, images):
        return self.read_out(self.classifier, self.features(images).relu())


def test_what_forward_does_counts_and_not_the_names():
    assert isinstance(from_torchvision(Mine(lambda last, maps: last(maps.mean((2, 3)))), (40, 40)), DenseNet)
    for read_out, says in (
        (lambda last, maps: last(maps.amax((2, 3))), "forward does something else"),
        (lambda last, maps: maps, r"gives .* where a DenseNet gives logits \[2, 5\]"),
        (lambda last, maps: maps / "x", "fails on images"),
    ):
        with pytest.raises(InvalidValue, match=says):
            from_torchvision(Mine(read_out), (40, 40))
