"""What was altered in results is found; what was not is left alone."""

import shutil
import sqlite3
import sys
from dataclasses import replace

import pytest
from commands import run_here

from ads_gym.benchmark.page import write
from ads_gym.benchmark.places import FILE, run_folder, supernet_folder
from ads_gym.benchmark.playing import area, improvements
from ads_gym.benchmark.records import RESULTS, Plan, missing
from ads_gym.benchmark.runner import benchmark
from ads_gym.benchmark.validation import validate
from ads_gym.errors import DamagedFile, InvalidValue, NotFound
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
    assert run_here(capsys, "validate", made).out.startswith("It holds")


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
        (
            lambda r: replace(r, supernets=(), played=()),
            "supernet digits-table of digits-table was planned, and is not",
        ),
        (lambda r: replace(r, missing=(missing("digits-table", "local", 0, "x"),)), "is there, and said to be missing"),
        (lambda r: replace(r, played=(*r.played, r.played[0])), "claimed 2 times"),
        (lambda r: replace(r, played=(*r.played, replace(r.played[0], seed=7))), "was not planned"),
        (lambda r: replace(r, definition={"version": 0}), "version 0"),
    ],
)
def test_whatever_else_was_altered(copy, change, says):
    altered = change(RESULTS.read(copy / FILE))
    RESULTS.write(copy / FILE, altered)
    assert says in found(copy)


def test_no_code_is_imported_that_results_name(copy, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    results = RESULTS.read(copy / FILE)
    for change, says in [({"agents": ("local", "magnitude", "evil:thing")}, "evil:thing on digits-table"), ({}, "")]:
        RESULTS.write(copy / FILE, replace(results, plan=replace(PLAN, **change)))
        assert says in found(copy)
    RESULTS.write(copy / FILE, replace(results, plan=replace(PLAN, reward="evil:thing")))
    with pytest.raises(InvalidValue, match="the reward evil:thing"):
        validate(copy, progress=False)
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda r: replace(r, played=r.played[1:], missing=(missing("digits-table", "local", 0, "x"),)),
            "can be played",
        ),
        (lambda r: replace(r, played=r.played[:1], missing=(missing("digits-table", "magnitude", None, "x"),)), "lack"),
        (lambda r: replace(r, entries=(r.entries[0], replace(r.entries[1], reads="nothing"))), "what is said of agent"),
    ],
)
def test_whatever_only_playing_again_can_tell(copy, change, says):
    RESULTS.write(copy / FILE, change(RESULTS.read(copy / FILE)))
    assert says not in found(copy) and says in found(copy, replay=True)


def test_a_forged_hypervolume(copy):
    improved = {spent for spent, _ in RESULTS.read(copy / FILE).played[0].improved}
    other = next(number for number in range(1, 21) if number not in improved)
    in_record(
        copy,
        "UPDATE evaluations SET relative_cost = 0.0, soft_accuracy = 1.0 WHERE mask = "
        f"(SELECT mask FROM history WHERE number = {other})",
    )
    with read_record(record_of(copy)) as record:
        rows = record.rows(Topology((5, 4)))
    alter(copy, lambda run: replace(run, hypervolume=area(PLAN, rows)))
    assert found(copy) == "" and "plays otherwise" in found(copy, replay=True)


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
