import contextlib
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ads_gym.architecture import DenseNetConfig
from ads_gym.errors import DamagedFile, InvalidValue, StorageError
from ads_gym.evaluators.base import Evaluator, Metrics
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.evaluators.store import EvaluationStore, StoredEvaluator

CONFIG = DenseNetConfig((5, 5))
SOME = Metrics(0.1 + 0.2, 1 / 3, 2.5e-17, 123456789012, 42, 0.7, 1.0)


class Counting(PlantedEvaluator):
    """Remembers which masks it was asked for."""

    def __init__(self, **options):
        super().__init__(CONFIG, **options)
        self.asked = []

    def evaluate(self, masks):
        self.asked += [self.topology.key(mask) for mask in masks]
        return super().evaluate(masks)


def random_masks(count, seed=0):
    return np.random.default_rng(seed).random((count, 20)) < 0.5


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_gives_back_the_same_bits_in_this_and_the_next_process(tmp_path):
    path = tmp_path / "new" / "store.sqlite"
    with EvaluationStore(path) as store:
        assert store.add("a", {b"1": SOME}) == {b"1": SOME}
        assert store.read("a", [b"1", b"2"]) == {b"1": SOME}
    with EvaluationStore(path) as store:
        assert store.read("a", [b"1"]) == {b"1": SOME}
        assert store.read("b", [b"1"]) == {}
    assert [entry.name for entry in path.parent.iterdir()] == ["store.sqlite"]


def test_what_was_stored_first_stands():
    store = EvaluationStore(":memory:")
    store.add("a", {b"1": SOME})
    assert store.add("a", {b"1": replace(SOME, loss=9.0), b"2": SOME}) == {b"1": SOME, b"2": SOME}
    assert len(store) == 2


def test_each_mask_is_paid_once(tmp_path):
    masks = random_masks(30)
    with EvaluationStore(tmp_path / "s") as store:
        stored, plain = StoredEvaluator(inner := Counting(), store), PlantedEvaluator(CONFIG)
        assert isinstance(stored, Evaluator)
        assert stored.evaluate(masks[:10]) == plain.evaluate(masks[:10])
        mixed = np.concatenate([masks[5:], masks[::-1], masks[5:]])
        assert stored.evaluate(mixed) == plain.evaluate(mixed)
        assert len(inner.asked) == 30 == len(set(inner.asked))
    with EvaluationStore(tmp_path / "s") as store:
        again = StoredEvaluator(inner := Counting(), store)
        assert again.evaluate(masks) == plain.evaluate(masks)
        assert inner.asked == []
        StoredEvaluator(other := Counting(seed=1), store).evaluate(masks)
        assert len(other.asked) == 30


def test_a_batch_is_committed_before_it_is_handed_on(tmp_path):
    """A process that ends without closing anything, right after its first answer, leaves the answer."""
    code = f"""
import os, numpy as np
from ads_gym.architecture import DenseNetConfig
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.evaluators.store import EvaluationStore, StoredEvaluator
evaluator = StoredEvaluator(PlantedEvaluator(DenseNetConfig((5, 5))), EvaluationStore({str(tmp_path / "s")!r}))
evaluator.evaluate(np.eye(20, dtype=bool))
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with EvaluationStore(tmp_path / "s") as store:
        StoredEvaluator(inner := Counting(), store).evaluate(np.eye(20, dtype=bool))
    assert inner.asked == []


def test_two_processes_use_one_store_at_once(tmp_path):
    code = f"""
import sys, numpy as np
from ads_gym.architecture import DenseNetConfig
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.evaluators.store import EvaluationStore, StoredEvaluator
evaluator = StoredEvaluator(PlantedEvaluator(DenseNetConfig((5, 5))), EvaluationStore({str(tmp_path / "s")!r}))
for mask in np.random.default_rng(int(sys.argv[1])).random((150, 20)) < 0.5:
    evaluator.evaluate(mask[None])
