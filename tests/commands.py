"""How tests run the command line: in this process, or in one of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from ads_gym.cli import main
from ads_gym.runs.record import Row, RunRecord

PROGRAM = Path(sys.executable).with_name("ads-gym")


def plain_environment():
    """Of a process whose lines need not be counted: that would take it twice as long."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


class Done(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str


def run_here(capsys, *arguments):
    """In this process: fast, and the same code."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return Done(int(ended.value.code or 0), captured.out, captured.err)


def run_program(*arguments, **keywords):
    """The installed program."""
    command = [PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **keywords)
    return Done(done.returncode, done.stdout, done.stderr)


def read_rows(folder: Path) -> list[Row]:
    """The recorded evaluations of the run in a folder."""
    with RunRecord(folder / "record.sqlite") as record:
        fingerprints = record.database.rows("SELECT DISTINCT fingerprint FROM history")
        assert len(fingerprints) <= 1
        return record.history(*fingerprints[0]) if fingerprints else []


def read_manifest(folder: Path) -> dict:
    """The manifest of the run in a folder."""
    return json.loads((folder / "manifest.json").read_text())
