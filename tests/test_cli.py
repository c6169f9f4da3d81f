"""The commands: what they print, where things go, and that the same command goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from commands import PROGRAM, run_here, run_program
from PIL import Image

import ads_gym
from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.cli import progress_bars
from ads_gym.cli.progress_bars import EpochBar
from ads_gym.nets.cost import CostTable
from ads_gym.problem import macs_limit
from ads_gym.tasks import Task
from ads_gym.tasks.presets import PRESETS, find_preset
from ads_gym.tasks.storage import PACKAGED, read_description
from ads_gym.topology import Scope

PLANTED = ("search", "--task", "planted-20", "--agent", "random")
SMALL = ("--blocks", "2,2", "--growth", 2, "--stem", 4, "--epochs", 2, "--batch-size", 16, "--device", "cpu")

AGENTS = """
import os, signal
import numpy as np

def play(env, seed):
    masks = 0
    while True:
        env.reset()
        while not env.step(env.action_space.sample())[2]:
            pass
        masks += 1
        if masks == 10 and os.path.exists("interrupt"):
            os.remove("interrupt")
            os.kill(os.getpid(), signal.SIGINT)

def steps(env, seed, density):
    rng = np.random.default_rng(seed)
    while True:
        env.reset()
        while not env.step(rng.random(env.action_space.shape) < density)[2]:
            pass

def broken(env, seed):
    env.reset()
    raise RuntimeError("an agent's own mistake")
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty home and an empty current folder."""
    monkeypatch.setenv("ADS_GYM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    return lambda *arguments: run_here(capsys, *arguments)


@pytest.fixture
def images(place):
    """90 small images of two classes that are easily told apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 2
    pixels = rng.integers(0, 100, (90, 8, 8)) + 150 * labels[:, None, None]
    np.savez(place / "mine.npz", images=pixels.astype(np.uint8), labels=labels)
    return place / "mine.npz"


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize(
    "command",
    [
        (),
        *((name,) for name in ("search", "retrain", "sparsify", "report", "show", "export")),
        *((name,) for name in ("tasks", "agents", "train-supernet")),
    ],
)
def test_each_command_has_help(run, command):
    done = run(*command, "--help")
    assert done.code == 0 and "Usage: ads-gym" in done.out and not done.err
    assert all(name in done.out for name in command)


def test_help_and_version_are_quick():
    for option in ("--help", "--version"):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", PROGRAM, option],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
        assert "typer" in imported and not imported & {"torch", "torchvision", "sklearn", "matplotlib", "scipy"}
    assert done.stdout == f"ads-gym {ads_gym.__version__}\n"


def test_usage_errors_keep_their_form(run):
    done = run("search", "--evaluation", "5")
    assert done.code == 2 and done.err.startswith("Usage: ads-gym search") and "--evaluations" in done.err
    assert run("serch").code == 2
    assert run().code == 2  # help, where a command is missing


def test_a_search_and_its_options(run, place):
    settings = {
        "--agent-option": "density=0.4",
        "--seed": 3,
        "--cost-weight": 0.25,
        "--reward": "accuracy",
        "--max-macs": 0.9,
        "--scope": "all",
        "--decision": "layer",
        "--device": "cpu",
    }
    given = [part for pair in settings.items() for part in pair]
    (place / "players.py").write_text(AGENTS)
    done = run("search", "--task", "planted-20", "--agent", "players:steps", "--evaluations", 24, *given, "--run", "r")
    assert done.code == 0 and "24 evaluations" in done.out and "history" in done.out
    assert [line.split()[0] for line in done.out.splitlines() if line[1:6] in ("dense", "chain", "best ")] == [
        "dense",
        "chain",
        "best",
    ]
    stored = manifest(place / "r")
    assert stored["budget"] == 24
    identity = stored["identity"]
    assert (identity["agent"], identity["agent's options"]) == ("players:steps", {"density": 0.4})
    assert (identity["seed"], identity["cost weight"], identity["reward"]) == (3, 0.25, "accuracy")
    assert (identity["scope"], identity["decision"]) == ("all", "layer")
    cost = CostTable(Task.load("planted-20").config, Scope.ALL)
    assert identity["limit in MACs"] == macs_limit(cost, 0.9)


