import json

import numpy as np
import pytest
import torch
from networks import KINDS, random_images, trained_looking
from torch.utils.flop_counter import FlopCounterMode

import ads_gym
from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.images import network_input
from ads_gym.errors import DamagedFile, InvalidValue, NotFound
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.sparse import build_sparse, calibrate, save
from ads_gym.topology import Scope, Topology


def masks_of(topology, n, seed=0):
    rng = np.random.default_rng(seed)
    masks = rng.random((n, topology.size)) < rng.random((n, 1))
    masks[0], masks[1] = True, False
    return masks


@pytest.mark.parametrize("config", KINDS, ids=str)
@pytest.mark.parametrize("scope", Scope)
def test_sparse_equals_masked_supernet_and_costs_what_the_closed_form_says(config, scope):
    supernet, table = trained_looking(config).double(), CostTable(config, scope)
    images = network_input(random_images(config, 3).images, torch.float64)
    for mask in masks_of(table.topology, 100 // len(KINDS)):
        sparse = build_sparse(Architecture(config, mask, scope), supernet)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            logits = sparse(images)
        torch.testing.assert_close(logits, supernet(images, mask, scope).detach(), rtol=0, atol=1e-9)
        assert counter.get_total_flops() == 2 * len(images) * int(table.macs(mask))
        assert sum(p.numel() for p in sparse.parameters()) == int(table.parameters(mask))


def test_train_mode_agrees_too():
    config = KINDS[1]
    supernet = trained_looking(config).double().train()
    mask = masks_of(Topology(config.blocks), 3)[2]
    images = network_input(random_images(config, 9).images, torch.float64)
    sparse = build_sparse(Architecture(config, mask), supernet)
    torch.testing.assert_close(sparse(images), supernet(images, mask), rtol=0, atol=1e-9)


def test_parameter_names_are_torchvisions():
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.DenseNet(growth_rate=8, block_config=(2, 3), num_init_features=16, num_classes=5)
    ours = DenseNet(DenseNetConfig((2, 3), 8, 16, "conv7-pool", True, 0.5, (3, 64, 64), 5))
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-4, atol=1e-5)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    config = KINDS[0]
    architecture = Architecture(config, masks_of(Topology(config.blocks), 3)[2])
    images = network_input(random_images(config, 20).images)
    network = calibrate(build_sparse(architecture, trained_looking(config)), images)
    written = save(network, tmp_path / "deep" / "net")
    assert [path.name for path in written] == ["net.json", "net.safetensors"]
    for path in (tmp_path / "deep" / "net", *written):
        loaded = ads_gym.load(path)
        assert loaded.architecture == architecture and not loaded.training
        assert torch.equal(loaded(images), network(images))
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["net.json", "net.safetensors"]


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda json_, weights: json_.unlink(), NotFound),
        (lambda json_, weights: weights.unlink(), NotFound),
        (lambda json_, weights: json_.write_text("{"), DamagedFile),
        (lambda json_, weights: json_.write_bytes(b"\xff\xfe\x00"), DamagedFile),
        (lambda json_, weights: json_.write_text('{"format": "other"}'), DamagedFile),
        (lambda json_, weights: json_.write_text("[" * 100_000), DamagedFile),
        (lambda json_, weights: weights.write_bytes(weights.read_bytes()[:-10]), DamagedFile),
        (lambda json_, weights: weights.write_bytes(b"no safetensors"), DamagedFile),
        (lambda json_, weights: edit(json_, version=99), DamagedFile),
        (lambda json_, weights: edit(json_, mask="01"), DamagedFile),
        (lambda json_, weights: edit(json_, mask=3), DamagedFile),
        (lambda json_, weights: edit(json_, scope="everything"), DamagedFile),
        (lambda json_, weights: edit(json_, mask="1" * Topology(KINDS[0].blocks).size), DamagedFile),
        (lambda json_, weights: edit(json_, config={"blocks": [2]}), DamagedFile),
    ],
)
def test_damaged_or_foreign_files_are_told(tmp_path, damage, error):
    config = KINDS[0]
    architecture = Architecture(config, Topology(config.blocks).chain())
    json_, weights = save(build_sparse(architecture, trained_looking(config)), tmp_path / "net")
    damage(json_, weights)
    with pytest.raises(error, match="net"):
        ads_gym.load(tmp_path / "net")


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_architecture_of_another_network_is_refused():
    architecture = Architecture(KINDS[0], Topology(KINDS[0].blocks).chain())
    with pytest.raises(InvalidValue, match="supernet"):
        build_sparse(architecture, trained_looking(KINDS[1]))


def test_who_looks_in_on_a_network_sees_whole_batches():
    config = DenseNetConfig((3, 3), 4, 4, "conv3", image_shape=(1, 32, 32))
    network = build_sparse(Architecture(config, [True, False] * 3), trained_looking(config)).eval()
    images = network_input(random_images(config, 300).images, torch.float32)
    sizes = []
    hook = network.classifier.register_forward_hook(lambda module, read, out: sizes.append(len(out)))
    with torch.no_grad():
        network(images)
        assert sizes == [300]
        hook.remove()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train().reset_running_stats()
        network(images)
    assert {int(m.num_batches_tracked) for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1}
