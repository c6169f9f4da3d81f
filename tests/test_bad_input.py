"""Whatever a user can get wrong: one clear line and exit code 2 from the command line, an AdsGymError in Python.

Each case is a sabotage of a working command: its arguments, or a file that it reads.
"""

import gc
import json
import os
import pickle
import shutil
import sqlite3
import subprocess
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from commands import read_rows, run_here, run_program

import ads_gym
from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.errors import AdsGymError
from ads_gym.evaluators.store import EvaluationStore
from ads_gym.tasks import Task

PLANTED = ("search", "--task", "planted-20", "--agent", "random", "--evaluations", "8", "--run", "r")
NETWORK = ("--blocks", "2,2", "--growth", "2", "--stem", "4")
TRAIN = ("train-supernet", "--data", "mine.npz", *NETWORK, "--epochs", "1", "--batch-size", "16", "--out", "task")
TRAIN_NEW = (*TRAIN[:-1], "new")
RETRAIN = ("retrain", "real", "--epochs", "1", "--seeds", "1")
REAL = ("search", "--task", "task", "--agent", "random", "--evaluations", "3", "--run", "real")


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.fixture(scope="session")
def working(tmp_path_factory):
    """Data, a task made of them, and runs on it and on a planted task, all in working order."""
    place = tmp_path_factory.mktemp("working")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("ADS_GYM_HOME", str(place / "home"))
        save_images(place / "mine.npz")
        (place / "home/tasks/lonely").mkdir(parents=True)
        for command in (TRAIN, REAL, PLANTED):
            with pytest.raises(SystemExit) as ended:
                ads_gym.cli.main(list(command))
            assert not ended.value.code
        with EvaluationStore("s.sqlite") as store:
            DenseNetSparsifyEnv(task="task", store=store).problem.score(np.ones((1, 2), bool))
    return place


@pytest.fixture
def place(working, tmp_path, monkeypatch):
    """A copy of it, to be spoilt."""
    place = tmp_path / "place"
    shutil.copytree(working, place)
    for path in (place / "task/task.json", place / "real/manifest.json"):  # where data and task are
        path.write_text(path.read_text().replace(str(working), str(place)))
    monkeypatch.chdir(place)
    monkeypatch.setenv("ADS_GYM_HOME", str(place / "home"))
    monkeypatch.setenv("ADS_GYM_DATA", str(place / "data"))
    return place


def save_images(path, images=None, labels=None, **others):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8)).astype(np.uint8) if images is None else images
    labels = np.arange(len(images)) % 2 if labels is None else labels
    np.savez(path, images=images, labels=labels, **others)


