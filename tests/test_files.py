"""Files: each error is one sentence that names the file, each write is whole, each lock ends with its process."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from users import be_nameless, needs_linux, needs_root, obey_modes, run_python

from ads_gym import files
from ads_gym.errors import AdsGymError, DamagedFile, InvalidValue, NotFound, StorageError

posix = pytest.mark.skipif(os.name != "posix", reason="modes, locks and full disks as POSIX has them")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_paths_are_full_and_know_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert files.resolve("~/x") == files.resolve(Path("x")) == tmp_path / "x"


@needs_root
def test_an_unknown_home_is_one_sentence(tmp_path):
    code = "from ads_gym import files, errors\ntry: files.resolve('~/x')\nexcept errors.StorageError as e: print(e)"
    done = run_python(be_nameless, code, cwd=tmp_path)
    assert "HOME" in done.stdout and "full path" in done.stdout and "'~/x'" in done.stdout, done


def test_a_deleted_current_folder_is_one_sentence(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StorageError, match="full path"):
        files.resolve("x")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (FileNotFoundError(2, "No such file or directory"), NotFound, "no such file"),
        (PermissionError(13, "Permission denied"), StorageError, "permission denied"),
        (OSError(28, "No space left on device"), StorageError, "no space left"),
        (OSError(30, "Read-only file system"), StorageError, "read-only"),
        (OSError("odd"), StorageError, "odd"),
        (DamagedFile("itself"), DamagedFile, "^itself$"),
        (NotFound("itself"), NotFound, "^itself$"),
    ],
)
def test_errors_of_the_system_become_one_sentence(error, kind, says):
    with pytest.raises(kind, match=says) as raised, files.file_errors("some/file", "written"):
        raise error
    assert type(raised.value) is kind
    if raised.value is not error:
        assert str(raised.value).startswith("some/file cannot be written: ") and str(raised.value).endswith(".")


def test_other_errors_are_not_touched():
    with pytest.raises(KeyError), files.file_errors("x"):
        raise KeyError


@needs_linux
def test_below_a_folder_that_may_not_be_entered(tmp_path):
    (tmp_path / "shut").mkdir(mode=0)
    code = """
import sys
from pathlib import Path
from ads_gym import errors, files
path = Path(sys.argv[1])
for call in (files.exists, files.is_file, files.is_folder, lambda p: files.read_bytes(p, "x", 9),
             lambda p: files.write_file(p, "x"), lambda p: files.locked(p, "x").__enter__()):
    try:
        call(path)
    except errors.StorageError as error:
        print(error)
