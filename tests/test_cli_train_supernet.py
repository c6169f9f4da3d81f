"""`ads-gym train-supernet` as people use it: twice, with changed data, moved, in small windows, without rights."""

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import run_here
from marks import slow
from PIL import Image
from users import be_nameless, needs_linux, needs_root, obey_modes
from users import run_program as run_as

from ads_gym.architecture import DenseNetConfig
from ads_gym.errors import InvalidValue
from ads_gym.files import locked
from ads_gym.nets.cost import dense_cost
from ads_gym.nets.densenet import DenseNet
from ads_gym.tables import make_table, print_table
from ads_gym.tasks import Task
from ads_gym.tasks.presets import NETWORKS, Preset, with_network

NETWORK = ("--blocks", "2,2", "--growth", "2", "--stem", "4")
TRAIN = ("train-supernet", "--data", "mine.npz", *NETWORK, "--epochs", "1", "--batch-size", "16")
posix = pytest.mark.skipif(os.name != "posix", reason="modes as POSIX has them")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADS_GYM_HOME", str(tmp_path / "home"))
    save_images(tmp_path / "mine.npz")
    return tmp_path


@pytest.fixture
def run(place, capsys):
    return lambda *arguments: run_here(capsys, *arguments)


def save_images(path, seed=0, shift=0):
    images = np.random.default_rng(seed).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    np.savez(path, images=images, labels=(np.arange(60) + shift) % 2)


def refused(done, *says):
    assert done.code == 2 and done.out == "" and done.err.startswith("Error: ") and done.err.count("\n") == 1, done
    for part in says:
        assert part in done.err, done.err


@pytest.mark.parametrize("change", [{"seed": 1}, {"shift": 1}], ids=["images", "labels"])
def test_a_task_is_not_shown_for_other_data(run, place, change):
    first = run(*TRAIN, "--out", "task")
    assert first.code == 0 and run(*TRAIN, "--out", "task").out == first.out
    save_images(place / "mine.npz", **change)
    weights = (place / "task/supernet.safetensors").read_bytes()
    refused(run(*TRAIN, "--out", "task"), "changed", "--replace", "--out")
    assert (place / "task/supernet.safetensors").read_bytes() == weights
    again = run(*TRAIN, "--out", "task", "--replace")
    assert again.code == 0 and run(*TRAIN, "--out", "task").out == again.out


def test_a_name_says_the_seed(run):
    small = (*NETWORK, "--epochs", "1", "--train", "100", "--valid", "40")
    for seed in (1, 2):
        done = run("train-supernet", "--task", f"digits@{seed}", *small)
        assert done.code == 0 and f"ads-gym search --task digits@{seed}" in done.out
        assert Task.load(f"digits@{seed}").record.recipe.seed == seed
    one, two = (Task.load(f"digits@{seed}") for seed in (1, 2))
    assert one.data == two.data and one.files.weights.read_bytes() != two.files.weights.read_bytes()
    refused(run("train-supernet", "--task", "digits@1", "--seed", "2", *small), "says the seed 1, and --seed 2")
    assert run("train-supernet", "--task", "digits@1", "--seed", "1", *small).code == 0
    assert "digits@2" in run("tasks").out


def test_a_task_is_not_shown_for_other_weights(run, place):
    config = DenseNetConfig((2, 2), 2, 4, image_shape=(1, 8, 8), classes=2)
    command = (*TRAIN, "--out", "task", "--weights", "w.pt")
    torch.save(DenseNet(config).state_dict(), place / "w.pt")
    first = run(*command)
    assert first.code == 0 and run(*command).out == first.out
    torch.save(DenseNet(config).state_dict(), place / "w.pt")
    refused(run(*command), "other settings", "--replace")