def contents(folder):
    """name -> bytes of all files but those that SQLite keeps beside an open database."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def is_one_clear_line(done, says):
    assert done.code == 2 and done.out == "", done
    *progress, said = done.err.splitlines()
    assert said.startswith("Error: ") and set(progress) <= {"reading data"}, done.err  # which may take long
    assert "Traceback" not in done.err and not Path("exploded").exists()
    for part in says:
        assert part in said, done.err


def changed(command, *more):
    """The command with more options; a later one takes the place of an earlier."""
    return (*command, *map(str, more))


ARGUMENTS = {
    "task": (changed(PLANTED, "--task", "planted-21"), ("planted-21", "Did you mean 'planted-20'")),
    "task not trained": (changed(PLANTED, "--task", "cifar10"), ("ads-gym train-supernet --task cifar10",)),
    "task folder": (changed(PLANTED, "--task", "nowhere/task"), ("nowhere/task", "train-supernet")),
    "agent": (changed(PLANTED, "--agent", "randon"), ("agent 'randon'", "Did you mean 'random'")),
    "agent module": (changed(PLANTED, "--agent", "nowhere:play"), ("nowhere:play", "no module")),
    "agent's name": (changed(PLANTED, "--agent", "json:dump_"), ("dump_", "Did you mean 'dump'")),
    "agent option": (
        changed(PLANTED, "--agent", "density", "--agent-option", "bach_size=4"),
        ("bach_size", "'batch_size'"),
    ),
    "agent option's form": (changed(PLANTED, "--agent-option", "batch"), ("key=value",)),
    "decision": (changed(PLANTED, "--agent", "recurrent", "--decision", "conection"), ("Did you mean 'connection'",)),
    "decision of an optimiser": (changed(PLANTED, "--decision", "layer"), ("random is an optimiser", "leave decision")),
    "scope": (changed(PLANTED, "--scope", "layer"), ("Did you mean 'layers'",)),
    "reward": (changed(PLANTED, "--reward", "acuracy"), ("Did you mean 'accuracy'",)),
    "no evaluations": (changed(PLANTED, "--evaluations", 0), ("evaluations", "got 0")),
    "negative evaluations": (changed(PLANTED, "--evaluations", -5), ("evaluations", "got -5")),
    "too many evaluations": (changed(PLANTED, "--evaluations", 10**12), ("evaluations", "got 1000000000000")),
    "seed": (changed(PLANTED, "--seed", -1), ("seed", "got -1")),
    "negative cost weight": (changed(PLANTED, "--cost-weight", -0.5), ("cost weight", "-0.5")),
    "large cost weight": (changed(PLANTED, "--cost-weight", 101), ("cost weight", "101")),
    "cost weight NaN": (changed(PLANTED, "--cost-weight", "nan"), ("cost weight", "nan")),
    "cost weight's name": (changed(PLANTED, "--cost-weight", "evn"), ("cost weight", "'even'")),
    "large limit": (changed(PLANTED, "--max-macs", 1.5), ("max_macs", "1.5")),
    "small limit": (changed(PLANTED, "--max-macs", 0.01), ("max_macs", "only the chain")),
    "limit NaN": (changed(PLANTED, "--max-macs", "nan"), ("max_macs", "nan")),
    "device": (changed(REAL, "--run", "new", "--device", "gpu"), ("'gpu'", "'cuda'")),
    "run of other settings": (changed(PLANTED, "--seed", 5), ("belongs to a run with", "seed 0 and not 5")),
    "run of another task": (changed(PLANTED, "--run", "real"), ("belongs to a run with", "--run")),
    "run in a folder of other things": (changed(PLANTED, "--run", "task"), ("holds", "no run")),
    "run in a file": (changed(PLANTED, "--run", "mine.npz"), ("mine.npz",)),
    "show nothing": (("show", "nowhere.json"), ("nowhere.json",)),
    "show a folder": (("show", "task"), ("task/best.json",)),
    "retrain nothing": (("retrain", "nowhere"), ("nowhere", "no run folder")),
    "retrain a planted run": (("retrain", "r"), ("planted-20", "no images and no network")),
    "retrain seeds": (changed(RETRAIN, "--seeds", 0), ("seeds", "got 0")),
    "retrain epochs": (changed(RETRAIN, "--epochs", 0), ("epochs", "got 0")),
    "retrain device": (changed(RETRAIN, "--device", "gpu"), ("'gpu'",)),
    "data set": (("train-supernet", "--task", "cifar11"), ("Did you mean 'cifar10'",)),
    "data set missing": (("train-supernet", "--task", "cifar10", "--epochs", "1"), ("data", "download=True")),
    "data missing": (changed(TRAIN_NEW, "--data", "nowhere.npz"), ("nowhere.npz",)),
    "data of no kind": (changed(TRAIN_NEW, "--data", "task/task.json"), ("task.json", ".npz")),
    "folder of no classes": (changed(TRAIN_NEW, "--data", "home/tasks"), ("one for each class",)),
    "blocks": (changed(TRAIN_NEW, "--blocks", "6;6"), ("--blocks", "'6;6'")),
    "no layers": (changed(TRAIN_NEW, "--blocks", "2,0"), ("blocks[1]", "got 0")),
    "growth": (changed(TRAIN_NEW, "--growth", 0), ("growth", "got 0")),
    "stem": (changed(TRAIN_NEW, "--stem", -4), ("stem_channels", "got -4")),
    "stem stride": (changed(TRAIN_NEW, "--stem-stride", 3), ("--stem-stride", "got 3")),
    "compression": (changed(TRAIN_NEW, "--compression", 1.5), ("compression", "1.5")),
    "images too small": (changed(TRAIN_NEW, "--blocks", "1,1,1,1,1"), ("8x8", "too small")),
    "size": (changed(TRAIN_NEW, "--size", 0), ("size", "got 0")),
    "too many images": (changed(TRAIN_NEW, "--valid", 59), ("images", "left")),
    "no images": (changed(TRAIN_NEW, "--train", 0), ("train", "got 0")),
    "epochs": (changed(TRAIN_NEW, "--epochs", 0), ("epochs", "got 0")),
    "batch size": (changed(TRAIN_NEW, "--batch-size", 1), ("batch_size", "got 1")),
    "batch larger than TRAIN": (changed(TRAIN_NEW, "--batch-size", 1000), ("fewer than one batch",)),
    "learning rate": (changed(TRAIN_NEW, "--learning-rate", -0.1), ("learning_rate", "-0.1")),
    "learning rate that ends in NaN": (changed(TRAIN_NEW, "--learning-rate", 1e30), ("lower learning rate",)),
    "shift": (changed(TRAIN_NEW, "--shift", -1), ("shift", "got -1")),
    "training seed": (changed(TRAIN_NEW, "--seed", -1), ("seed", "got -1")),
    "cost range": (changed(TRAIN_NEW, "--cost-range", 0.9, 0.5), ("LOW <= HIGH", "0.9 0.5")),
    "masks": (changed(TRAIN_NEW, "--cost-range", 0.5, 1, "--masks-per-step", 0), ("masks_per_step", "got 0")),
    "task that is there": (changed(TRAIN, "--growth", 3), ("other settings", "--replace")),
    "weights missing": (changed(TRAIN_NEW, "--weights", "no.pt"), ("no.pt",)),
    "training device": (changed(TRAIN_NEW, "--device", "tpu"), ("'tpu'",)),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(place, capsys, case):
    command, says = ARGUMENTS[case]
    before = contents(place)
    is_one_clear_line(run_here(capsys, *command), says)
    assert contents(place) == before  # nothing lost, nothing left behind


DATA = {
    "NaN": ({"images": np.full((60, 8, 8), np.nan)}, ("NaN",)),
    "floats": ({"images": np.zeros((60, 8, 8))}, ("uint8",)),
    "channels first": ({"images": np.zeros((60, 3, 8, 8), np.uint8)}, ("channels", "last")),
    "a shape": ({"images": np.zeros((60, 8), np.uint8)}, ("[n, h, w]",)),
    "no images": ({"images": np.zeros((0, 8, 8), np.uint8)}, ("shape",)),
    "negative labels": ({"labels": np.arange(60) % 3 - 1}, ("from -1 to 1",)),
    "labels out of range": ({"labels": np.arange(60) % 2 * 7}, ("from 0 to 7",)),
    "label NaN": ({"labels": np.full(60, np.nan)}, ("NaN",)),
    "too few labels": ({"labels": np.arange(9) % 2}, ("one per image",)),
    "one class": ({"labels": np.zeros(60, int)}, ("one class",)),
    "small images": ({"images": np.zeros((60, 1, 1), np.uint8)}, ("1x1", "too small")),
    "objects": ({"labels": np.array([Bomb()] * 60, object)}, ("without pickled objects",)),
    "few images": ({"images": np.zeros((2, 8, 8), np.uint8)}, ()),
}


@pytest.mark.parametrize("case", DATA)
def test_own_data(place, capsys, case):
    arrays, says = DATA[case]
    save_images(place / "bad.npz", **arrays)
    done = run_here(capsys, *changed(TRAIN_NEW, "--data", "bad.npz"))
    is_one_clear_line(done, says)
    assert not (place / "new").exists()


def test_an_npz_that_is_a_pickle(place, capsys):
    (place / "bad.npz").write_bytes(pickle.dumps(Bomb()))
    is_one_clear_line(run_here(capsys, *changed(TRAIN_NEW, "--data", "bad.npz")), ("bad.npz",))


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def junk(path):
    path.write_bytes(b"\x80\x04junk" * 20)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def nan_weights(path):
    from safetensors.torch import load_file, save_file

    save_file({name: tensor * float("nan") for name, tensor in load_file(path).items()}, path)


def other_weights(path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, path)


def foreign_database(path):
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE films (title)")
    database.close()


def newer_store(path):
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


def bomb(path):
    path.write_bytes(pickle.dumps({"network": Bomb()}))


def torch_bomb(path):
    torch.save({"network": Bomb()}, path)


FURTHER = {"search": changed(PLANTED, "--evaluations", 12), "real": changed(REAL, "--evaluations", 5)}
SHOW = ("show", "r/best.json")
NEW = changed(REAL, "--run", "new")
WITH_STORE = changed(REAL, "--run", "new", "--store", "s.sqlite")
FILES = {
    # what reads it, which file, how it is spoilt, what is said
    "architecture junk": (SHOW, "r/best.json", junk, ("r/best.json",)),
    "architecture cut": (SHOW, "r/best.json", cut, ("r/best.json", "JSON")),
    "architecture foreign": (SHOW, "r/best.json", lambda p: p.write_text('{"a": 1}'), ("no architecture",)),
    "architecture a list": (SHOW, "r/best.json", lambda p: p.write_text("[[[1]]]"), ("no architecture",)),
    "architecture newer": (SHOW, "r/best.json", lambda p: edit(p, version=9), ("version 9", "upgrade")),
    "mask too short": (SHOW, "r/best.json", lambda p: edit(p, mask="0101"), ("20", "4")),
    "mask of other signs": (SHOW, "r/best.json", lambda p: edit(p, mask="2" * 20), ("[01]",)),
    "mask of another topology": (SHOW, "r/best.json", lambda p: edit(p, scope="all"), ("r/best.json",)),
    "config incomplete": (SHOW, "r/best.json", lambda p: edit(p, config={"blocks": [5]}), ("config",)),
    "config out of range": (SHOW, "r/best.json", lambda p: edit(p, scope="al"), ("Did you mean 'all'",)),
    "task junk": (NEW, "task/task.json", junk, ("task.json",)),
    "task cut": (NEW, "task/task.json", cut, ("task.json",)),
    "task foreign": (NEW, "task/task.json", lambda p: p.write_text("{}"), ("task.json", "ads-gym task")),
    "task newer": (NEW, "task/task.json", lambda p: edit(p, version=9), ("9", "upgrade")),
    "task without weights": (NEW, "task/supernet.safetensors", Path.unlink, ("supernet.safetensors", "missing")),
    "weights junk": (NEW, "task/supernet.safetensors", junk, ("supernet.safetensors", "damaged")),
    "weights cut": (NEW, "task/supernet.safetensors", cut, ("supernet.safetensors", "damaged")),
    "weights a pickle": (NEW, "task/supernet.safetensors", bomb, ("supernet.safetensors", "damaged")),
    "weights NaN": (NEW, "task/supernet.safetensors", nan_weights, ("NaN",)),
    "weights of another": (NEW, "task/supernet.safetensors", other_weights, ("does not hold the weights",)),
    "data gone": (NEW, "mine.npz", Path.unlink, ("mine.npz", "--data-root")),
    "data changed": (NEW, "mine.npz", lambda p: save_images(p, np.zeros((60, 4, 4), np.uint8)), ("was trained on",)),
    "manifest junk": (FURTHER["search"], "r/manifest.json", junk, ("manifest.json",)),
    "manifest foreign": (FURTHER["search"], "r/manifest.json", lambda p: p.write_text("{}"), ("ads-gym run",)),
    "manifest newer": (FURTHER["search"], "r/manifest.json", lambda p: edit(p, version=9), ("9", "upgrade")),
    "manifest of the first version": (
        FURTHER["search"],
        "r/manifest.json",
        lambda p: edit(p, version=1),
        ("version 1",),
    ),
    "record junk": (FURTHER["search"], "r/record.sqlite", junk, ("record.sqlite",)),
    "record foreign": (FURTHER["search"], "r/record.sqlite", foreign_database, ("no record of a run",)),
    "record newer": (FURTHER["search"], "r/record.sqlite", newer_store, ("99", "upgrade")),
    "record cut": (FURTHER["real"], "real/record.sqlite", cut, ("record.sqlite",)),
    "store junk": (WITH_STORE, "s.sqlite", junk, ("s.sqlite", "no store")),
    "store foreign": (WITH_STORE, "s.sqlite", foreign_database, ("s.sqlite", "no store")),
    "store newer": (WITH_STORE, "s.sqlite", newer_store, ("s.sqlite", "99", "upgrade")),
    "store cut": (WITH_STORE, "s.sqlite", cut, ("s.sqlite",)),
    "retrain: manifest": (RETRAIN, "real/manifest.json", junk, ("manifest.json",)),
    "retrain: best": (RETRAIN, "real/best.json", cut, ("best.json",)),
    "retrain: no best": (RETRAIN, "real/best.json", Path.unlink, ("best.json",)),
    "retrain: best of another": (RETRAIN, "real/best.json", lambda p: shutil.copy("r/best.json", p), ("best.json",)),
    "own weights junk": (changed(TRAIN_NEW, "--weights", "w.pt"), "w.pt", junk, ("w.pt",)),
    "own weights a pickle": (changed(TRAIN_NEW, "--weights", "w.pt"), "w.pt", bomb, ("w.pt",)),
    "own weights a hostile checkpoint": (
        changed(TRAIN_NEW, "--weights", "w.pt"),
        "w.pt",
        torch_bomb,
        ("w.pt",),
    ),
    "own weights no state dict": (
        changed(TRAIN_NEW, "--weights", "w.pt"),
        "w.pt",
        lambda p: torch.save([1], p),
        ("state dict",),
    ),
    "own weights of another": (
        changed(TRAIN_NEW, "--weights", "w.safetensors"),
        "w.safetensors",
        other_weights,
        ("does not hold the weights", "--growth"),
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_files(place, capsys, case):
    command, name, spoil, says = FILES[case]
    spoil(place / name)
    before = contents(place)
    is_one_clear_line(run_here(capsys, *command), says)
    assert contents(place) == before


@pytest.mark.parametrize("spoil", [junk, bomb, torch_bomb, lambda path: torch.save({"epoch": 1}, path)])
def test_a_damaged_checkpoint(place, capsys, spoil, monkeypatch):
    """As a killed training leaves one, under the name that the same command looks for."""
    command = changed(TRAIN_NEW, "--epochs", 2)
    real = torch.optim.SGD.step
    steps = []

    def stop(self, *arguments):
        if len(steps) == 3:  # TRAIN has 36 images: two steps an epoch
            raise KeyboardInterrupt
        steps.append(real(self, *arguments))

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", stop)
        assert run_here(capsys, *command).code == 130
    (checkpoint,) = (place / "new").iterdir()
    spoil(checkpoint)
    before = contents(place)
    is_one_clear_line(run_here(capsys, *command), (checkpoint.name, "remove it"))
    assert contents(place) == before
    checkpoint.unlink()
    assert run_here(capsys, *command).code == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize(
    "command",
    [changed(REAL, "--run", "new"), RETRAIN, TRAIN_NEW],
    ids=lambda command: command[0],
)
def test_cuda_where_there_is_none(place, capsys, command):
    is_one_clear_line(run_here(capsys, *changed(command, "--device", "cuda")), ("'cuda'", "--device cpu"))


@pytest.fixture
def mounted(place):
    """Mounts something on ./mounted, and unmounts it at the end; skips where this user may not."""
    point = place / "mounted"
    point.mkdir()
    done = []

    def mount(*arguments):
        if not shutil.which("mount") or subprocess.run(["mount", *arguments, point], check=False).returncode:
            pytest.skip("this user may not mount file systems")
        done.append(point)
        return point

    yield mount
    gc.collect()  # tensors read from a file keep it mapped, and the place busy
    for mounted in done:
        subprocess.run(["umount", mounted], check=True)


def fill(folder, but):
    """Takes all its space but so many bytes."""
    with (folder / "rest").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - but))


@pytest.mark.parametrize("left", [0, 16_384, 131_072, 262_144])
def test_a_full_disk_during_a_search(place, capsys, mounted, left):
    disk = mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    command = changed(PLANTED, "--evaluations", 150, "--run", "mounted/r")
    fill(disk, left)
    is_one_clear_line(run_here(capsys, *command), ("pace",))
    recorded = read_rows(disk / "r") if (disk / "r/record.sqlite").exists() else []
    (disk / "rest").unlink()
    done = run_here(capsys, *command)
    assert done.code == 0 and "150 evaluations" in done.out
    assert read_rows(disk / "r")[: len(recorded)] == recorded


@pytest.mark.parametrize("command", [changed(TRAIN, "--out", "mounted/new"), ("retrain", "mounted/real", *RETRAIN[2:])])
def test_a_full_disk_during_training(place, capsys, mounted, command):
    disk = mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    shutil.copytree(place / "real", disk / "real")
    fill(disk, 8192)
    before = contents(disk)
    is_one_clear_line(run_here(capsys, *command), ("pace",))
    assert contents(disk) == before
    (disk / "rest").unlink()
    assert run_here(capsys, *command).code == 0


READ_ONLY = {
    "search": changed(PLANTED, "--run", "mounted/new"),
    "search further": changed(REAL, "--run", "mounted/real", "--evaluations", 5),
    "train-supernet": changed(TRAIN, "--out", "mounted/new"),
    "retrain": ("retrain", "mounted/real", *RETRAIN[2:]),
}


@pytest.mark.parametrize("case", READ_ONLY)
def test_a_folder_that_cannot_be_written(place, capsys, mounted, case):
    (place / "source").mkdir()
    shutil.copytree(place / "real", place / "source" / "real")
    folder = mounted("--bind", place / "source")
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    before = contents(folder)
    is_one_clear_line(run_here(capsys, *READ_ONLY[case]), ("mounted",))
    assert contents(folder) == before


@pytest.mark.parametrize("case", ["task", "images too small", "run of other settings"])
def test_the_program_itself(place, case):
    command, says = ARGUMENTS[case]
    is_one_clear_line(run_program(*command), says)


def test_the_program_itself_on_a_damaged_file(place):
    junk(place / "task/supernet.safetensors")
    is_one_clear_line(run_program(*NEW), ("supernet.safetensors",))


CONFIG = DenseNetConfig((5, 5), growth=4)
MADE = {"task": "planted-20"}
CONSTRUCTORS = {
    "observation": (lambda: gym.make("DenseNetSparsify-v0", observation="matrx", **MADE), ValueError, "'matrix'"),
    "decision": (lambda: gym.make("DenseNetSparsify-v0", decision="layers", **MADE), ValueError, "'layer'"),
    "scope": (lambda: gym.make("DenseNetSparsify-v0", scope="al", **MADE), ValueError, "'all'"),
    "reward": (lambda: gym.make("DenseNetSparsify-v0", reward="los", **MADE), ValueError, "'loss'"),
    "render mode": (lambda: DenseNetSparsifyEnv(render_mode="text", **MADE), ValueError, "render mode"),
    "evaluator": (lambda: DenseNetSparsifyEnv(evaluator="planted:linar:0", **MADE), ValueError, "'linear'"),
    "cost weight": (lambda: DenseNetSparsifyEnv(cost_weight=float("nan"), **MADE), ValueError, "nan"),
    "limit": (lambda: DenseNetSparsifyEnv(max_macs=2, **MADE), ValueError, "max_macs"),
    "mask's length": (lambda: Architecture(CONFIG, np.ones(19, bool)), ValueError, "20"),
    "mask's type": (lambda: Architecture(CONFIG, np.full(20, 0.5)), ValueError, "bool"),
    "mask's shape": (lambda: Architecture(CONFIG, np.ones((2, 20), bool)), ValueError, r"\(2, 20\)"),
    "mask's topology": (lambda: Architecture(CONFIG, np.ones(20, bool), "all"), ValueError, "30"),
    "masks to evaluate": (lambda: DenseNetSparsifyEnv(**MADE).problem.score(np.ones((3, 7), bool)), ValueError, "20"),
    "bits given": (lambda: DenseNetSparsifyEnv(**MADE).reset(options={"decided": [0, 1]}), ValueError, "20"),
    "step before reset": (lambda: DenseNetSparsifyEnv(**MADE).step(0), gym.error.ResetNeeded, "reset"),
    "task": (lambda: Task.load("digit"), ValueError, "'digits'"),
    "search's budget": (lambda: ads_gym.search("planted-20", "random", 2.5), ValueError, "evaluations"),
    "search's agent": (lambda: ads_gym.search("planted-20", 7), ValueError, "agent"),
    "network missing": (lambda: ads_gym.load("nowhere"), FileNotFoundError, "nowhere"),
    "store's folder": (lambda: EvaluationStore("/dev/null/store"), OSError, "store"),
}


@pytest.mark.parametrize("case", CONSTRUCTORS)
def test_in_python_too(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    call, kind, says = CONSTRUCTORS[case]
    with pytest.raises(AdsGymError, match=says) as caught:
        call()
    assert isinstance(caught.value, kind)
    assert not list(tmp_path.iterdir())
