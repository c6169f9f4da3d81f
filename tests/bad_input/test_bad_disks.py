"""Full disks, and folders that cannot be written."""

import shutil
import subprocess

import pytest
import torch
from commands import read_rows, run_here
from marks import slow
from sabotage import PLANTED, REAL, RETRAIN, TRAIN, changed, contents, is_one_clear_line

from ads_gym.compression.sparsify import sparsify
from ads_gym.errors import StorageError


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


def test_a_full_disk_leaves_the_report_that_stood_there(place, capsys, mounted):
    disk = mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    shutil.copytree(place / "real", disk / "real")
    (disk / "real/report.html").write_text("an earlier one")
    fill(disk, 8192)
    before = contents(disk)
    is_one_clear_line(run_here(capsys, "report", "mounted/real", "--no-latency"), ("report.html", "space"))
    assert contents(disk) == before
    (disk / "rest").unlink()
    assert run_here(capsys, "report", "mounted/real", "--no-latency").code == 0


@pytest.mark.parametrize("format_", [slow("onnx"), "torch-export", slow("python")])
def test_a_full_disk_during_an_export(place, capsys, mounted, format_):
    disk = mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    command = ("export", "real", "--format", format_, "--out", "mounted/net", "--replace")
    assert run_here(capsys, *command).code == 0
    fill(disk, 4096)
    before = contents(disk)
    is_one_clear_line(run_here(capsys, *command), ("mounted/net", "pace"))
    assert contents(disk) == before
    (disk / "rest").unlink()
    assert run_here(capsys, *command).code == 0


READ_ONLY = {
    "export": ("export", "mounted/real", "--format", "torch-export"),
    "search": changed(PLANTED, "--run", "mounted/new"),
    "search further": changed(REAL, "--run", "mounted/real", "--evaluations", 5),
    "train-supernet": changed(TRAIN, "--out", "mounted/new"),
    "retrain": ("retrain", "mounted/real", *RETRAIN[2:]),
    "report": ("report", "mounted/real", "--no-latency"),
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


def test_a_report_of_a_folder_that_cannot_be_written(place, capsys, mounted):
    (place / "source").mkdir()
    shutil.copytree(place / "real", place / "source" / "real")
    folder = mounted("--bind", place / "source")
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    assert run_here(capsys, "report", "mounted/real", "--no-latency", "--out", "elsewhere.html").code == 0
    assert (place / "elsewhere.html").stat().st_size > 10_000


@pytest.mark.parametrize("left", [0, 8192, 65_536])
def test_a_full_disk_during_a_sparsification(tmp_path, mounted, left):
    densenet = pytest.importorskip("torchvision.models.densenet")
    torch.manual_seed(0)
    model, images = densenet.DenseNet(6, (3, 3), 8, num_classes=4), torch.randn(16, 3, 32, 32)
    settings = {"max_macs": 0.98, "evaluations": 0, "distil": 2, "progress": False}
    disk = mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    fill(disk, left)
    with pytest.raises(StorageError, match="cannot be written: no space left on the disk"):
        sparsify(model, images, **settings, run=disk / "r")
    before = [path.name for path in (disk / "r").iterdir()] if (disk / "r").exists() else []
    assert "best.json" not in before and (left == 0 or "sparsify.json" in before)
    (disk / "rest").unlink()
    made = sparsify(model, images, **settings, run=disk / "r")
    assert made.stages[-1].valid == sparsify(model, images, **settings).stages[-1].valid