def test_a_killed_training_does_not_go_on_with_other_data(place):
    """The checkpoint of the old images is of no use for the new."""
    from dataclasses import replace

    from ads_gym.data.splits import default_spec
    from ads_gym.nets.training import Recipe
    from ads_gym.supernet_training import SupernetSettings, train_supernet

    def train(progress=None):
        config = DenseNetConfig((2, 2), 2, 4, image_shape=(1, 8, 8), classes=2)
        data = replace(default_spec("mine.npz"), calibration=10)
        settings = SupernetSettings(data, config, Recipe(epochs=2, batch_size=16))
        return train_supernet(settings, "task", "task", device="cpu", progress=progress)

    def die(epoch, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(die)
    save_images(place / "mine.npz", seed=1)
    seen = []
    train(lambda epoch, loss: seen.append(epoch))
    assert seen == [1, 2]


def test_no_skip_connection_is_said_before_training(run, place, monkeypatch):
    from ads_gym import supernet_training as supernets

    monkeypatch.setattr(supernets, "fit", lambda *_: pytest.fail("trained"))
    refused(run(*TRAIN, "--blocks", "1,1", "--out", "task"), "no skip connection", "two layers")
    refused(run(*TRAIN, "--weights", "missing.pt", "--out", "task"), "missing.pt")
    assert not (place / "task").exists()


def test_two_at_once_in_one_folder(run, place):
    with locked(place / "task", "training a supernet"):
        refused(run(*TRAIN, "--out", "task"), "another process is training", "task", "wait")
    assert run(*TRAIN, "--out", "task").code == 0


@pytest.mark.parametrize("out", ["digits", "planted-20", "deep/er", "a b"])
def test_the_command_that_it_ends_with_searches_this_task(run, place, out):
    done = run(*TRAIN, "--out", out)
    assert done.code == 0
    line = next(line for line in done.out.splitlines() if line.startswith("search "))
    assert Task.load(shlex.split(line)[-1]).folder == place / out


def test_tilde_is_the_home_folder_wherever_a_path_is_given(run, place, monkeypatch):
    monkeypatch.setenv("HOME", str(place / "user"))
    (place / "user").mkdir()
    shutil.copy(place / "mine.npz", place / "user/data.npz")
    done = run("train-supernet", "--data=~/data.npz", *TRAIN[3:], "--out=~/task")
    assert done.code == 0 and (place / "user/task/task.json").is_file()
    done = run(
        "train-supernet", "--data=~/data.npz", *TRAIN[3:], "--out=~/two", "--weights=~/task/supernet.safetensors"
    )
    assert done.code == 0 and not (place / "~").exists()
    import ads_gym
    from ads_gym.architecture import Architecture
    from ads_gym.nets.sparse import SparseDenseNet, save

    config = Task.load("~/task").config
    save(SparseDenseNet(Architecture(config, [True] * 2)), "~/net")
    assert ads_gym.load("~/net").architecture.config == config
    assert run("show", "~/net.json").code == 0 and run("latency", "~/net", "--repeats", 2, "--batch", 1).code == 0
    assert not (place / "~").exists()


def wrap(state):
    return {f"module.{name}": tensor for name, tensor in state.items()}


def old_names(state):
    for kind in ("norm", "relu", "conv"):
        for number in "12":
            state = {name.replace(f".{kind}{number}.", f".{kind}.{number}."): value for name, value in state.items()}
    return state


@pytest.mark.parametrize("change", [wrap, old_names, lambda state: wrap(old_names(state))])
def test_names_of_other_programs_are_understood_in_weights(run, place, change):
    config = DenseNetConfig((2, 2), 2, 4, bottleneck=True, image_shape=(1, 8, 8), classes=2)
    network = DenseNet(config)
    named = change(network.state_dict())
    assert set(named) != set(network.state_dict())
    torch.save(named, place / "w.pt")
    done = run(*TRAIN, "--bottleneck", "--weights", "w.pt", "--out", "task")
    assert done.code == 0, done.err
    assert torch.equal(Task.load("./task").supernet().classifier.weight, network.classifier.weight)


@posix
@pytest.mark.parametrize("umask", [0o027, 0o002])
def test_all_files_have_the_umasks_mode(run, place, umask):
    before = os.umask(umask)
    try:
        assert run(*TRAIN, "--out", "task").code == 0
        assert run("search", "--task", "./task", "--agent", "random", "--evaluations", 3, "--run", "r").code == 0
        assert run("retrain", "r", "--epochs", 1, "--seeds", 1, "--device", "cpu").code == 0
    finally:
        os.umask(before)
    written = [*(place / "task").iterdir(), *(place / "r").glob("best.*"), *(place / "r").glob("retrain-*/*")]
    assert len(written) == 2 + 2 + 5
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in written if path.name != "best.json"}
    assert set(modes.values()) == {oct(0o666 & ~umask)}, modes


