"""A folder with runs and tasks from a stranger is data: see docs/security.md.

Whoever shows, searches, retrains or times what is in it runs no code of it, starts no process, imports nothing that a
good folder does not need, and changes nothing around it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from attacks import ATTACKS
from commands import plain_environment
from marks import slow

HERE = Path(__file__).parent
QUICK = ["nothing", "agent with code", "task as code", "data as a pipe", "trigger"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="forks after torch has computed")


def faults_of(names, place):
    environment = plain_environment() | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    (place / "good").mkdir()
    command = [sys.executable, HERE / "child.py", place / "good", place / "used", *names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    told = dict(json.loads(line) for line in done.stdout.splitlines())
    assert list(told) == list(names), done
    return {name: faults for name, faults in told.items() if faults}


@linux
def test_a_strangers_folder(tmp_path):
    assert not faults_of(QUICK, tmp_path)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_all_attacks_on_a_folder(tmp_path, part):
    assert not faults_of(list(ATTACKS)[part::4], tmp_path)


@linux
@pytest.mark.parametrize(
    ("done", "says"),
    [
        ("open('victim', 'w').close()", "victim changed"),
        slow("os.system('true')", "os.system"),
        slow("sys.path.insert(0, '.'); import evil", "evil was imported"),
        slow("open('elsewhere/new', 'w').close()", "new changed"),
        slow("raise KeyError", "KeyError"),
    ],
)
def test_faults_are_found(tmp_path, done, says):
    """By the harness itself."""
    code = (HERE / "child.py").read_text().replace("    faults = []\n", f"    {done}\n    faults = []\n")
    assert done in code
    (tmp_path / "child.py").write_text(
        code.replace("\n    *MAKE,\n", "\n").replace("for command in USE:", "for command in ():")
    )
    environment = plain_environment() | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    (tmp_path / "good").mkdir()
    command = [sys.executable, tmp_path / "child.py", tmp_path / "good", tmp_path / "used", "nothing"]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert says in found.stdout, found
