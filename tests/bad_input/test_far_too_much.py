"""Numbers, texts and names of files that are far too large: refused at once, before anything is allocated."""

import resource
import sys
import time

import pytest
from commands import run_here
from sabotage import PLANTED, REAL, RETRAIN, TRAIN_NEW, changed, contents, is_one_clear_line

DEEP = "[" * 5_000 + "]" * 5_000
LONG = "x" * 300  # file systems take 255 bytes
SECONDS, MEMORY = 5, 2**29

COMMANDS = {
    "blocks": (changed(TRAIN_NEW, "--blocks", 100_000), ("blocks[0]", "100000")),
    "connections": (changed(TRAIN_NEW, "--blocks", "512,512,512"), ("392,448 skip connections", "fewer layers")),
    "memory": (changed(TRAIN_NEW, "--blocks", "400", "--growth", 400, "--bottleneck"), ("GiB", "--allow-large")),
    "growth": (changed(TRAIN_NEW, "--growth", 10**9), ("growth", "1000000000")),
    "stem": (changed(TRAIN_NEW, "--stem", 10**12), ("stem_channels", "1000000000000")),
    "size": (changed(TRAIN_NEW, "--size", 10**6), ("size", "1000000")),
    "epochs": (changed(TRAIN_NEW, "--epochs", 10**10), ("epochs", "10000000000")),
    "batch": (changed(TRAIN_NEW, "--batch-size", 10**10), ("batch_size", "10000000000")),
    "masks": (changed(TRAIN_NEW, "--cost-range", 0.5, 1, "--masks-per-step", 10**10), ("masks_per_step",)),
    "training seed": (changed(TRAIN_NEW, "--seed", "9" * 30), ("seed",)),
    "images": (changed(TRAIN_NEW, "--valid", "9" * 30), ("valid",)),
    "shift": (changed(TRAIN_NEW, "--shift", 8_000), ("shift", "8000")),
    "seed": (changed(PLANTED, "--seed", "9" * 30), ("seed",)),
    "evaluations": (changed(PLANTED, "--evaluations", "9" * 30), ("evaluations",)),
    "seeds": (changed(RETRAIN, "--seeds", 10**10), ("seeds", "10000000000")),
    "retraining's epochs": (changed(RETRAIN, "--epochs", "9" * 30), ("epochs",)),
    "latency's batch": (("latency", "r", "--batch", 10**10), ("batch", "10000000000")),
    "latency's size": (("latency", "r", "--batch", 4_096, "--repeats", 10**10), ("repeats", "10000000000")),
    "throughput's masks": (("throughput", "--task", "task", "--masks", 10**10), ("masks", "10000000000")),
    "option of a wrong type": (
        changed(PLANTED, "--agent", "density", "--agent-option", "batch_size=x"),
        ("batch_size", "'x'"),
    ),
    "deep option": (changed(PLANTED, "--agent", "density", "--agent-option", f"batch_size={DEEP}"), ("batch_size",)),
    "option of a digit more": (
        changed(PLANTED, "--agent", "density", "--agent-option", f"batch_size={'9' * 5_000}"),
        ("batch_size",),
    ),
    "task's name": (changed(PLANTED, "--task", LONG), (LONG[:40],)),
    "task's folder": (changed(PLANTED, "--task", f"./{LONG}"), (LONG[:40],)),
    "run folder": (changed(PLANTED, "--run", LONG), (LONG[:40],)),
    "store": (changed(PLANTED, "--run", "new", "--store", LONG), (LONG[:40],)),
    "agent's name": (changed(PLANTED, "--agent", LONG), (LONG[:40],)),
    "data's name": (changed(TRAIN_NEW, "--data", f"{LONG}.npz"), (LONG[:40],)),
    "weights' name": (changed(TRAIN_NEW, "--weights", f"{LONG}.pt"), (LONG[:40],)),
    "task's new folder": (changed(TRAIN_NEW, "--out", LONG), (LONG[:40],)),
    "retrained run": (("retrain", LONG), (LONG[:40],)),
    "shown network": (("show", LONG), (LONG[:40],)),
    "timed network": (("latency", LONG), (LONG[:40],)),
    "data root": (changed(REAL, "--run", "new", "--data-root", LONG * 20), ("path",)),
    "home of nobody: run": (changed(PLANTED, "--run", "~nosuchuser/x"), ("~nosuchuser/x", "full path")),
    "home of nobody: task": (changed(PLANTED, "--task", "~nosuchuser/x"), ("~nosuchuser/x", "full path")),
    "home of nobody: new task": (changed(TRAIN_NEW, "--out", "~nosuchuser/x"), ("~nosuchuser/x", "full path")),
    "home of nobody: data": (changed(TRAIN_NEW, "--data", "~nosuchuser/x.npz"), ("~nosuchuser/x", "full path")),
    "home of nobody: store": (changed(PLANTED, "--run", "new", "--store", "~nosuchuser/x"), ("full path",)),
    "home of nobody: network": (("show", "~nosuchuser/x"), ("~nosuchuser/x", "full path")),
    "home of nobody: retraining": (("retrain", "~nosuchuser/x"), ("~nosuchuser/x", "full path")),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_commands(place, capsys, case):
    command, says = COMMANDS[case]
    before, began, held = contents(place), time.perf_counter(), memory()
    is_one_clear_line(run_here(capsys, *command), says)
    assert contents(place) == before
    assert time.perf_counter() - began < SECONDS and memory() - held < MEMORY


def memory():
    """Most bytes that this process held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_after_a_wrong_option_the_right_one_is_taken(place, capsys):
    command = changed(PLANTED, "--run", "new", "--agent", "density", "--agent-option")
    is_one_clear_line(run_here(capsys, *command, "batch_size=x"), ("batch_size",))
    assert run_here(capsys, *command, "batch_size=4").code == 0