def test_a_project_that_was_moved_is_the_same(run, place):
    """With its data, so that neither lies where it was."""
    (place / "old").mkdir()
    (place / "mine.npz").rename(place / "old/mine.npz")
    os.chdir(place / "old")
    assert run(*TRAIN, "--out", "task").code == 0
    assert run("search", "--task", "./task", "--agent", "random", "--evaluations", 3, "--run", "runs/r").code == 0
    os.chdir(place)
    (place / "old").rename(place / "new")
    os.chdir(place / "new")
    assert run(*TRAIN, "--out", "task").code == 0
    assert Task.load("./task").images("valid").image_shape == (1, 8, 8)
    done = run("retrain", "runs/r", "--epochs", 1, "--seeds", 1, "--device", "cpu")
    assert done.code == 0, done.err


@needs_linux
@pytest.mark.parametrize(
    "command",
    [
        ("show", "shut/in/best.json"),
        ("search", "--task", "shut/in/task", "--run", "r"),
        (*TRAIN, "--out", "shut/in/task"),
        slow(("show", "shut/in")),
        slow(("latency", "shut/in/net")),
        slow(("retrain", "shut/in/run")),
        slow(("throughput", "--task", "shut/in/task")),
        slow((*TRAIN[:1], "--data", "shut/in/mine.npz")),
        slow((*TRAIN, "--out", "task", "--weights", "shut/in/w.pt")),
        slow(("train-supernet", "--task", "fashion-mnist", "--data-root", "shut/in")),
    ],
    ids=" ".join,
)
def test_below_a_folder_that_may_not_be_entered(place, command):
    (place / "shut").mkdir(mode=0)
    done = run_as(obey_modes, *command, cwd=place, ADS_GYM_HOME=str(place / "home"))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done
    said = done.stderr.splitlines()[-1]  # before it: what is being read, where that takes long
    assert said.startswith("Error: ") and "permission denied" in said and "shut" in said


@needs_linux
@pytest.mark.parametrize("command", [TRAIN, slow(("tasks",)), slow(("search", "--task", "digits"))], ids=" ".join)
def test_a_home_that_may_not_be_entered(place, command):
    (place / "shut").mkdir(mode=0)
    done = run_as(obey_modes, *command, cwd=place, ADS_GYM_HOME=str(place / "shut/in"))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done
    assert done.stderr.splitlines()[-1].startswith("Error: ") and "permission denied" in done.stderr, done


@needs_root
@pytest.mark.parametrize(
    "command", [("search",), slow(("tasks",)), slow(("train-supernet", "--task", "digits"))], ids=" ".join
)
def test_a_user_without_a_home(place, command):
    done = run_as(be_nameless, *command, cwd=place)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done
    assert done.stderr.startswith("Error: ") and "HOME" in done.stderr


@pytest.mark.slow
@needs_linux
def test_weights_that_may_not_be_read_are_told_so(run, place):
    assert run(*TRAIN, "--out", "task").code == 0
    (place / "task/supernet.safetensors").chmod(0)
    done = run_as(obey_modes, "search", "--task", "./task", "--run", "r", cwd=place, ADS_GYM_HOME=str(place / "home"))
    assert done.returncode == 2 and "permission denied" in done.stderr and "fit" not in done.stderr, done


