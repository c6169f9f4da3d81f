from dataclasses import replace

import numpy as np
import pytest
import torch

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.splits import DataSpec, Split, default_spec
from ads_gym.errors import DamagedFile, InvalidValue, NotFound
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.training import Recipe
from ads_gym.supernet_training import SPREAD_COSTS, SupernetSettings, train_supernet
from ads_gym.tasks import Task

CONFIG = DenseNetConfig((3, 3), 4, 6, image_shape=(1, 8, 8))
DATA = replace(default_spec("digits"), train=300, calibration=100)


def make(folder, weights=None, epochs=2, **options):
    settings = SupernetSettings(DATA, CONFIG, Recipe(epochs=epochs), weights)
    return train_supernet(settings, folder, "mine", device="cpu", **options)


def test_a_task_comes_out_and_plays(tmp_path):
    made = make(tmp_path / "task")
    task = Task.load(str(tmp_path / "task"))
    assert (task.name, task.config, task.data) == ("mine", CONFIG, made.data)
    assert sorted(path.name for path in (tmp_path / "task").iterdir()) == ["supernet.safetensors", "task.json"]
    rows = task.record.spread
    assert [row.relative_cost for row in rows] == list(SPREAD_COSTS)
    dense = task.evaluator("layers", "cpu").evaluate(np.ones((1, 6), dtype=bool))[0]
    assert (rows[0].accuracy, rows[0].loss) == (dense.accuracy, dense.loss)


def test_the_same_call_finds_its_task_where_data_are_named_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    np.savez("mine.npz", images=images, labels=np.arange(60) % 10)
    data = DataSpec("mine.npz", None, 10, 10, calibration=10)
    settings = SupernetSettings(data, CONFIG, Recipe(epochs=1, batch_size=8))
    made = train_supernet(settings, "task", "mine", device="cpu")
    before = made.files.weights.stat().st_mtime_ns
    assert train_supernet(settings, "task", "mine", device="cpu") == made
    assert made.files.weights.stat().st_mtime_ns == before


def test_own_weights_are_taken_as_they_are(tmp_path):
    torch.manual_seed(3)
    network = DenseNet(CONFIG)
    torch.save(network.state_dict(), tmp_path / "own.pt")
    task = make(tmp_path / "task", tmp_path / "own.pt")
    for name, parameter in task.supernet().named_parameters():
        assert torch.equal(parameter, network.state_dict()[name])
    again = make(tmp_path / "again", task.files.weights)
    assert torch.equal(again.supernet().classifier.weight, network.classifier.weight)


def test_weights_that_are_none_are_told(tmp_path):
    with pytest.raises(NotFound, match=r"missing\.pt"):
        make(tmp_path / "task", tmp_path / "missing.pt")
    for name, content in (("a.pt", b"junk"), ("a.safetensors", b"junk")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedFile, match=name):
            make(tmp_path / "task", tmp_path / name)
    torch.save({"epoch": 3}, tmp_path / "b.pt")
    with pytest.raises(DamagedFile, match="state dict"):
        make(tmp_path / "task", tmp_path / "b.pt")
    torch.save(DenseNet(replace(CONFIG, growth=5)).state_dict(), tmp_path / "c.pt")
    with pytest.raises(InvalidValue, match="--growth"):
        make(tmp_path / "task", tmp_path / "c.pt")
    assert not (tmp_path / "task" / "task.json").exists()


def test_a_killed_training_goes_on(tmp_path):
    class Killed(Exception):
        pass

    def kill(epoch, loss):
        if epoch == 2:
            raise Killed

    whole = make(tmp_path / "whole", epochs=3)
    with pytest.raises(Killed):
        make(tmp_path / "task", epochs=3, progress=kill)
    seen = []
    resumed = make(tmp_path / "task", epochs=3, progress=lambda epoch, loss: seen.append(epoch))
    assert seen == [3]
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_kill_while_the_spread_is_measured_does_not_cost_the_training(tmp_path, monkeypatch):
    from ads_gym import supernet_training as supernets

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(supernets, "spread", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "task")
    make(tmp_path / "task", progress=lambda epoch, loss: pytest.fail("trained again"))
    assert sorted(path.name for path in (tmp_path / "task").iterdir()) == ["supernet.safetensors", "task.json"]


def test_training_does_not_read_test(tmp_path, monkeypatch):
    from ads_gym import supernet_training as supernets

    real = supernets.load_splits

    def without_test(*args):
        splits = dict(real(*args))
        del splits[Split.TEST]
        return splits

    monkeypatch.setattr(supernets, "load_splits", without_test)
    assert make(tmp_path / "task").record.spread