"""
    workers = [subprocess.Popen([sys.executable, "-c", code, str(seed)]) for seed in (1, 2)]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    with EvaluationStore(tmp_path / "s") as store:
        StoredEvaluator(inner := Counting(), store).evaluate(
            np.concatenate([random_masks(150, 1), random_masks(150, 2)])
        )
    assert inner.asked == []


def test_many_make_the_same_new_store_at_once(tmp_path):
    def add(number):
        with EvaluationStore(tmp_path / "s") as store:
            return store.add("a", {bytes([number]): SOME})

    with ThreadPoolExecutor(8) as pool:
        assert all(list(pool.map(add, range(32))))
    with EvaluationStore(tmp_path / "s") as store:
        assert len(store) == 32


def test_a_copy_opens_the_same_file(tmp_path):
    with EvaluationStore(tmp_path / "s") as store, pickle.loads(pickle.dumps(store)) as copy:
        store.add("a", {b"1": SOME})
        assert copy.read("a", [b"1"]) == {b"1": SOME}


class Broken(PlantedEvaluator):
    def __init__(self, answer):
        super().__init__(CONFIG)
        self.answer = answer

    def evaluate(self, masks):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([], "gave 0 metrics"),
        ([replace(SOME, loss=float("nan"))], "finite number"),
        ([0.5], "gives Metrics"),
        (None, "gave NoneType metrics"),
    ],
)
def test_an_evaluator_that_answers_nonsense(answer, says):
    store = EvaluationStore(":memory:")
    with pytest.raises(InvalidValue, match=says):
        StoredEvaluator(Broken(answer), store).evaluate(np.zeros((1, 20), bool))
    assert len(store) == 0


def test_numpy_numbers_become_plain_ones():
    answer = [Metrics(np.float32(0.5), np.float64(0.5), np.float64(1.0), np.int64(7), np.int32(8), 0.5, 0)]
    stored = StoredEvaluator(Broken(answer), EvaluationStore(":memory:"))
    for _ in range(2):
        (metrics,) = stored.evaluate(np.zeros((1, 20), bool))
        assert [type(value) for value in vars(metrics).values()] == [float] * 3 + [int] * 2 + [float] * 2


def test_a_closed_store_says_so():
    store = EvaluationStore(":memory:")
    store.close()
    store.close()
    with pytest.raises(InvalidValue, match="closed"):
        store.read("a", [b"1"])


# What is refused, and left to the byte as it was


def foreign_database(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE evaluations (fingerprint TEXT)")
    database.close()


def foreign_wal_database(path):
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = wal")
    database.execute("CREATE TABLE music (title TEXT)")
    database.commit()
    database.close()


def store_with(path, *statements):
    with EvaluationStore(path) as store:
        store.add("a", {bytes([i, j]): SOME for i in range(40) for j in range(40)})
    database = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        database.execute(statement)
    database.close()


def newer_store(path):
    store_with(path, "PRAGMA user_version = 3")


def marked_database_of_another_schema(path):
    foreign_database(path)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(f"PRAGMA application_id = {EvaluationStore.schema.application_id}")
    database.execute("PRAGMA user_version = 2")
    database.close()


def truncated_store(path):
    store_with(path)
    os.truncate(path, path.stat().st_size // 2)


def overwritten_store(path):
    store_with(path)
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(8192))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(b""), "no store"),
        (lambda path: path.write_bytes(b"title,year\n" * 100), "no store"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(200)), "no store"),
        (foreign_database, "no store"),
        (foreign_wal_database, "no store"),
        (newer_store, "version 3.*upgrade"),
        (marked_database_of_another_schema, "other tables"),
        (truncated_store, "damaged"),
        (overwritten_store, "damaged"),
    ],
)
def test_what_is_no_store_is_refused_and_unchanged(tmp_path, make, says):
    path = tmp_path / "file"
    make(path)
    before = contents(tmp_path)
    with pytest.raises(DamagedFile, match=says) as caught:
        EvaluationStore(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    after = contents(tmp_path)
    assert after["file"] == before["file"]
    if "no store" in says:
        assert after == before  # nor is anything put beside it


def test_a_store_damaged_while_open_is_an_error_too(tmp_path):
    store_with(path := tmp_path / "s")
    with EvaluationStore(path) as store:
        with path.open("r+b") as stream:
            stream.seek(4096)
            stream.write(os.urandom(path.stat().st_size - 4096))
        store.database.connection.execute("PRAGMA shrink_memory")  # what was read before is read again
        with pytest.raises(DamagedFile, match="damaged"):
            store.read("a", [bytes([i, j]) for i in range(40) for j in range(40)])


@pytest.mark.parametrize("name", [".", "file/s"])
def test_a_path_that_can_hold_no_store(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot be opened|is no regular file"):
        EvaluationStore(tmp_path / name)


def test_a_store_that_another_program_holds(tmp_path, monkeypatch):
    path = tmp_path / "s"
    with EvaluationStore(path) as store:
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr("ads_gym.database.WAIT_SECONDS", 0.1)
        with pytest.raises(StorageError, match="another program"):
            EvaluationStore(path)
        store.database.connection.execute("PRAGMA busy_timeout = 100")
        with pytest.raises(StorageError, match="another program"):
            store.add("a", {b"1": SOME})
        holder.execute("ROLLBACK")
        holder.close()
        assert store.add("a", {b"1": SOME}) == {b"1": SOME}


@pytest.fixture
def mounted(tmp_path):
    """Mounts as asked, and unmounts at the end; skips where this user may not."""
    points: list[Path] = []

    def mount(*arguments):
        point = tmp_path / f"mount{len(points)}"
        point.mkdir()
        if not shutil.which("mount") or subprocess.run(["mount", *arguments, point], check=False).returncode:
            pytest.skip("this user may not mount file systems")
        points.append(point)
        return point

    yield mount
    for point in points:
        subprocess.run(["umount", point], check=True)


def test_a_full_disk_loses_nothing_that_was_committed(mounted):
    small = mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    stored = 0
    with EvaluationStore(small / "s") as store:
        with pytest.raises(StorageError, match="no space"):
            while True:
                store.add("a", {stored.to_bytes(4, "big") + bytes([i]): SOME for i in range(50)})
                stored += 1
        assert stored > 0
        assert len(store) == 50 * stored
    with (small / "rest").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(512)):
            pass
    before = contents(small)
    with pytest.raises(StorageError, match="no space"):
        EvaluationStore(small / "new")
    assert contents(small) == before
    (small / "rest").unlink()
    with EvaluationStore(small / "s") as store:
        assert len(store) == 50 * stored


def test_a_folder_that_cannot_be_written(mounted, tmp_path):
    (source := tmp_path / "source").mkdir()
    store_with(source / "s")
    before = contents(source)
    read_only = mounted("--bind", source)
    subprocess.run(["mount", "-o", "remount,ro,bind", read_only], check=True)
    with pytest.raises(StorageError, match="the file system is read-only"):
        EvaluationStore(read_only / "s")
    with pytest.raises(StorageError, match=r"cannot be opened|is no regular file"):
        EvaluationStore(read_only / "new")
    assert contents(source) == before
