"""What a stranger may put into a folder with runs and tasks. Each attack changes a copy of a good folder.

Beside the stranger's folder lies what must stay as it is: `victim` (a file), `elsewhere` (a folder), and `evil.py`,
which leaves a file behind when it is imported.
"""

import io
import json
import os
import pickle
import sqlite3
import zipfile
from contextlib import closing

import numpy as np

EVIL = "import pathlib; pathlib.Path(__file__).with_name('exploded').touch()\n"
RUN, TASK = "run", "tasks/mine"
RUN_FILES = ("manifest.json", "record.sqlite", "record.sqlite-wal", "record.sqlite-shm", "record.sqlite-journal")
RUN_FILES += ("history.csv", "best.json", "best.safetensors", "policy.json", "policy.safetensors", ".lock")
RUN_FILES += ("report.html",)
RUN_FOLDERS = ("pictures", "tensorboard")
TASK_FILES = ("task.json", "supernet.safetensors", ".lock")
RETRAINED = ("report.json", "sparse-s0.json", "sparse-s0.safetensors", "dense-s0.safetensors", ".lock")
RETRAINED += ("sparse-s0.checkpoint.safetensors",)


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def edit(path, change):
    """Change the values of a JSON file."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def manifest(**values):
    return lambda stranger: edit(stranger / RUN / "manifest.json", lambda found: found.update(values))


def identity(**values):
    return lambda stranger: edit(stranger / RUN / "manifest.json", lambda found: found["identity"].update(values))


def result(**values):
    return lambda stranger: edit(stranger / RUN / "manifest.json", lambda found: found["result"].update(values))


def description(**values):
    return lambda stranger: edit(stranger / TASK / "task.json", lambda found: found.update(values))


def data(**values):
    return lambda stranger: edit(stranger / TASK / "task.json", lambda found: found["data"].update(values))


def replaced(name, make):
    """Something else in the place of a file or folder."""

    def attack(stranger):
        path = next(stranger.glob(name), stranger / name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            path.rename(stranger / "moved")
        else:
            path.unlink(missing_ok=True)
        make(path)

    return attack


def link_to_victim(path):
    path.symlink_to(os.path.relpath("victim", path.parent))


def link_to_folder(path):
    path.symlink_to(os.path.relpath("elsewhere", path.parent), target_is_directory=True)


def link_to_itself(path):
    path.symlink_to(path.name)


def link_to_nothing(path):
    path.symlink_to(os.path.relpath("elsewhere/new", path.parent))


def zeros(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()
    (path / "x").touch()


def pickled(path):
    path.write_bytes(pickle.dumps(Bomb()))


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
        archive.writestr("archive/version", "3\n")


def python_everywhere(stranger):
    for place in (stranger, stranger / RUN, stranger / TASK):
        for name in ("torch", "numpy", "ads_gym", "sitecustomize", "usercustomize", "conftest", "evil", "json"):
            (place / f"{name}.py").write_text(EVIL)


def trigger(stranger):
    with closing(sqlite3.connect(stranger / RUN / "record.sqlite", isolation_level=None)) as opened:
        opened.execute("CREATE TRIGGER t AFTER INSERT ON history BEGIN DELETE FROM history; END")


def attached(stranger):
    """A database that wants to be another one."""
    with closing(sqlite3.connect(stranger / RUN / "record.sqlite", isolation_level=None)) as opened:
        opened.execute("PRAGMA writable_schema = 1")
        opened.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE VIRTUAL TABLE history USING fts5(x)' WHERE name = 'history'"
        )


def postscript(stranger):
    """Images that are programs."""
    (stranger / "data.npz").unlink()
    for label in "01":
        (stranger / "data.npz" / label).mkdir(parents=True)
        (stranger / "data.npz" / label / "x.png").write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(exploded) (w) file closefile\n%%EOF\n"
        )


def bomb_of_zeros(stranger):
    packed = io.BytesIO()
    np.savez_compressed(packed, images=np.zeros((2**20, 32, 32), np.uint8), labels=np.zeros(1, np.int64))
    (stranger / "data.npz").write_bytes(packed.getvalue())


def loops(stranger):
    """Class folders that lead back to themselves."""
    (stranger / "data.npz").unlink()
    for label in "01":
        (stranger / "data.npz" / label).mkdir(parents=True)
        for name in ("a", "b", "c"):
            (stranger / "data.npz" / label / name).symlink_to("..", target_is_directory=True)


def drafts(stranger):
    for place in (stranger / RUN, stranger / TASK):
        (place / ".ads-gym-0.tmp").symlink_to(os.path.relpath("victim", place))
        (place / ".ads-gym-1.tmp").symlink_to(os.path.relpath("elsewhere", place))


NUMBERS = ("objective", "accuracy", "soft_accuracy", "loss", "relative_macs", "relative_cost", "parameters")
MARKUP = {"name": "[/x][link=file:///x]\x1b[2J", **dict.fromkeys(NUMBERS, 1e300)}
MAKERS = (link_to_victim, link_to_folder, link_to_itself, link_to_nothing, zeros, os.mkfifo, folder, pickled, zipped)
ATTACKS = {
    "nothing": lambda stranger: None,
    "agent": identity(agent="evil:play"),
    "agent with code": identity(**{"agent": "evil:play", "agent's code": "0" * 64}),
    "reward": identity(reward="evil:reward"),
    "options": identity(**{"agent's options": {"policy": "evil:policy", "path": "victim"}}),
    "task as code": manifest(task="evil:task", task_from_run=None),
    "task elsewhere": manifest(task="elsewhere", task_from_run="../../elsewhere"),
    "task as a device": manifest(task="/dev/zero", task_from_run="/dev/zero"),
    "task at a nobody's": manifest(task="~nosuchuser/x", task_from_run=None),
    "data root": manifest(data_root="elsewhere"),
    "data root as a device": manifest(data_root="/dev/zero"),
    "data elsewhere": data(source="victim"),
    "data as code": data(source="evil:images"),
    "data as a device": data(source="/dev/zero"),
    "data as a pipe": lambda stranger: (data(source=str(stranger / "pipe"))(stranger), os.mkfifo(stranger / "pipe")),
    "data as a long name": data(source="x" * 3_000),
    "data of other size": data(size=8_000),
    "markup": result(stopped_by="agent", table=[MARKUP]),
    "name of a task": description(name="../../x[/x]"),
    "python everywhere": python_everywhere,
    "trigger": trigger,
    "virtual table": attached,
    "postscript": postscript,
    "bomb of zeros": bomb_of_zeros,
    "loops": loops,
    "drafts": drafts,
}
for _name in (*RUN_FILES, *RUN_FOLDERS):
    for _make in MAKERS:
        ATTACKS[f"run/{_name} is {_make.__name__}"] = replaced(f"{RUN}/{_name}", _make)
for _name in TASK_FILES:
    for _make in MAKERS:
        ATTACKS[f"task/{_name} is {_make.__name__}"] = replaced(f"{TASK}/{_name}", _make)
for _make in MAKERS:
    ATTACKS[f"retraining is {_make.__name__}"] = replaced(f"{RUN}/retrain-*", _make)
    for _name in RETRAINED:
        ATTACKS[f"retraining/{_name} is {_make.__name__}"] = replaced(f"{RUN}/retrain-*/{_name}", _make)