def test_a_finished_search_is_shown_again_and_a_larger_budget_extends_it(run, place):
    first = run(*PLANTED, "--evaluations", 20)
    (folder,) = (place / "runs").iterdir()
    history = (folder / "history.csv").read_text()
    line, _, again = run(*PLANTED, "--evaluations", 20).out.partition("\n")
    assert line.startswith("Stored result of ") and again == first.out
    assert (folder / "history.csv").read_text() == history
    assert "30 evaluations" in run(*PLANTED, "--evaluations", 30).out
    assert (folder / "history.csv").read_text().startswith(history)
    assert list((place / "runs").iterdir()) == [folder]


def test_ctrl_c_says_that_the_same_command_goes_on(run, place):
    (place / "players.py").write_text(AGENTS)
    (place / "interrupt").touch()
    command = ("search", "--task", "planted-20", "--agent", "players:play", "--evaluations", 30)
    done = run(*command)
    assert done.code == 130 and "the same command goes on" in done.err and "Traceback" not in done.err
    (folder,) = (place / "runs").iterdir()
    recorded = (folder / "history.csv").read_text()
    assert len(recorded.splitlines()) > 5
    again = run(*command)
    assert again.code == 0 and "30 evaluations" in again.out
    assert (folder / "history.csv").read_text().startswith(recorded)


def test_an_interrupted_program_ends_with_130(place):
    (place / "players.py").write_text(AGENTS)
    (place / "interrupt").touch()
    done = run_program("search", "--task", "planted-20", "--agent", "players:play", "--evaluations", 30)
    assert done.code == 128 + signal.SIGINT and done.err.count("\n") == 1


def test_an_agents_own_mistake_shows_where_it_is(run, place):
    (place / "players.py").write_text(AGENTS)
    with pytest.raises(RuntimeError, match="an agent's own mistake"):
        ads_gym.cli.main(["search", "--task", "planted-20", "--agent", "players:broken", "--run", "r"])


def test_warnings_are_one_line(run, place):
    run(*PLANTED, "--evaluations", 10, "--run", "r")
    stored = manifest(place / "r")
    stored["circumstances"]["numpy"] = "0.1"
    (place / "r" / "manifest.json").write_text(json.dumps(stored))
    done = run(*PLANTED, "--evaluations", 12, "--run", "r")
    assert done.code == 0
    line, progress = done.err.splitlines()
    assert progress == "goes on after 10 recorded evaluations"
    assert line.startswith(f"Warning: the run in {place / 'r'} goes on with numpy")


def test_debug_shows_where_an_error_came_from_wherever_it_stands(run):
    for arguments in (("--debug", "search", "--task", "digit"), ("search", "--task", "digit", "--debug")):
        done = run(*arguments)
        assert done.code == 2 and done.err.startswith("Traceback") and "UnknownName" in done.err


def test_own_images_become_a_task_that_is_searched_and_retrained(run, place, images):
    done = run("train-supernet", "--data", images, *SMALL, "--out", "task")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()[4:10]] == ["1", "0.9", "0.7", "0.5", "0.3", "0"]
    task = Task.load(place / "task")
    assert task.config == DenseNetConfig((2, 2), 2, 4, image_shape=(1, 8, 8), classes=2)
    assert task.record.recipe.epochs == 2 and task.data.valid == 18

    command = next(line for line in done.out.splitlines() if line.startswith("search")).split()[2:]
    assert command == ["search", "--task", "./task"]
    done = run(*command, "--agent", "random", "--evaluations", 3, "--run", "r")
    assert done.code == 0 and "its sparse network" in done.out
    assert ads_gym.load(place / "r" / "best")(torch.zeros(2, 1, 8, 8)).shape == (2, 2)

    done = run("retrain", "r", "--epochs", 1, "--seeds", 2, "--device", "cpu")
    assert done.code == 0 and "over 2 seeds" in done.out and "TEST was read 4 times" in done.out
    assert run("retrain", "r", "--epochs", 1, "--seeds", 2).out == done.out


def test_a_task_that_is_there_is_shown_or_kept_or_replaced(run, place, images):
    command = ("train-supernet", "--data", images, *SMALL, "--out", "task")
    first = run(*command)
    weights = (place / "task" / "supernet.safetensors").stat()
    assert run(*command).out == first.out
    other = run(*command, "--seed", 1)
    assert other.code == 2 and "--replace" in other.err
    assert (place / "task" / "supernet.safetensors").stat() == weights
    assert run(*command, "--seed", 1, "--replace").code == 0
    assert Task.load(place / "task").record.recipe.seed == 1


