"""`ads-gym throughput`: what it prints, and how it answers what it cannot use."""

import pytest
from commands import run_here


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: run_here(capsys, "throughput", *arguments)


def test_it_prints_rates_shares_and_memory(run):
    done = run("--masks", 2, "--device", "cpu")
    assert (done.code, done.err) == (0, "")
    head, peaks, *table, memory = [line.strip() for line in done.out.splitlines() if line.strip()]
    assert head.startswith("digits: 45 decisions, 500 VALID and 500 calibration images, float32, cpu, CPU threads: ")
    assert all(f"{what} " in peaks for what in ("matrix product", "convolution", "memory")) and "GFLOP/s" in peaks
    assert table[0].split() == ["ms", "a", "of", "of", "of"]
    assert table[1].split() == [
        "masks",
        "masks/s",
        "(range)",
        "mask",
        "work",
        "GFLOP/s",
        "convolution",
        "product",
        "memory",
    ]
    assert [row.split()[0] for row in table[3:]] == ["random", "neighbours", "converging"]
    assert all(row.count("%") == 4 and " 0.00 " not in row for row in table[3:])
    assert memory.startswith("peak memory ") and "MiB" in memory


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--task", "digit"), "digits"),
        (("--task", "planted-45"), "has no images and no weights"),
        (("--masks", 0), "masks should be greater than or equal to 1, got 0"),
        (("--device", "gpu"), "'gpu'"),
        (("--device", "cuda:99"), "'cuda:99'"),
    ],
)
def test_bad_input_is_one_clear_line(run, arguments, says):
    done = run(*arguments)
    assert done.code == 2 and done.out == ""
    assert done.err.startswith("Error: ") and done.err.count("\n") == 1 and says in done.err