"""
    done = run_python(obey_modes, code, tmp_path / "shut" / "in" / "file", cwd=tmp_path)
    assert not done.stderr
    assert [line.endswith("permission denied.") for line in done.stdout.splitlines()] == [True] * 6, done.stdout


def test_a_file_is_written_with_its_folder_and_replaced_whole(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    files.write_file(path, "für")
    assert path.read_text(encoding="utf-8") == "für"
    files.write_file(path, b"\0")
    assert path.read_bytes() == b"\0" and names(path.parent) == ["file"]


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_is_the_umasks(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.write_file(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        files.write_file(tmp_path / "one", "new")
    with pytest.raises(StorageError, match="no space left"):
        files.write_files({tmp_path / "one": "new", tmp_path / "two": "new"})
    assert names(tmp_path) == ["one", "two"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}
    monkeypatch.undo()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=r"folder cannot be written"):
        files.write_file(tmp_path / "folder", "x")
    assert names(tmp_path) == ["folder", "one", "two"]


def test_files_that_belong_together_are_never_mixed(tmp_path, monkeypatch):
    """Killed at any moment between them: both old, the last missing, or both new."""
    pair = {tmp_path / "weights": "new", tmp_path / "description": "new"}
    seen = []

    def look(path, *args, **kwargs):
        seen.append({name.name: name.read_text() for name in pair if name.exists()})
        return real[path.__class__](path, *args, **kwargs)

    for path in pair:
        path.write_text("old")
    real = {type(tmp_path): type(tmp_path).replace}
    monkeypatch.setattr(type(tmp_path), "replace", look)
    files.write_files(pair)
    assert seen == [{"weights": "old"}, {"weights": "new"}]
    assert {path.read_text() for path in pair} == {"new"} and names(tmp_path) == ["description", "weights"]


def test_a_name_that_somebody_prepared_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "guessed")
    (tmp_path / files.DRAFT_PATTERN.replace("*", "guessed")).symlink_to(victim)
    with pytest.raises(StorageError):
        files.write_file(tmp_path / "file", "x")
    assert victim.read_text() == "precious"


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(NotFound, match=r"there is no thing .*x\.json"):
        files.read_bytes(tmp_path / "x.json", "thing", 10)
    with pytest.raises(StorageError, match="folder"):
        files.read_bytes(tmp_path, "thing", 10)


@posix
def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(11))
    (tmp_path / "link").symlink_to(tmp_path / "good")
    (tmp_path / "good").write_bytes(bytes(10))
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(DamagedFile, match="no regular file"):
            files.read_bytes(path, "thing", 10)
    with pytest.raises(DamagedFile, match=r"11 bytes.* at most 10"):
        files.read_bytes(tmp_path / "large", "thing", 10)
    assert files.read_bytes(tmp_path / "link", "thing", 10) == bytes(10)


@posix
def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "inside").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is a link"):
        files.make_folder(tmp_path / "inside")
    (tmp_path / "file").symlink_to(tmp_path / "elsewhere/file")
    with pytest.raises(StorageError, match="no regular file"):
        files.check_no_link(tmp_path / "file")
    files.check_no_link(tmp_path / "nothing")
    files.write_file(tmp_path / "file", "x")  # takes the link's place
    assert names(tmp_path / "elsewhere") == [] and not (tmp_path / "file").is_symlink()


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 5000, "\ud800", 3, None, b"x"])
def test_what_is_no_path_is_told(path):
    with pytest.raises(InvalidValue, match="a path is a"):
        files.resolve(path)


HOLD = """
import sys, time
from pathlib import Path
from ads_gym import files
with files.locked(Path(sys.argv[1]), "training"):
    print("locked", flush=True)
    time.sleep(60)
"""


@posix
def test_a_lock_keeps_others_out_until_its_process_ends(tmp_path):
    folder = tmp_path / "task"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "locked\n"
        says = rf"another process is training in .*{folder.name}.*another folder"
        with pytest.raises(StorageError, match=says), files.locked(folder, "training"):
            pytest.fail("two at once")
        assert folder.is_dir()
        (folder / files.DRAFT_PATTERN.replace("*", "left")).touch()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with files.locked(folder, "training"):
        assert names(folder) == [files.LOCK_NAME]
    assert names(folder) == []


@posix
def test_a_lock_leaves_nothing_behind(tmp_path):
    with pytest.raises(AdsGymError), files.locked(tmp_path / "new", "training"):
        raise AdsGymError
    assert not (tmp_path / "new").exists()
    with files.locked(tmp_path / "new", "training"):
        (tmp_path / "new" / "file").touch()
    assert names(tmp_path / "new") == ["file"]


COUNT = """
import sys
from pathlib import Path
from ads_gym import files
from ads_gym.errors import StorageError
folder = Path(sys.argv[1])
count = folder.with_name("count")
done = 0
while done < 150:
    try:
        with files.locked(folder, "counting"):
            n = int(count.read_text())
            count.write_text(str(n + 1))
            done += 1
    except StorageError as error:
        assert "another process" in str(error), error
"""


@posix
def test_never_two_hold_it_though_the_lock_file_comes_and_goes(tmp_path):
    (tmp_path / "count").write_text("0")
    counting = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path / "folder")]) for _ in range(3)]
    until = time.monotonic() + 60
    assert [process.wait(until - time.monotonic()) for process in counting] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "450"
