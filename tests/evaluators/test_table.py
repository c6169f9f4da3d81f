"""Tables of every architecture: equal to what is computed, whole after a kill, never of something else."""

import hashlib
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import run_here

import ads_gym
from ads_gym.architecture import DenseNetConfig
from ads_gym.data.splits import DataSpec
from ads_gym.errors import DamagedFile, InvalidValue, NotFound
from ads_gym.evaluators.base import Weights
from ads_gym.evaluators.table import NETWORK_FEATURES, TableEvaluator, every_mask
from ads_gym.nets.arrays import read_arrays, to_bytes
from ads_gym.nets.densenet import DenseNet
from ads_gym.problem import make_problem
from ads_gym.tabulation import BATCH, tabulate
from ads_gym.tasks import Task, save_task
from ads_gym.tasks.training_record import TrainingRecord
from ads_gym.topology import Scope, Topology

CONFIG = DenseNetConfig((3, 2), 3, 4, image_shape=(1, 8, 8))  # 4 connections
LARGER = replace(CONFIG, blocks=(4, 3))  # 9: two batches
DATA = DataSpec("digits", None, 100, None, calibration=60)


def untabulated(folder, seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return save_task(folder, "mine", config, DATA, DenseNet(config).state_dict())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tabulate(untabulated(tmp_path_factory.mktemp("table"), config=LARGER), device="cpu")


def equal(found, computed):
    """Of metrics from a table, and those that it was made of: shares of images exactly, the rest to float32."""
    for one, other in zip(found, computed, strict=True):
        assert replace(one, loss=0, soft_accuracy=0) == replace(other, loss=0, soft_accuracy=0)
        assert (one.loss, one.soft_accuracy) == (np.float32(other.loss), np.float32(other.soft_accuracy))


def test_images_that_changed_since_the_training_are_told(tmp_path):
    task = untabulated(tmp_path)
    changed = replace(task, record=TrainingRecord(data="0123456789abcdef"))
    with pytest.raises(InvalidValue, match="changed after task 'mine' was trained"):
        tabulate(changed, device="cpu")


def test_a_network_of_too_many_connections_is_told_before_it_is_trained(tmp_path, capsys):
    options = ("--task", "digits-table", "--blocks", "5,5,5", "--out", tmp_path / "out")
    done = run_here(capsys, "train-supernet", *options)
    assert done.code == 2 and "30 skip connections have 2^30" in done.err and not (tmp_path / "out").exists()


def test_a_copy_is_the_same_and_stays(made, tmp_path):
    copy = made.copied(tmp_path / "copy")
    assert copy.reference == str(tmp_path / "copy") and replace(copy, folder=made.folder) == made
    masks = every_mask(9)[::37]
    for weights in Weights:
        assert copy.evaluator(weights=weights).evaluate(masks) == made.evaluator(weights=weights).evaluate(masks)
    copy.files.weights.write_bytes(b"another")
    assert made.copied(tmp_path / "copy").files.weights.read_bytes() == b"another"


@pytest.mark.parametrize("weights", Weights)
def test_it_is_what_is_computed(made, weights):
    computing, looking = replace(made, table=None).evaluator("layers", "cpu", weights), made.evaluator(weights=weights)
    assert isinstance(looking, TableEvaluator) and looking.is_cheap
    masks = every_mask(9)
    assert masks.shape == (512, 9) and len({mask.tobytes() for mask in masks}) == 512 and BATCH < 512
    equal(looking.evaluate(masks), computing.evaluate(masks))
    assert looking.evaluate(masks[[7, 7, 3]]) == [looking.evaluate(masks[[i]])[0] for i in (7, 7, 3)]
    fingerprints = {computing.fingerprint, *(made.evaluator(weights=each).fingerprint for each in Weights)}
    assert looking.fingerprint in fingerprints and len(fingerprints) == 3


def test_it_knows_the_features_and_what_they_cost(made):
    plain = replace(made, table=None)
    for feature in NETWORK_FEATURES:
        one, other = made.feature(feature), plain.feature(feature)
        assert np.array_equal(one.values, other.values) and one.macs == other.macs
    assert made.evaluated_images == 160 == len(plain.calibration()) + 100


def test_other_scopes_are_computed(made):
    evaluator = made.evaluator(Scope.ALL, "cpu")
    assert not isinstance(evaluator, TableEvaluator)
    assert np.isfinite(evaluator.evaluate(evaluator.topology.dense()[None])[0].loss)


def test_the_one_that_ships_needs_no_torch():
    code = (
        "import sys, numpy as np; from ads_gym.problem import make_problem\n"
        "problem = make_problem('digits-table', weights='repaired')\n"
        "scored = problem.score(np.eye(16, dtype=bool))\n"
        "print(len(scored), problem.features().shape, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "16 (16, 7) False\n"


@pytest.mark.parametrize("weights", Weights)
def test_a_sample_of_the_one_that_ships_is_computed_again(weights):
    """Equal bits where the processor is as the one that made it, else nearly."""
    task = Task.load("digits-table")
    masks = np.random.default_rng(0).random((24, 16)) < np.linspace(0, 1, 24)[:, None]
    found = task.evaluator(weights=weights).evaluate(masks)
    computed = replace(task, table=None).evaluator("layers", "cpu", weights).evaluate(masks)
    for one, other in zip(found, computed, strict=True):
        assert abs(one.loss - other.loss) < 1e-5 and one.macs == other.macs
        assert abs(one.soft_accuracy - other.soft_accuracy) < 1e-5 and abs(one.accuracy - other.accuracy) <= 0.002
    assert task.files.table.stat().st_size < 2e6


def test_a_search_looks_up(tmp_path):
    result = ads_gym.search("digits-table", "local", 200, run=tmp_path / "run", progress=False, max_macs=0.8)
    problem = make_problem("digits-table", weights="repaired", reward="soft", cost_weight="even", max_macs=0.8)
    masks = every_mask(16)
    fitting = masks[problem.fits(masks)]
    best = max(scored.objective for scored in problem.score(fitting))
    assert result.objective <= best < result.objective + 0.01
    assert (tmp_path / "run/best.safetensors").exists()


def test_too_many_architectures(tmp_path):
    with pytest.raises(InvalidValue, match=r"45 skip connections have 2\^45"):
        tabulate(Task.load("digits"))


def changed(task, change):
    arrays = read_arrays(task.files.table, "table")
    change(arrays)
    task.files.table.write_bytes(to_bytes(arrays))
    return replace(task, table=hashlib.sha256(task.files.table.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda arrays: arrays.pop("inherited.loss"), "should have 'inherited.loss'"),
        (lambda arrays: arrays.update({"repaired.loss": arrays["repaired.loss"][:-1].copy()}), r"\[15\]"),
        (lambda arrays: arrays["repaired.loss"].__setitem__(3, np.nan), "no numbers"),
        (lambda arrays: arrays["inherited.right"].__setitem__(3, 101), "above 1"),
        (lambda arrays: arrays["valid"].__setitem__(0, 0), "out of range"),
        (lambda arrays: [arrays.pop(name) for name in list(arrays) if name.count("d.")], "no metrics"),
        (lambda arrays: arrays["network"].__setitem__(0, 1 + int(arrays["network"][0]) % 255), "of other weights"),
    ],
)
def test_a_damaged_table_is_told(tmp_path, change, says):
    task = changed(tabulate(untabulated(tmp_path), device="cpu"), change)
    with pytest.raises(DamagedFile, match=says) as caught:
        task.evaluator()
    assert str(task.files.table) in str(caught.value)


def test_one_kind_of_weights_first_and_the_other_later(tmp_path, made):
    task = tabulate(untabulated(tmp_path, config=LARGER), device="cpu", weights=[Weights.INHERITED])
    assert isinstance(task.evaluator(), TableEvaluator)
    assert not isinstance(task.evaluator(weights="repaired"), TableEvaluator)
    both = tabulate(Task.load(tmp_path), device="cpu")
    assert both.files.table.read_bytes() == made.files.table.read_bytes()


def test_a_table_of_something_else_is_told(tmp_path):
    task = tabulate(untabulated(tmp_path / "one"), device="cpu")
    other = tabulate(untabulated(tmp_path / "two", seed=1), device="cpu")
    task.files.table.write_bytes(other.files.table.read_bytes())
    with pytest.raises(DamagedFile, match=r"not the one that its task\.json names"):
        task.evaluator()
    task.files.table.write_bytes(b"junk")
    with pytest.raises(DamagedFile, match="not the one"):
        Task.load(task.folder).evaluator()
    task.files.table.unlink()
    with pytest.raises(NotFound, match=r"table\.safetensors"):
        task.evaluator()
    other.files.weights.write_bytes(task.files.weights.read_bytes())
    with pytest.raises(DamagedFile, match="of other weights"):
        other.feature(NETWORK_FEATURES[0])


def test_training_anew_forgets_the_table(tmp_path):
    task = tabulate(untabulated(tmp_path), device="cpu")
    assert Task.load(tmp_path).table == task.table is not None
    assert untabulated(tmp_path, seed=1).table is None
    assert not isinstance(Task.load(tmp_path).evaluator(), TableEvaluator)


def test_the_command(tmp_path, capsys):
    task = untabulated(tmp_path / "mine")
    done = run_here(capsys, "tabulate", "--task", task.folder, "--device", "cpu")
    assert done.code == 0 and str(task.files.table) in done.out
    assert isinstance(Task.load(task.folder).evaluator(), TableEvaluator)
    assert run_here(capsys, "tabulate", "--task", task.folder).code == 0
    done = run_here(capsys, "tabulate", "--task", "planted-20")
    assert done.code == 2 and "has no network" in done.err


@pytest.mark.slow
def test_a_kill_loses_nothing(tmp_path):
    whole = tabulate(untabulated(tmp_path / "whole", config=LARGER), device="cpu").files.table.read_bytes()
    task = untabulated(tmp_path / "killed", config=LARGER)
    store, command = task.folder / "table.sqlite", [sys.executable, "-m", "ads_gym", "tabulate", "--task", task.folder]
    process = subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.DEVNULL)
    while not store.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store.exists() and Task.load(task.folder).table is None
    subprocess.run([*command, "--device", "cpu"], check=True, capture_output=True)
    assert task.files.table.read_bytes() == whole and not store.exists()


def test_every_mask_is_at_its_row():
    masks = every_mask(3)
    assert masks[6].tolist() == [False, True, True] and len(masks) == 8
    assert Topology((4, 3)).size == 9
