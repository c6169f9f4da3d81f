"""Tasks by name and by folder, how they are saved, and what bad files and names are answered with."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.spec import SOURCES
from ads_gym.data.splits import DataSpec, Split, default_spec
from ads_gym.errors import DamagedFile, DeviceUnavailable, InvalidValue, NotFound, StorageError, UnknownName
from ads_gym.evaluators.base import Evaluator
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.recipe import Recipe
from ads_gym.problem import make_problem
from ads_gym.records import to_values
from ads_gym.tasks import PLANTED, PlantedTask, SupernetTask, Task, save_task, task_names, tasks_home
from ads_gym.tasks.presets import PRESETS, is_preset, split_name
from ads_gym.tasks.training_record import TrainingRecord
from ads_gym.topology import Scope, Topology

RECORD = TrainingRecord(Recipe(epochs=1), "digest")
CONFIG = DenseNetConfig((2, 3), growth=2, stem_channels=3, image_shape=(1, 8, 8))
DIGITS = DataSpec("digits", None, 100, None, calibration=60)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A fresh home, so that nothing trained on this computer is seen, nor is anything left there."""
    monkeypatch.setenv("ADS_GYM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def weights():
    torch.manual_seed(0)
    return DenseNet(CONFIG).state_dict()


@pytest.fixture
def saved(tmp_path, weights):
    return save_task(tmp_path / "mine", "mine", CONFIG, DIGITS, weights, RECORD)


def run_python(code, *options):
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )


@pytest.mark.parametrize(("name", "decisions"), [("planted-20", 20), ("planted-45", 45), ("planted-198", 198)])
def test_planted_tasks_are_always_there(name, decisions):
    task = Task.load(name)
    evaluator = task.evaluator()
    assert isinstance(evaluator, PlantedEvaluator) and isinstance(evaluator, Evaluator)
    assert evaluator.topology.size == decisions and evaluator.config == task.config
    assert not task.has_network and isinstance(task, PlantedTask)
    inherit = lambda: task.inherit(Architecture(task.config, evaluator.topology.dense()))  # noqa: E731
    for ask in (lambda: task.images(Split.VALID), task.calibration, task.supernet, inherit):
        with pytest.raises(InvalidValue, match="has no images and no weights"):
            ask()


def test_a_task_is_of_some_kind():
    """It was once possible to make one without data, which then silently had a planted evaluator."""
    with pytest.raises(TypeError):
        Task("mine", CONFIG)
    with pytest.raises(TypeError, match="data"):
        SupernetTask("mine", CONFIG)


def test_loading_a_planted_task_imports_no_torch():
    code = (
        "from ads_gym.tasks import Task; e = Task.load('planted-45').evaluator(); "
        "e.evaluate(e.topology.dense()[None]); print(e.topology.size)"
    )
    done = run_python(code, "-X", "importtime")
    assert done.stdout == "45\n" and "ads_gym.tasks" in done.stderr
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "torchvision", "sklearn", "safetensors", "PIL", "scipy"}


def test_loading_any_task_imports_no_torch(saved):
    code = "import sys; from ads_gym.tasks import Task; print(Task.load({!r}).name, 'torch' in sys.modules)"
    assert run_python(code.format(str(saved.folder))).stdout == "mine False\n"


def evaluator_of(task, scope, spec):
    """What a problem of the task has, without what makes it when it is needed."""
    return make_problem(task, scope=scope, evaluator=spec).evaluator.inner


