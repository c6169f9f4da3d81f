"""Spoilt files of every kind that is read: the program works, or says what is wrong in one AdsGymError; nothing else.

No traceback from elsewhere, no end of memory, no hang, no crash of the process.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import plain_environment
from kinds import KINDS, make
from marks import slow

HERE = Path(__file__).parent
CASES, MANY = 200, 5_000
GROUPS = [list(KINDS)[start::4] for start in range(4)]
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are Linux's")


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    place = tmp_path_factory.mktemp("good")
    make(place)
    return place


def read_spoilt(child, good, place, *arguments):
    environment = plain_environment() | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    environment["ADS_GYM_HOME"] = str(place / "home")
    command = [sys.executable, child, good, place / "spoilt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def faults_of(kinds, good, place, first, last):
    """What ended otherwise than it should: lines with kind and seed."""
    faults, skip = [], 0
    while True:
        done = read_spoilt(HERE / "child.py", good, place, first, last, skip, *kinds)
        lines = done.stdout.splitlines()
        faults += [line for line in lines if line.startswith("fault")]
        if lines[-1:] == ["end"]:
            return faults
        begun = [line for line in lines if line.startswith("case")]
        faults.append(f"the process ended with {done.returncode} in {begun[-1:]}: {done.stderr[-500:]}")
        if not begun:
            return faults
        skip = int(begun[-1].split()[1]) + 1


@linux
@pytest.mark.parametrize("kinds", GROUPS, ids=",".join)
def test_spoilt_files(kinds, good, tmp_path):
    faults = faults_of(kinds, good, tmp_path, 1, CASES)
    assert not faults, "\n".join(faults)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_spoilt_files(kind, good, tmp_path):
    faults = faults_of([kind], good, tmp_path, CASES + 1, MANY)
    assert not faults, "\n".join(faults)


@linux
@pytest.mark.parametrize(
    "body",
    [
        "raise KeyError('x')",
        slow("while True: pass"),
        slow("bytes(2**31)"),
        slow("os.abort()"),
    ],
)
def test_faults_are_found(good, tmp_path, body):
    """By the harness: an error of another kind, a hang, a flood, a crash."""
    code = (HERE / "child.py").read_text()
    code = code.replace("                KINDS[kind][2](place)\n", f"                {body}\n").replace(
        "SECONDS = 10", "SECONDS = 1"
    )
    assert body in code
    (tmp_path / "child.py").write_text(code)
    done = read_spoilt(tmp_path / "child.py", good, tmp_path, 1, 1, 0, "options")
    assert "fault options 1" in done.stdout or (done.returncode and "end" not in done.stdout), done
