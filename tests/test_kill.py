"""kill -9 at random moments, the same call again: the result is that of an undisturbed run."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

pytestmark = pytest.mark.slow

KILLS = 10
MAX_IN_FLIGHT = 8  # masks that an agent below asks for at once

# Logs each mask that it is paid for, outside the store, with one write.
EVALUATORS = """
import os, time

class Logged:
    def __init__(self, inner, seconds):
        self.inner, self.seconds = inner, seconds
        self.config, self.topology, self.fingerprint = inner.config, inner.topology, inner.fingerprint
        self.log = os.open("calls.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def evaluate(self, masks):
        os.write(self.log, b"".join(self.topology.key(mask).hex().encode() + b"\\n" for mask in masks))
        time.sleep(self.seconds * len(masks))
        return self.inner.evaluate(masks)

def planted(task, scope):
    from ads_gym.evaluators.planted import PlantedEvaluator
    return Logged(PlantedEvaluator(task.config, scope, "pairwise", 1), 0.01)

def inherited(task, scope):
    return Logged(task.evaluator(scope), 0.0)

def climber(env, seed):
    import numpy as np
    rng, problem = np.random.default_rng(seed), env.unwrapped.problem
    best, most = problem.topology.chain(), -np.inf
    while True:
        masks = best ^ (rng.random((8, problem.topology.size)) < 0.05)
        for mask, scored in zip(masks, problem.score(masks)):
            if scored.objective > most:
                best, most = mask, scored.objective
"""


@pytest.mark.parametrize(
    ("task", "agent", "evaluator", "evaluations"),
    [
        ("planted-45", "logged:climber", "logged:planted", 400),
        ("planted-45", "recurrent", "logged:planted", 200),
        ("planted-45", "local", "logged:planted", 200),
        ("digits", "bayes", "logged:inherited", 96),
    ],
)
def test_kills_change_nothing(tmp_path, task, agent, evaluator, evaluations):
    code = f"import ads_gym; ads_gym.search({task!r}, {agent!r}, {evaluations}, evaluator={evaluator!r}, run='run')"
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for folder in (whole, torn):
        folder.mkdir()
        (folder / "logged.py").write_text(EVALUATORS)
    finish(start(code, whole))

    moments = random.Random(f"{task} {agent}")
    kills = 0
    for moment in sorted(moments.sample(range(evaluations - MAX_IN_FLIGHT), KILLS)):
        kills += kill_after(start(code, torn), torn, moment, moments.random() * 0.05)
    assert kills == KILLS
    finish(start(code, torn))

    assert timeless(torn) == timeless(whole)
    assert len(timeless(whole)) == 1 + evaluations
    assert result_of(torn) == result_of(whole)
    assert (torn / "run" / "best.json").read_bytes() == (whole / "run" / "best.json").read_bytes()
    assert calls(whole) == len(set((whole / "calls.log").read_text().split()))  # nothing was paid twice
    assert calls(torn) - calls(whole) <= KILLS * MAX_IN_FLIGHT


def start(code, folder):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, stderr=subprocess.PIPE)


def finish(process):
    told = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 0, told
    assert "Warning" not in told


def kill_after(process, folder, recorded, seconds):
    """Kills once more evaluations than so many are recorded and some time has passed; whether that was in time."""
    deadline = time.monotonic() + 120
    while (done := evaluated(folder)) <= recorded and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    told = process.communicate()[1].decode()
    assert "Warning" not in told
    assert done > 0
    return process.returncode == -signal.SIGKILL


def evaluated(folder):
    """How many evaluations are recorded, seen without writing a byte."""
    record = folder / "run" / "record.sqlite"
    if not record.exists():
        return 0
    with closing(sqlite3.connect(f"{record.as_uri()}?mode=ro", uri=True, timeout=60)) as database:
        return database.execute("SELECT count(*) FROM history").fetchone()[0]


def timeless(folder):
    return [line.rsplit(",", 1)[0] for line in (folder / "run" / "history.csv").read_text().splitlines()]


def result_of(folder):
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    assert manifest["differs_at"] is None
    return manifest["result"]


def calls(folder):
    return (folder / "calls.log").read_bytes().count(b"\n")
