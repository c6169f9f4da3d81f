"""Files in the right form that say what cannot be: nothing that they say is believed before it is checked."""

import json
import os
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
import torch
from commands import run_here
from sabotage import PLANTED, REAL, RETRAIN, TRAIN_NEW, changed, contents, edit, is_one_clear_line, is_refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file

SHOW, LATENCY = ("show", "r/best.json"), ("latency", "r")
FURTHER, AGAIN = changed(PLANTED, "--evaluations", 12), PLANTED
NEW = changed(REAL, "--run", "new")


def deep(value, levels=5_000):
    return "[" * levels + json.dumps(value) + "]" * levels


def within(*keys, **values):
    """A change of an object inside the JSON file."""

    def change(path):
        content = json.loads(path.read_text())
        inner = content
        for key in keys:
            inner = inner[key]
        inner.update(values)
        path.write_text(json.dumps(content))

    return change


def replaced(old, new):
    """A change of the text."""

    def change(path):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def rows(*statements):
    """A change of a database, past its own checks."""

    def change(path):
        for statement in statements:  # each by a connection that has read the changed schema
            with closing(sqlite3.connect(path, isolation_level=None)) as database:
                database.execute("PRAGMA ignore_check_constraints = 1")
                database.execute("PRAGMA writable_schema = 1")
                database.execute(statement)

    return change