def test_evaluators_by_spec():
    task = Task.load("planted-45")
    hidden = evaluator_of(task, Scope.ALL, "planted:pairwise:7")
    assert hidden.fingerprint == PlantedEvaluator(task.config, Scope.ALL, "pairwise", 7).fingerprint
    assert hidden.fingerprint != task.evaluator(Scope.ALL).fingerprint
    assert task.evaluator().fingerprint == evaluator_of(task, "layers", "planted:linear:0").fingerprint


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("planted", InvalidValue, "'planted:KIND:SEED'"),
        ("planted:linear", InvalidValue, "'planted:KIND:SEED'"),
        ("planted:linear:-1", InvalidValue, "'planted:KIND:SEED'"),
        ("planted::3", InvalidValue, "'planted:KIND:SEED'"),
        ("planted:liner:3", UnknownName, "Did you mean 'linear'"),
        ("inherited", InvalidValue, "'module:name'"),
        ("no_such_module_here:Thing", NotFound, "no module 'no_such_module_here'"),
        ("math:pi", InvalidValue, "should be callable"),
        ("test_tasks:not_an_evaluator", InvalidValue, "which is no Evaluator"),
        ("test_tasks:another_network", InvalidValue, "and should those of"),
    ],
)
def test_wrong_evaluator_specs(monkeypatch, spec, error, says):
    monkeypatch.setitem(sys.modules, "test_tasks", sys.modules[__name__])
    with pytest.raises(error, match=says):
        evaluator_of("planted-45", "layers", spec)


def not_an_evaluator(task, scope):
    return task.name


def another_network(task, scope):
    return PlantedEvaluator(CONFIG, scope)


class MostlyDense:
    """Somebody's own evaluator: no base class, the four of the protocol."""

    def __init__(self, task, scope):
        self.config, self.topology, self.fingerprint = task.config, Topology(task.config.blocks, scope), "mostly dense"

    def evaluate(self, masks):
        return PlantedEvaluator(self.config, self.topology.scope).evaluate(masks)


def test_own_evaluators_by_module_and_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "test_tasks", sys.modules[__name__])
    evaluator = evaluator_of("planted-20", Scope.ALL, "test_tasks:MostlyDense")
    assert isinstance(evaluator.evaluator, MostlyDense) and evaluator.topology.scope is Scope.ALL


def test_a_saved_task_comes_back_as_it_was(saved, weights):
    task = Task.load(saved.folder)
    assert task == saved
    assert (task.name, task.config, task.data, task.record) == ("mine", CONFIG, DIGITS, RECORD)
    network = task.supernet()
    assert not network.training
    assert all(torch.equal(tensor, weights[key]) for key, tensor in network.state_dict().items())
    assert pickle.loads(pickle.dumps(task)) == task
    values = json.loads((saved.folder / "task.json").read_text())
    assert set(values) == {"format", "version", "name", "config", "data", "record", "data_from_here", "table"}
    assert (values["format"], values["version"]) == ("ads-gym task", 1)
    assert sorted(path.name for path in saved.folder.iterdir()) == ["supernet.safetensors", "task.json"]


def test_images_of_a_task(saved):
    images = saved.images(Split.VALID)
    assert images.image_shape == CONFIG.image_shape and len(images) == 100
    assert Task.load(saved.folder).images("valid") is images
    assert len(saved.calibration()) == 60
    assert saved.supernet()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(UnknownName, match="Did you mean 'valid'"):
        saved.images("valdi")


def test_inherited_evaluator_of_a_task(saved):
    evaluator = saved.evaluator(device="cpu")
    assert isinstance(evaluator, Evaluator) and evaluator.config == CONFIG
    metrics = evaluator.evaluate(evaluator.topology.dense()[None])[0]
    assert 0 <= metrics.accuracy <= 1 and metrics.relative_macs == 1
    assert isinstance(evaluator_of(saved, Scope.LAYERS, "planted:given:1"), PlantedEvaluator)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_a_device_that_is_not_there(saved):
    with pytest.raises(DeviceUnavailable):
        saved.evaluator(device="cuda")


