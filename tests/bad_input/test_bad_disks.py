"""Full disks, and folders that cannot be written."""

import shutil
import subprocess

import pytest
from commands import read_rows, run_here
from sabotage import PLANTED, REAL, RETRAIN, TRAIN, changed, contents, is_one_clear_line


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


@pytest.mark.parametrize("format_", ["onnx", "torch-export", "python"])
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