TRIGGER = "CREATE TRIGGER t AFTER INSERT ON {0} BEGIN DELETE FROM {0}; END"
NOT_STRICT = "UPDATE sqlite_schema SET sql = replace(sql, ' STRICT', '')"
FILES = {
    # what reads it, which file, how it lies, what is said
    "blocks": (SHOW, "r/best.json", within("config", blocks=[20_000]), ("blocks[0]", "20000")),
    "many blocks": (SHOW, "r/best.json", within("config", blocks=[1] * 10_000), ("blocks",)),
    "a million blocks": (SHOW, "r/best.json", within("config", blocks=["x"] * 500_000), ("500,000 entries",)),
    "blocks of fractions": (SHOW, "r/best.json", within("config", blocks=[5.5, 5]), ("blocks[0]", "5.5")),
    "growth": (SHOW, "r/best.json", within("config", growth=10**9), ("growth", "1000000000")),
    "classes": (SHOW, "r/best.json", within("config", classes=10**9), ("classes", "1000000000")),
    "images": (SHOW, "r/best.json", within("config", image_shape=[1, 50_000, 50_000]), ("image_shape", "50000")),
    "memory": (
        LATENCY,
        "r/best.json",
        within("config", growth=1_000, stem_channels=4_000, image_shape=[3, 4_096, 4_096]),
        ("GiB", "--allow-large"),
    ),
    "bottleneck": (SHOW, "r/best.json", within("config", bottleneck="false"), ("bottleneck", "'false'")),
    "bottleneck 1": (SHOW, "r/best.json", within("config", bottleneck=1), ("bottleneck", "got 1")),
    "compression": (SHOW, "r/best.json", within("config", compression="0.5"), ("compression", "'0.5'")),
    "compression NaN": (SHOW, "r/best.json", within("config", compression=float("nan")), ("JSON",)),
    "long mask": (SHOW, "r/best.json", lambda path: edit(path, mask="01" * 10**6), ("mask",)),
    "deep mask": (SHOW, "r/best.json", replaced('"mask": "', f'"x": {deep(1)}, "mask": "'), ("best.json",)),
    "reward": (AGAIN, "r/manifest.json", within("result", reward="x"), ("manifest.json", "reward")),
    "objective": (AGAIN, "r/manifest.json", within("result", objective="x"), ("manifest.json", "objective")),
    "infinite objective": (AGAIN, "r/manifest.json", within("result", objective=float("inf")), ("manifest.json",)),
    "markup": (AGAIN, "r/manifest.json", within("result", stopped_by="[/x]"), ("manifest.json", "[/x]")),
    "deep result": (AGAIN, "r/manifest.json", replaced('"result": ', f'"result": {deep(1)}, "x": '), ("JSON",)),
    "many lines": (AGAIN, "r/manifest.json", within("result", table=[{"name": 1}] * 200_000), ("200,000 entries",)),
    "metrics": (AGAIN, "r/manifest.json", within("result", "metrics", macs=10**30), ("manifest.json", "macs")),
    "no result": (AGAIN, "r/manifest.json", lambda path: edit(path, result=[]), ("manifest.json", "result")),
    "budget": (FURTHER, "r/manifest.json", lambda path: edit(path, budget=-5), ("manifest.json", "budget")),
    "budget of another type": (FURTHER, "r/manifest.json", lambda path: edit(path, budget="8"), ("budget", "'8'")),
    "where it differs": (FURTHER, "r/manifest.json", lambda path: edit(path, differs_at=-1), ("differs_at",)),
    "long task": (RETRAIN, "real/manifest.json", lambda path: edit(path, task="x" * 10_000), ("manifest.json", "task")),
    "task a number": (RETRAIN, "real/manifest.json", lambda path: edit(path, task=7), ("manifest.json", "task")),
    "deep circumstances": (
        RETRAIN,
        "real/manifest.json",
        replaced('"circumstances": ', f'"circumstances": {deep(1)}, "x": '),
        ("manifest.json",),
    ),
    "recipe": (RETRAIN, "task/task.json", within("record", recipe=7), ("task.json", "recipe")),
    "epochs": (RETRAIN, "task/task.json", within("record", "recipe", epochs=1.5), ("task.json", "epochs", "1.5")),
    "many epochs": (RETRAIN, "task/task.json", within("record", "recipe", epochs=10**12), ("task.json", "epochs")),
    "shift": (RETRAIN, "task/task.json", within("record", "recipe", shift=8_000), ("task.json", "shift")),
    "batch": (
        RETRAIN,
        "task/task.json",
        within("record", "recipe", batch_size=2**20),
        ("training this network on 1048576 images", "GiB", "--allow-large"),
    ),
    "weights": (
        NEW,
        "task/supernet.safetensors",
        lambda path: os.truncate(path, 2**34),
        ("supernet.safetensors", "17,179,869,184 bytes", "at most"),
    ),
    "learning rate": (RETRAIN, "task/task.json", within("record", "recipe", learning_rate="0.1"), ("learning_rate",)),
    "spread": (("throughput", "--task", "task"), "task/task.json", within("record", spread=[1, "x"]), ("spread",)),
    "data's seed": (NEW, "task/task.json", within("data", seed=10**30), ("task.json", "seed")),
    "data's size": (NEW, "task/task.json", within("data", size=10**6), ("task.json", "size")),
    "data's source": (NEW, "task/task.json", within("data", source="a\0b"), ("task.json", "source")),
    "name": (NEW, "task/task.json", lambda path: edit(path, name=None), ("task.json", "name")),
    "text in a record": (
        FURTHER,
        "r/record.sqlite",
        rows(NOT_STRICT, "UPDATE evaluations SET accuracy = 'x'"),
        ("record.sqlite", "other tables"),
    ),
    "infinite loss": (FURTHER, "r/record.sqlite", rows("UPDATE evaluations SET loss = 9e999"), ("record.sqlite",)),
    "trigger": (FURTHER, "r/record.sqlite", rows(TRIGGER.format("history")), ("record.sqlite", "other tables")),
    "view": (FURTHER, "r/record.sqlite", rows("CREATE VIEW v AS SELECT 1"), ("record.sqlite", "other tables")),
    "types": (FURTHER, "r/record.sqlite", rows(NOT_STRICT), ("record.sqlite", "other tables")),
    "a row less": (
        FURTHER,
        "r/record.sqlite",
        rows("DELETE FROM history WHERE number = 3"),
        ("record.sqlite", "evaluation 3"),
    ),
    "another evaluator": (
        FURTHER,
        "r/record.sqlite",
        rows("UPDATE history SET fingerprint = 'x' WHERE number > 2"),
        ("record.sqlite", "another evaluator's"),
    ),
    "a row without metrics": (
        FURTHER,
        "r/record.sqlite",
        rows("DELETE FROM evaluations WHERE mask = (SELECT mask FROM history WHERE number = 4)"),
        ("record.sqlite", "evaluation 4"),
    ),
    "a mask of other length": (
        FURTHER,
        "r/record.sqlite",
        rows("UPDATE history SET mask = x'00' WHERE number = 2"),
        ("record.sqlite", "evaluation 2"),
    ),
    "text in a store": (
        changed(NEW, "--store", "s.sqlite"),
        "s.sqlite",
        rows(NOT_STRICT, "UPDATE evaluations SET accuracy = 'x'"),
        ("s.sqlite", "other tables"),
    ),
    "trigger in a store": (
        changed(NEW, "--store", "s.sqlite"),
        "s.sqlite",
        rows(TRIGGER.format("evaluations")),
        ("s.sqlite", "other tables"),
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_files(place, capsys, case):
    is_refused(place, capsys, *FILES[case])


def test_a_longer_run_without_episodes(place, capsys):
    """It cannot answer for a shorter one, and is no reason to fail."""
    manifest = place / "r/manifest.json"
    edit(manifest, budget=20)
    within("result", episodes=0)(manifest)
    done = run_here(capsys, *changed(PLANTED, "--evaluations", 8))
    assert done.code == 0 and "8 evaluations" in done.out


def test_a_lock_that_is_not_ours(place, capsys):
    (place / "mine").mkdir()
    (place / "mine/.lock").write_text("precious")
    is_one_clear_line(run_here(capsys, *changed(PLANTED, "--run", "mine")), ("mine/.lock", "another folder"))
    assert (place / "mine/.lock").read_text() == "precious"
    (place / "mine/.lock").unlink()
    os.mkfifo(place / "mine/.lock")
    is_one_clear_line(run_here(capsys, *changed(PLANTED, "--run", "mine")), ("mine/.lock", "another folder"))
    assert (place / "mine/.lock").is_fifo()


def report_of(place, capsys):
    assert run_here(capsys, *RETRAIN).code == 0
    (report,) = place.glob("real/retrain-*/report.json")
    return report


@pytest.mark.parametrize(
    "lie",
    [
        replaced('"networks": [', f'"networks": [{deep(1)}, '),
        replaced('"network": "sparse"', '"network": "[/x]"'),
        replaced('"seed": 0', '"seed": "0"'),
        replaced('"seed": 0', '"seed": -1'),
        replaced('"networks": [', '"networks": [null, '),
        lambda path: edit(path, test_reads="many"),
        lambda path: edit(path, sources=None),
        lambda path: path.write_text("[]"),
    ],
)
def test_a_report_of_a_retraining(place, capsys, lie):
    report = report_of(place, capsys)
    lie(report)
    before = contents(place)
    is_one_clear_line(run_here(capsys, *changed(RETRAIN, "--seeds", 2)), ("report.json",))
    assert contents(place) == before


def tensors(**more):
    """A change of a checkpoint's tensors."""

    def change(path):
        with safe_open(path, "pt") as opened:
            described = opened.metadata()
        save_file(load_file(path) | more, path, described)

    return change


def momentum(path):
    name = next(name for name in load_file(path) if name.startswith("momentum "))
    tensors(**{name: torch.zeros(3)})(path)


@pytest.mark.parametrize(
    "lie",
    [
        tensors(epochs=torch.tensor(10**9)),
        tensors(epochs=torch.tensor(-5)),
        tensors(epochs=torch.tensor(1.5)),
        tensors(epochs=torch.tensor([1, 2])),
        momentum,
        tensors(unheard_of=torch.zeros(2)),
    ],
)
def test_a_checkpoint(place, capsys, lie, interrupted_training):
    command, checkpoint = interrupted_training
    lie(checkpoint)
    before = contents(place)
    is_one_clear_line(run_here(capsys, *command), (checkpoint.name,))
    assert contents(place) == before


def test_weights_that_are_no_numbers(place, capsys):
    """Of the network that a search wrote: `load` says so, and whatever reads it."""
    import ads_gym
    from ads_gym.errors import DamagedFile

    path = place / "real/best.safetensors"
    found = load_file(path)
    save_file({name: tensor * float("nan") for name, tensor in found.items()}, path)
    with pytest.raises(DamagedFile, match="NaN"):
        ads_gym.load(place / "real/best")


@pytest.mark.parametrize("shape", ["(1000000000, 8, 8)", "(-1, 8, 8)", "(60, 8, 8", "()"])
def test_an_npz_whose_header_lies(place, capsys, shape):
    import zipfile

    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    np.savez(place / "labels.npz", labels=np.arange(60) % 2)
    with zipfile.ZipFile(place / "bad.npz", "w") as packed, zipfile.ZipFile(place / "labels.npz") as labels:
        packed.writestr("labels.npy", labels.read("labels.npy"))
        packed.writestr("images.npy", array)
    is_one_clear_line(run_here(capsys, *changed(TRAIN_NEW, "--data", "bad.npz")), ("bad.npz",))


def test_an_npz_that_grows(place, capsys):
    """3 MB of it would be gigabytes."""
    np.savez_compressed(place / "bad.npz", images=np.zeros((48, 4096, 4096), np.uint8), labels=np.arange(48) % 2)
    assert (place / "bad.npz").stat().st_size < 2**20
    is_one_clear_line(run_here(capsys, *changed(TRAIN_NEW, "--data", "bad.npz")), ("bad.npz", "GiB", "--allow-large"))


def test_a_task_of_brackets(place, capsys):
    shutil.copytree(place / "task", place / "home/tasks/copy[bold]")
    edit(place / "home/tasks/copy[bold]/task.json", name="[/x]")
    done = run_here(capsys, "search", "--task", "copy[bold]", *PLANTED[3:-1], "new")
    assert "Traceback" not in done.err and done.code in (0, 2)