def test_own_data_as_a_task(tmp_path, weights, monkeypatch):
    rng = np.random.default_rng(0)
    path = tmp_path / "data" / "own.npz"
    path.parent.mkdir()
    np.savez(path, images=rng.integers(0, 256, (80, 8, 8)).astype(np.uint8), labels=np.arange(80) % 10)
    monkeypatch.chdir(tmp_path / "data")
    spec = DataSpec("own.npz", None, 16, 16, calibration=40)
    save_task(tmp_path / "task", "own", CONFIG, spec, weights)
    monkeypatch.chdir(tmp_path)
    task = Task.load("task")
    assert task.data.source == str(path)
    assert [len(task.images(split)) for split in Split] == [48, 16, 16]
    np.savez(path, images=rng.integers(0, 256, (80, 8, 8)).astype(np.uint8), labels=np.arange(80) % 11)
    with pytest.raises(InvalidValue, match=r"'own' was trained on images .* of 10 classes, and .*labels up to 10"):
        Task.load("task").images(Split.TRAIN)
    np.savez(path, images=rng.integers(0, 256, (80, 9, 8)).astype(np.uint8), labels=np.arange(80) % 10)
    with pytest.raises(InvalidValue, match=r"now has images \(1, 9, 8\)"):
        Task.load("task").images(Split.VALID)
    path.rename(tmp_path / "own.npz")
    with pytest.raises(NotFound, match="data_root"):
        Task.load("task").images(Split.VALID)


def test_named_tasks_live_in_the_home(home, weights):
    assert tasks_home() == home / "tasks"
    with pytest.raises(NotFound, match="ads-gym train-supernet --task fashion-mnist") as caught:
        Task.load("fashion-mnist")
    assert str(home / "tasks" / "fashion-mnist") in str(caught.value)
    before = {entry.name: entry for entry in task_names()}
    assert not before["fashion-mnist"].ready and before["fashion-mnist"].where == str(home / "tasks" / "fashion-mnist")
    assert set(before) == {*PRESETS, *PLANTED}
    assert all(before[name].ready and before[name].where == "built in" for name in PLANTED)
    config = DenseNetConfig((2, 3), growth=2, stem_channels=3, image_shape=(1, 28, 28))
    network = DenseNet(config)
    save_task(tasks_home() / "fashion-mnist", "fashion-mnist", config, default_spec("fashion-mnist"), weights)
    save_task(tasks_home() / "bugs", "bugs", config, default_spec("fashion-mnist"), network.state_dict())
    after = {entry.name: entry for entry in task_names()}
    assert after["fashion-mnist"].ready and after["bugs"].ready
    assert Task.load("fashion-mnist").config == config and Task.load("bugs").name == "bugs"
    (home / "tasks" / "bugs" / "supernet.safetensors").unlink()
    assert not {entry.name: entry for entry in task_names()}["bugs"].ready
    with pytest.raises(NotFound, match=r"its weights .*supernet\.safetensors are missing"):
        Task.load("bugs")


def test_digits_trained_by_the_user_go_before_ours(weights):
    save_task(tasks_home() / "digits", "digits", CONFIG, DIGITS, weights, RECORD)
    assert Task.load("digits").record == RECORD
    assert next(entry for entry in task_names() if entry.name == "digits").where == str(tasks_home() / "digits")


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("digts", UnknownName, "Did you mean 'digits'"),
        ("planted-46", UnknownName, "Did you mean 'planted-45'"),
        ("", InvalidValue, "a path is a text"),
        ("./nowhere", NotFound, "expected task.json and supernet.safetensors"),
        (".", NotFound, "train-supernet --data PATH --out FOLDER"),
    ],
)
def test_wrong_names(tmp_path, monkeypatch, name, error, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        Task.load(name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("no json", "is no task that can be used"),
        ("[]", 'lacks "format"'),
        ({"format": "ads-gym architecture"}, 'lacks "format"'),
        ({"version": 2}, "version 2, and this ads-gym reads 1: upgrade"),
        ({"name": 3}, "name should be a valid string, got 3"),
        ({"record": None}, "record should be an object"),
        ({"record": {"recipe": {"epochs": 1.5}}}, r"record\.recipe.* integer"),
        ({"record": {"epochs": 1}}, r"record\.epochs"),
        ({"config": {}}, r"config\.blocks is missing"),
        ({"data": None}, "data should be an object"),
        ({"data": to_values(DIGITS) | {"valid": 0}}, r"data\.valid should be greater than or equal to 1, got 0"),
        ("[" * 100_000, "is no task that can be used"),
        (b"\xff\xfe", "is no task that can be used"),
    ],
)
def test_damaged_and_foreign_descriptions_are_named(saved, change, says):
    path = saved.folder / "task.json"
    if isinstance(change, dict):
        change = json.dumps(json.loads(path.read_text()) | change)
    path.write_bytes(change if isinstance(change, bytes) else change.encode())
    with pytest.raises(DamagedFile, match=says) as caught:
        Task.load(saved.folder)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("how", ["empty", "cut", "pickle", "another network", "NaN", "missing"])
