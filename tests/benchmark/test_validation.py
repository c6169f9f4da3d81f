"""What was altered in results is found; what was not is left alone."""

import shutil
import sqlite3
from dataclasses import replace

import pytest
from commands import run_here

from ads_gym.benchmark.page import write
from ads_gym.benchmark.places import FILE, run_folder, supernet_folder
from ads_gym.benchmark.playing import improvements
from ads_gym.benchmark.records import RESULTS, Plan
from ads_gym.benchmark.runner import benchmark
from ads_gym.benchmark.validation import validate
from ads_gym.errors import DamagedFile, NotFound
from ads_gym.runs.record import best_of, read_record
from ads_gym.topology import Topology

PLAN = Plan(("digits-table",), ("local", "magnitude"), 0, 1, 20)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark") / "out"
    write(benchmark(PLAN, folder, progress=False), folder)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def alter(folder, change):
    """Change the run of `local`, the first, and write the tables anew."""
    results = RESULTS.read(folder / FILE)
    first, *others = results.played
    altered = replace(results, played=(change(first), *others))
    RESULTS.write(folder / FILE, altered)
    write(altered, folder)


def record_of(folder):
    return run_folder(folder, "digits-table", "local", 0) / "record.sqlite"


def as_recorded(folder):
    """Claim what the record says."""
    with read_record(record_of(folder)) as record:
        rows = record.rows(Topology((5, 4)))
    alter(folder, lambda run: replace(run, improved=improvements(rows), mask=best_of(rows).mask.hex()))


def in_record(folder, *statements):
    with sqlite3.connect(record_of(folder)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
    connection.close()


def found(folder, **options):
    return " ".join(validate(folder, progress=False, **options))


def test_results_hold(made, capsys):
    assert validate(made, replay=True, progress=False) == []
    assert run_here(capsys, "validate", made).out.startswith("All of it holds")


def test_an_altered_number(copy, capsys):
    alter(copy, lambda run: replace(run, improved=(*run.improved[:-1], (run.improved[-1][0], run.best + 0.01))))
    done = run_here(capsys, "validate", copy)
    assert done.code == 1 and "improved is not what its record has" in done.out
    assert f"the objective after {RESULTS.read(copy / FILE).played[0].improved[-1][0]}" in done.out


def test_an_altered_number_in_the_record_too(copy):
    in_record(copy, "UPDATE history SET objective = objective + 0.01 WHERE number = 3")
    as_recorded(copy)
    assert "when its architecture is scored again" in found(copy)


def test_an_invented_architecture(copy):
    alter(copy, lambda run: replace(run, mask="ffff"))
    assert "mask is not what its record has" in found(copy)


def test_an_order_that_was_changed(copy):
    alter(copy, lambda run: replace(run, improved=tuple((max(1, n - 1), value) for n, value in run.improved)))
    assert "improved is not what its record has" in found(copy)


def test_an_order_that_was_changed_in_the_record_too(copy):
    best = RESULTS.read(copy / FILE).played[0].improved[-1][0]
    assert best > 1
    in_record(
        copy,
        "UPDATE history SET number = 99 WHERE number = 1",
        f"UPDATE history SET number = 1 WHERE number = {best}",
        f"UPDATE history SET number = {best} WHERE number = 99",
    )
    as_recorded(copy)
    assert found(copy) == "" and "plays otherwise" in found(copy, replay=True)


def test_weights_of_another_network(copy):
    path = supernet_folder(copy, "digits-table") / "supernet.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 64
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match="other weights"):
        validate(copy, progress=False)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: replace(r, supernets=(replace(r.supernets[0], random_mean=0.1),)), "random_mean of digits-table"),
        (lambda r: replace(r, supernets=(replace(r.supernets[0], optimum=1.5),)), "optimum of digits-table"),
        (lambda r: replace(r, played=r.played[1:]), "was planned, and is neither there nor said"),
        (lambda r: replace(r, played=(*r.played, r.played[0])), "claimed 2 times"),
        (lambda r: replace(r, played=(*r.played, replace(r.played[0], seed=7))), "was not planned"),
        (lambda r: replace(r, definition={"version": 0}), "version 0"),
    ],
)
def test_whatever_else_was_altered(copy, change, says):
    altered = change(RESULTS.read(copy / FILE))
    RESULTS.write(copy / FILE, altered)
    assert says in found(copy)


def test_altered_tables(copy):
    path = copy / "results.md"
    path.write_text(path.read_text().replace("magnitude", "magnificent"))
    assert found(copy) == "results.md is not the table of results.json."


def test_a_run_without_its_record(copy):
    record_of(copy).unlink()
    assert "local on digits-table, seed 0: there is no record" in found(copy)


def test_no_results(tmp_path):
    with pytest.raises(NotFound, match=r"results\.json"):
        validate(tmp_path, progress=False)
