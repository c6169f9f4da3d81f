"""Commands that work, and how what they read is spoilt."""

import json
import os
import pickle
import sqlite3
from pathlib import Path

import numpy as np
import torch
from commands import run_here

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


def save_images(path, images=None, labels=None, **others):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8)).astype(np.uint8) if images is None else images
    labels = np.arange(len(images)) % 2 if labels is None else labels
    np.savez(path, images=images, labels=labels, **others)


def contents(folder):
    """name -> bytes of all files but those that SQLite keeps beside an open database."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal"))]
    return {str(path.relative_to(folder)): _content(path) for path in files}


def _content(path):
    """Its bytes; of a file with a hole of gigabytes, how many there are."""
    return path.read_bytes() if path.stat().st_size < 2**30 else path.stat().st_size


def is_one_clear_line(done, says):
    assert done.code == 2 and done.out == "", done
    *progress, said = done.err.splitlines()
    assert said.startswith("Error: ") and set(progress) <= {"reading data, then epoch 1"}, (
        done.err
    )  # which may take long
    assert "Traceback" not in done.err and not Path("exploded").exists()
    for part in says:
        assert part in said, done.err


def is_refused(place, capsys, command, name, spoil, says):
    """Whether a command that reads a spoilt file says so in one line, and leaves everything as it is."""
    spoil(place / name)
    before = contents(place)
    is_one_clear_line(run_here(capsys, *command), says)
    assert contents(place) == before


def changed(command, *more):
    """The command with more options; a later one takes the place of an earlier."""
    return (*command, *map(str, more))


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