def test_damaged_and_foreign_weights_are_named(saved, weights, how):
    path = saved.folder / "supernet.safetensors"
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "pickle":
        torch.save(weights, path)
    elif how == "another network":
        other = DenseNetConfig((2, 2), growth=2, stem_channels=3, image_shape=(1, 8, 8))
        save_task(saved.folder, "mine", CONFIG, DIGITS, DenseNet(other).state_dict())
    elif how == "NaN":
        weights["classifier.weight"][0, 0] = float("nan")
        save_task(saved.folder, "mine", CONFIG, DIGITS, weights)
    else:
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2]}[how])
    with pytest.raises(NotFound if how == "missing" else DamagedFile, match=r"supernet\.safetensors"):
        saved.supernet()


def test_a_record_of_another_kind_leaves_the_old_task(saved, weights):
    with pytest.raises(InvalidValue, match="record should be an instance of TrainingRecord"):
        save_task(saved.folder, "mine", CONFIG, DIGITS, weights, {"device": torch.device("cpu")})
    assert Task.load(saved.folder) == saved


def test_a_folder_that_cannot_be_made(tmp_path, weights):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written: "):
        save_task(tmp_path / "file" / "task", "mine", CONFIG, DIGITS, weights)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_old_task(small_disk, weights):
    folder = small_disk / "mine"
    saved = save_task(folder, "mine", CONFIG, DIGITS, weights)
    large = DenseNetConfig((12, 12), growth=24, image_shape=(1, 8, 8))
    with pytest.raises(StorageError, match="no space left"):
        save_task(folder, "mine", large, DIGITS, DenseNet(large).state_dict())
    assert Task.load(folder) == saved and Task.load(folder).supernet()
    assert sorted(path.name for path in folder.iterdir()) == ["supernet.safetensors", "task.json"]


@pytest.mark.slow
def test_killed_while_saving_it_is_whole_or_missing(tmp_path):
    """Two tasks replace each other in one folder until the kill; weights tell which description they belong to."""
    code = f"""
import itertools, torch
from test_tasks import CONFIG, DIGITS, DenseNet, TrainingRecord, save_task
state = DenseNet(CONFIG).state_dict()
for i in itertools.count():
    state["classifier.bias"].fill_(i)
    save_task({str(tmp_path / "mine")!r}, "mine", CONFIG, DIGITS, state, TrainingRecord(data=str(i)))
"""
    found = 0
    for wait in np.random.default_rng(0).uniform(0, 0.3, 10):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
            while not (tmp_path / "mine" / "task.json").exists() and process.poll() is None:
                time.sleep(0.01)
            time.sleep(wait)
            process.kill()
        try:
            task = Task.load(tmp_path / "mine")
        except NotFound:
            continue
        found += 1
        assert (task.supernet().classifier.bias == int(task.record.data)).all()
    assert found


def test_names_say_seeds():
    assert split_name("digits@3") == ("digits", 3) and split_name("digits") == ("digits", None)
    for other in ("digits@", "digits@03", "digits@-1", "@3", "digits@3@4", "digits@9999999999"):
        assert not is_preset(other)
    for name, preset in PRESETS.items():
        assert preset.source in SOURCES and is_preset(f"{name}@12")


def test_a_name_that_is_not_trained_says_how():
    for name in ("digits-deep", "digits@4"):
        with pytest.raises(NotFound, match=f"ads-gym train-supernet --task {name}$"):
            Task.load(name)
    with pytest.raises(UnknownName, match="digits-deep"):
        Task.load("digits-depp")
