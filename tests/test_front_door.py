"""The public names have types: mypy finds a misspelt keyword in a user's file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ads_gym

ROOT = Path(__file__).parents[1]
USER = """import numpy as np

import ads_gym
from ads_gym import Agent, Architecture, Evaluator, Metrics, Optimiser, Problem, SearchResult, Task


def soft(metrics: Metrics) -> float:
    value: float = metrics.soft_accuracy
    return value


def make(task: Task, evaluator: Evaluator) -> Problem:
    return ads_gym.make_problem(task, evaluator=evaluator, reward=soft)


result: SearchResult = ads_gym.search("digits", evaluations=int(np.int64(3)))
best: Architecture = result.architecture
kinds: list[type[Agent] | type[Optimiser]] = []
"""
MISSPELT = {  # -> what mypy says of it
    "metrics.soft_accuracy": ("metrics.soft_acuracy", '"Metrics" has no attribute "soft_acuracy"'),
    "reward=soft": ("rewrad=soft", 'Unexpected keyword argument "rewrad"'),
    "evaluations=": ("evaluatoins=", 'Unexpected keyword argument "evaluatoins"'),
    "result.architecture": ("result.archtecture", '"SearchResult" has no attribute "archtecture"'),
    "import Agent,": ("import Agnet as Agent,", 'has no attribute "Agnet"'),
}


def mypy(file: Path, *options: object, **environment: str) -> tuple[int, str]:
    """Checks a file as its writer would, in its folder."""
    command = [sys.executable, "-m", "mypy", "--strict", *options, file.name]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTHON", "MYPY"))}
    done = subprocess.run(
        list(map(str, command)),
        cwd=file.parent,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def check_front_door(folder: Path, *options: object, **environment: str) -> None:
    """A right file passes, and each misspelling is found."""
    file = folder / "user.py"
    file.write_text(USER)
    assert mypy(file, *options, **environment) == (0, "Success: no issues found in 1 source file\n")
    wrong = USER
    for right, (misspelt, _) in MISSPELT.items():
        assert wrong.count(right) == 1
        wrong = wrong.replace(right, misspelt)
    file.write_text(wrong)
    code, out = mypy(file, *options, **environment)
    assert code == 1 and f"Found {len(MISSPELT)} errors" in out, out
    for _, says in MISSPELT.values():
        assert says in out, out


@pytest.mark.slow
def test_a_misspelt_name_in_front_of_the_clone(tmp_path):
    """mypy follows no editable installation, so the clone is on its path."""
    check_front_door(tmp_path, "--follow-imports=silent", MYPYPATH=str(ROOT))


@pytest.mark.parametrize("name", [name for name in ads_gym.__all__ if name != "__version__"])
def test_every_public_name_can_be_imported_and_is_found_once(name):
    value = getattr(ads_gym, name)
    assert value.__module__.startswith("ads_gym.") and value.__name__ == name


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        ads_gym.serach  # noqa: B018