def test_a_task_goes_where_its_name_finds_it(run, place, images):
    assert run("train-supernet", "--data", images, *SMALL).code == 0
    assert (place / "home" / "tasks" / "mine" / "task.json").is_file()
    listed = run("tasks").out
    assert "mine" in listed and "1x8x8" in listed
    assert run("search", "--task", "mine", "--agent", "random", "--evaluations", 2).code == 0
    images.rename(place / "digits.npz")
    done = run("train-supernet", "--data", "digits.npz", *SMALL)
    assert done.code == 2 and "--out" in done.err


def test_own_weights_skip_training(run, place, images):
    run("train-supernet", "--data", images, *SMALL, "--out", "first")
    trained = place / "first" / "supernet.safetensors"
    done = run("train-supernet", "--data", images, *SMALL, "--out", "second", "--weights", trained)
    assert done.code == 0
    assert Task.load(place / "second").record.recipe.weights == "supernet.safetensors"
    first, second = (Task.load(place / name).state_dict() for name in ("first", "second"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_every_option_of_a_supernet_arrives(run, place):
    for label in "ab":
        (place / "photos" / label).mkdir(parents=True)
        for number in range(20):
            pixels = np.full((12, 10 + number % 2, 3), 100 * (label == "a") + number, np.uint8)
            Image.fromarray(pixels).save(place / "photos" / label / f"{number}.png")
    options = {
        "--blocks": "2,3",
        "--growth": 3,
        "--stem": 5,
        "--stem-stride": 2,
        "--compression": 0.5,
        "--size": 8,
        "--train": 20,
        "--valid": 10,
        "--test": 5,
        "--calibration": 15,
        "--epochs": 1,
        "--batch-size": 10,
        "--learning-rate": 0.05,
        "--shift": 2,
        "--seed": 7,
        "--masks-per-step": 3,
    }
    given = [part for pair in options.items() for part in pair]
    done = run("train-supernet", "--data", "photos", *given, "--bottleneck", "--flip", "--cost-range", 0.4, 0.8)
    assert done.code == 0
    task = Task.load("photos")
    assert task.config == DenseNetConfig((2, 3), 3, 5, "conv3-stride2", True, 0.5, (3, 8, 8), 2)
    data, recipe = task.data, task.record.recipe
    assert (data.train, data.valid, data.test, data.calibration, data.size) == (20, 10, 5, 15, 8)
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (1, 10, 0.05)
    assert (recipe.shift, recipe.flip, recipe.seed) == (2, True, 7)
    dropout = recipe.dropout
    assert (dropout.low, dropout.high, dropout.masks_per_step) == (0.4, 0.8, 3)


def test_the_preset_of_digits_is_what_is_shipped():
    shipped, choice = Task.load("digits"), PRESETS["digits"]
    assert shipped.config == DenseNetConfig(
        choice.blocks, choice.growth, choice.stem_channels, choice.stem, image_shape=(1, 8, 8)
    )
    for name in ("epochs", "batch_size", "learning_rate", "shift", "flip"):
        assert getattr(shipped.record.recipe, name) == getattr(choice, name)


@pytest.mark.slow
def test_the_shipped_weights_can_be_made_again(place):
    """Bit for bit only on the same kind of processor, with as many threads; in quality anywhere."""
    done = run_program("train-supernet", "--task", "digits", env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.code == 0
    made, shipped = Task.load("digits"), read_description(PACKAGED / "digits.json")
    assert made.folder == place / "home" / "tasks" / "digits"
    assert (made.config, made.data) == (shipped.config, shipped.data)
    assert made.record.recipe == shipped.record.recipe
    dense, *_, chain = (row.accuracy for row in made.record.spread)
    assert dense > 0.965 and chain < dense - 0.05


@pytest.mark.parametrize(("pixels", "stem"), [(8, "conv3"), (32, "conv3-stride2"), (224, "conv7-pool")])
def test_own_images_get_a_stem_for_their_size(pixels, stem):
    assert find_preset("/somewhere", (3, pixels, 2 * pixels)).stem == stem


def test_show_an_architecture(run, place):
    task = Task.load("digits")
    table = CostTable(task.config)
    mask = table.random_mask(np.random.default_rng(0), 0.4)
    (place / "best.json").write_text(Architecture(task.config, mask).to_json())
    done = run("show", "best.json")
    assert done.code == 0 and done.out.count("#") == mask.sum() + 1  # and one in the legend
    assert f"{int(table.macs(mask)):,}" in done.out and f"{float(table.relative_macs(mask)):.3f}" in done.out
    assert f"{int(table.parameters(mask)):,}" in done.out
    assert run("show", place).out == done.out


def test_lists(run):
    listed = run("agents").out
    assert all(name in listed for name in ("random", "density", "bernoulli", "bayes", "recurrent"))
    listed = run("tasks").out
    assert "built in" in listed and "ads-gym train-supernet --task NAME" in " ".join(listed.split())
    (deep,) = (line for line in listed.splitlines() if line.startswith(" digits-deep"))
    assert "12,12,12" in deep and "not trained" in deep


def test_a_task_whose_weights_are_gone_is_listed(run, place):
    for name in ("mine", "digits@4"):
        folder = place / "home" / "tasks" / name
        folder.mkdir(parents=True)
        (folder / "task.json").write_text((PACKAGED / "digits.json").read_text())
    listed = " ".join(run("tasks").out.split())
    assert "mine weights are missing" in listed and "digits@4 6,6,6 4 weights are missing" in listed


BRACKETS = json.dumps(json.loads((PACKAGED / "digits.json").read_text()) | {"name": ["[/x]"]})


@pytest.mark.parametrize(("name", "content"), [("bad", "junk"), ("bad[x]", "junk"), ("bad", BRACKETS)])
def test_a_task_that_cannot_be_read_does_not_hide_the_others(run, place, name, content):
    task = place / "home" / "tasks" / name
    task.mkdir(parents=True)
    for file in ("task.json", "supernet.safetensors"):
        (task / file).write_text(content)
    done = run("tasks")
    told = " ".join(done.out.split())  # however the table is wrapped
    assert done.code == 0 and "is no task" in told and "planted-198" in told
    assert name.endswith("d") or name in told  # no markup of rich's
    assert content == "junk" or "[/x]" in told


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("ads-gym train-supernet --task fas", "fashion-mnist fashion-mnist-deep"),
        ("ads-gym search --task planted-2", "planted-20"),
        ("ads-gym search --agent ran", "random"),
    ],
)
def test_names_are_completed(line, completed):
    words = line.split()
    shell = {"_ADS_GYM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    assert run_program(env=os.environ | shell).out.split() == completed.split()


def test_the_bar_tells_epoch_loss_and_time_left(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with EpochBar("reading data") as bar:
        bar.update("training", 1, 3, 2.5)
        bar.update("training", 2, 3, 1.25, "measuring")
        bar._bar.refresh()
        shown = capsys.readouterr().err
        assert "2/3 epochs" in shown and "loss 1.2500" in shown and "0:00 left" in shown
        bar.update("training", 3, 3, 1.0, "measuring")
        bar._bar.refresh()
        assert "measuring" in capsys.readouterr().err


def test_what_is_quick_says_nothing_where_there_is_no_terminal(capsys):
    with EpochBar("reading data") as bar:
        bar.update("training", 1, 3, 2.5)
    assert capsys.readouterr().err == ""


def test_whatever_takes_long_says_a_line_where_there_is_no_terminal(capsys, monkeypatch):
    """Also where nothing calls the bar: while data are read, during an epoch, while accuracies are measured."""
    for name in ("SECONDS_TO_FIRST_LINE", "SECONDS_BETWEEN_LINES"):
        monkeypatch.setattr(progress_bars, name, 0.02)
    with EpochBar("reading data") as bar:
        assert next_line(capsys) == "reading data"
        bar.update("training", 1, 3, 2.5)
        assert next_line(capsys) == "training: 1/3 epochs  loss 2.5000"
        bar.update("training", 3, 3, 1.0, "measuring")
        assert next_line(capsys) == "measuring"


def next_line(capsys):
    """The newest line that a bar wrote since this was asked for."""
    time.sleep(0.05)
    capsys.readouterr()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if lines := capsys.readouterr().err.splitlines():
            return lines[-1]
        time.sleep(0.01)
    return pytest.fail("it says nothing")