@needs_linux
def test_a_network_that_may_not_be_read_is_told_so(place):
    from users import run_python

    code = """
import ads_gym, sys
from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.nets.sparse import SparseDenseNet, save
json, weights = save(SparseDenseNet(Architecture(DenseNetConfig((2, 2)), [True] * 2)), "net")
weights.chmod(0)
try: ads_gym.load("net")
except ads_gym.errors.StorageError as error: print(error)
"""
    done = run_python(obey_modes, code, cwd=place)
    assert "net.safetensors cannot be read: permission denied" in done.stdout, done


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_numbers_are_whole_however_narrow_the_terminal(run, place, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    done = run(*TRAIN, "--out", "task")
    assert done.code == 0 and "…" not in done.out
    spread = Task.load("./task").record.spread
    for row in spread:
        assert f"{row.accuracy:.4f}" in done.out and f"{row.loss:.4f}" in done.out
    done = run("search", "--task", "./task", "--agent", "random", "--evaluations", 3, "--run", "r")
    assert done.code == 0 and "…" not in done.out
    result = json.loads((place / "r/manifest.json").read_text())["result"]
    for line in result["table"]:
        assert f"{line['accuracy']:.4f}" in done.out and f"{line['parameters']:,.0f}" in done.out
    done = run("retrain", "r", "--epochs", 1, "--seeds", 2)
    assert done.code == 0 and "…" not in done.out and done.out.count(" ± ") == 4


def test_names_with_brackets_are_shown_as_they_are(run, place):
    assert run(*TRAIN, "--out", "home/tasks/run[v2]").code == 0
    assert "run[v2]" in run("tasks").out


def test_tables_show_text_as_it_is_and_wrap_it(capsys):
    from rich.console import Console

    table = make_table(("name", "text"), ("number",), title="[title]")
    table.add_row("a[b]c", "word " * 30, "1,234,567,890")
    print_table(table, Console(width=40))
    out = capsys.readouterr().out
    assert "a[b]c" in out and "[title]" in out and "1,234,567,890" in out
    assert max(map(len, out.splitlines())) <= 40


def test_a_piped_training_says_what_it_does(place):
    code = (
        "from ads_gym.cli import main, progress_bars as bars; bars.SECONDS_TO_FIRST_LINE = 0.05; "
        "bars.SECONDS_BETWEEN_LINES = 0.05; main()"
    )
    command = [sys.executable, "-c", code, *TRAIN, "--epochs", "30", "--out", "task"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = done.stderr.splitlines()
    assert lines[0] == "reading data, then epoch 1" and any("epochs  loss" in line for line in lines)


def test_own_photos_go_all_the_way(run, place):
    """With what lies about in folders."""
    for label in "ab":
        (place / "photos" / label).mkdir(parents=True)
        for number in range(20):
            pixels = np.full((9, 9, 3), 100 * (label == "a") + number, np.uint8)
            Image.fromarray(pixels).save(place / "photos" / label / f"{number}.gif")
    (place / "photos/.ipynb_checkpoints").mkdir()
    (place / "photos/a/list.txt").write_text("x")
    done = run("train-supernet", "--data", "photos", *TRAIN[3:], "--batch-size", 8, "--out", "task")
    assert done.code == 0 and "1 files are left out" in done.err and done.err.count("\n") == 1
    assert Task.load("./task").config.classes == 2 and len(Task.load("./task").images("test")) == 8


def test_what_is_said_of_a_training_may_hold_no_nan():
    from ads_gym.tasks.training_record import SpreadRow

    with pytest.raises(InvalidValue, match="loss should be a finite number, got nan"):
        SpreadRow(0.5, 16, *[0.9, 0.0] * 2, float("nan"), 0.0)


def test_a_networks_name_stands_for_its_numbers_and_options_change_them(run):
    command = ("train-supernet", "--data", "mine.npz", "--network", "densenet121", "--stem-stride", 1, "--epochs", 1)
    done = run(*command, "--blocks", "2,2", "--growth", 2, "--batch-size", 16, "--out", "task")
    assert done.code == 0, done.err
    config = Task.load("./task").config
    assert config == DenseNetConfig((2, 2), 2, 64, "conv3", True, 0.5, (1, 8, 8), 2)
    refused(run("train-supernet", "--data", "mine.npz", "--network", "densenet12"), "Did you mean 'densenet121'?")


@pytest.mark.parametrize("name", NETWORKS)
def test_named_networks_are_the_published_ones(name):
    found = with_network(Preset(growth=3, bottleneck=True), name)
    config = DenseNetConfig(
        found.blocks,
        found.growth,
        found.stem_channels,
        found.stem,
        found.bottleneck,
        found.compression,
        (3, 224, 224),
        1000 if name != "densenet40" else 10,
    )
    parameters = dense_cost(config)[1]
    if name == "densenet40":
        assert round(parameters / 1e6, 1) == 1.0  # as the paper's table says
    else:
        densenet = pytest.importorskip("torchvision.models.densenet")
        with torch.device("meta"):
            assert parameters == sum(parameter.numel() for parameter in getattr(densenet, name)().parameters())
