"""Files that commands read."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_here, run_program
from sabotage import (
    PLANTED,
    REAL,
    RETRAIN,
    TRAIN_NEW,
    Bomb,
    bomb,
    changed,
    contents,
    cut,
    edit,
    foreign_database,
    is_one_clear_line,
    is_refused,
    junk,
    nan_weights,
    newer_store,
    other_weights,
    save_images,
    torch_bomb,
)

import ads_gym
from ads_gym.errors import NotFound

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


FURTHER = {"search": changed(PLANTED, "--evaluations", 12), "real": changed(REAL, "--evaluations", 5)}
SHOW = ("show", "r/best.json")
PAGE = ("report", "real", "--no-latency")
NEW = changed(REAL, "--run", "new")
WITH_STORE = changed(REAL, "--run", "new", "--store", "s.sqlite")
EXPORT = ("export", "real", "--format", "torch-export")
FILES = {
    # what reads it, which file, how it is spoilt, what is said
    "report's manifest": (PAGE, "real/manifest.json", junk, ("real/manifest.json",)),
    "report's run": (PAGE, "real/manifest.json", lambda p: p.unlink(), ("real is no run folder", "manifest.json")),
    "report's run, not over": (PAGE, "real/manifest.json", lambda p: edit(p, result=None), ("real is not over",)),
    "report's record": (PAGE, "real/record.sqlite", junk, ("real/record.sqlite",)),
    "report's record cut": (PAGE, "real/record.sqlite", cut, ("real/record.sqlite",)),
    "report's record missing": (PAGE, "real/record.sqlite", lambda p: p.unlink(), ("real/record.sqlite",)),
    "report's record another's": (PAGE, "real/record.sqlite", foreign_database, ("real/record.sqlite",)),
    "report's record of another run": (
        PAGE,
        "real/record.sqlite",
        lambda p: shutil.copy("r/record.sqlite", p),
        ("real/record.sqlite", "damaged"),
    ),
    "report's weights": (PAGE, "real/best.safetensors", cut, ("real/best.safetensors",)),
    "report's weights NaN": (PAGE, "real/best.safetensors", nan_weights, ("real/best.safetensors", "NaN")),
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
    "record gone": (FURTHER["search"], "r/record.sqlite", Path.unlink, ("no record.sqlite", "restart")),
    "record cut": (FURTHER["real"], "real/record.sqlite", cut, ("record.sqlite",)),
    "store junk": (WITH_STORE, "s.sqlite", junk, ("s.sqlite", "no store")),
    "store foreign": (WITH_STORE, "s.sqlite", foreign_database, ("s.sqlite", "no store")),
    "store newer": (WITH_STORE, "s.sqlite", newer_store, ("s.sqlite", "99", "upgrade")),
    "store cut": (WITH_STORE, "s.sqlite", cut, ("s.sqlite",)),
    "export: junk": (EXPORT, "real/best.safetensors", junk, ("best.safetensors",)),
    "export: weights NaN": (EXPORT, "real/best.safetensors", nan_weights, ("NaN",)),
    "export: weights of another": (EXPORT, "real/best.safetensors", other_weights, ("does not hold the weights",)),
    "export: no weights": (EXPORT, "real/best.safetensors", Path.unlink, ("no weights file", "best.safetensors")),
    "export: no best": (EXPORT, "real/best.json", Path.unlink, ("best.json",)),
    "export: not over": (EXPORT, "real/manifest.json", lambda p: edit(p, ended=None), ("is not over", "export")),
    "export: manifest": (EXPORT, "real/manifest.json", junk, ("manifest.json",)),
    "retrain: manifest": (RETRAIN, "real/manifest.json", junk, ("manifest.json",)),
    "retrain: best": (RETRAIN, "real/best.json", cut, ("best.json",)),
    "retrain: not over": (RETRAIN, "real/manifest.json", lambda p: edit(p, ended=None), ("is not over",)),
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
    is_refused(place, capsys, *FILES[case])


@pytest.mark.parametrize("spoil", [junk, bomb, torch_bomb, lambda path: torch.save({"epoch": 1}, path)])
def test_a_damaged_checkpoint(place, capsys, spoil, interrupted_training):
    command, checkpoint = interrupted_training
    spoil(checkpoint)
    before = contents(place)
    is_one_clear_line(run_here(capsys, *command), (checkpoint.name, "remove it"))
    assert contents(place) == before
    checkpoint.unlink()
    assert run_here(capsys, *command).code == 0


@pytest.mark.parametrize("name", ["best.json", "best.safetensors", "pictures", "history.csv"])
def test_what_is_missing_of_a_result_is_written_anew(place, capsys, name):
    path = place / "real" / name
    before = path.read_bytes() if path.is_file() else None
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = run_here(capsys, *REAL)
    assert done.code == 0 and "real/best.safetensors" in done.out
    assert path.is_dir() if before is None else path.read_bytes() == before


def test_a_run_folder_and_its_network_are_found_by_any_of_their_names(place, capsys):
    shown = {run_here(capsys, "show", f"real{name}").out for name in ("", "/best", "/best.json", "/best.safetensors")}
    assert len(shown) == 1 and "MACs" in shown.pop()
    assert ads_gym.load("real").architecture == ads_gym.load("real/best").architecture
    with pytest.raises(NotFound, match="architecture"):
        ads_gym.load("task")


def test_the_program_itself_on_a_damaged_file(place):
    junk(place / "task/supernet.safetensors")
    is_one_clear_line(run_program(*NEW), ("supernet.safetensors",))
