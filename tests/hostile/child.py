"""A process that uses a stranger's folder, attacked in one way after another, as somebody would who was sent it.

    python child.py GOOD PLACE ATTACK ...

Each attack has a fork of its own, so that nothing is left of the one before; all that a good folder needs is imported
before. A line of JSON for each says what went otherwise than it should.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import stat
import sys
import traceback
from pathlib import Path

from attacks import ATTACKS, EVIL, RUN, TASK

from ads_gym.cli import main

SECONDS = 60  # an attack, all commands
NETWORK = ("--blocks", "2,2", "--growth", "2", "--stem", "4", "--epochs", "1", "--batch-size", "16")
SEARCH = ("search", "--task", f"stranger/{TASK}", "--agent", "random", "--run", f"stranger/{RUN}", "--evaluations")
MAKE = (
    ("train-supernet", "--data", "stranger/data.npz", *NETWORK, "--out", f"stranger/{TASK}"),
    (*SEARCH, "3"),
    ("retrain", f"stranger/{RUN}", "--epochs", "1", "--seeds", "1"),
)
USE = (
    ("show", f"stranger/{RUN}"),
    ("tasks",),
    ("latency", f"stranger/{RUN}", "--repeats", "1", "--batch", "1"),
    ("report", f"stranger/{RUN}", "--no-latency"),
    ("export", f"stranger/{RUN}", "--format", "torch-export", "--replace"),
    *MAKE,
    (*SEARCH, "2"),
    (*SEARCH, "4"),
    ("retrain", f"stranger/{RUN}", "--epochs", "1", "--seeds", "2"),
    ("search", "--task", f"stranger/{TASK}", "--agent", "random", "--evaluations", "2", "--run", "stranger/new"),
)
PROCESSES = ("os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn", "subprocess.Popen")


def run(command):
    """Exit code, what was printed, and what ended otherwise than a program should."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(command))
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            return -1, traceback.format_exc()
    return code, err.getvalue()


def snapshot(place):
    """All that lies around the stranger's folder, with content and time."""
    found = {}
    for folder, below, names in os.walk(place):
        if Path(folder) == place:
            below.remove("stranger")
        for name in (*below, *names):
            path = Path(folder, name)
            status = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
            found[str(path)] = [status.st_mode, status.st_size, content, status.st_mtime_ns if names else 0]
    return found


def prepare(place):
    """What lies beside the stranger's folder."""
    (place / "victim").write_text("precious")
    (place / "elsewhere").mkdir()
    (place / "evil.py").write_text(EVIL)


def watch(name, events):
    """Faults of one attack."""
    faults = []
    for command in USE:
        code, err = run(command)
        told = [line for line in err.splitlines() if line.startswith("Error: ")]
        if code not in (0, 2) or "Traceback" in err or len(told) != (code == 2) or len(err) > 5_000:
            faults.append(f"{command[0]} ended with {code}: {err[-600:]}")
        if name == "nothing" and code:
            faults.append(f"{command[0]} refuses a good folder: {err[-600:]}")
    return faults + events


def attack(name, good, place):
    """In a fork: attack a copy, use it, compare what is around it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    prepare(place)
    shutil.copytree(good / "stranger", place / "stranger", symlinks=True)
    os.chdir(place)
    os.environ["ADS_GYM_HOME"] = str(place / "stranger")
    for path in (place / "stranger" / TASK / "task.json", place / "stranger" / RUN / "manifest.json"):
        path.write_text(path.read_text().replace(str(good), str(place)))
    ATTACKS[name](place / "stranger")
    before, modules, events = snapshot(place), set(sys.modules), []

    def hook(event, arguments):
        if event in PROCESSES:
            events.append(f"{event} {arguments!r:.200}")

    sys.addaudithook(hook)
    signal.alarm(SECONDS)
    faults = watch(name, events)
    faults += [f"{module} was imported" for module in sorted(set(sys.modules) - modules)]
    after = snapshot(place)
    faults += [f"{path} changed" for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    if any(place.rglob("exploded")):
        faults.append("code was run")
    return faults


def in_a_fork(name, good, place):
    """What `attack` returns, or how the process ended."""
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        with os.fdopen(theirs, "w") as pipe:
            try:
                faults = attack(name, good, place)
            except BaseException:
                faults = [traceback.format_exc()]
            json.dump(faults, pipe)
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(said) if said else [f"the process ended with {status}"]


def make(place):
    """A good folder, and all imported that one needs."""
    prepare(place)
    os.chdir(place)
    os.environ["ADS_GYM_HOME"] = str(place / "stranger")
    import numpy as np
    from PIL import Image, ImageOps
    from rich.cells import cell_len

    Image.init()
    assert ImageOps and cell_len("\x1b 漢")
    rng = np.random.default_rng(0)
    (place / "stranger").mkdir()
    images = rng.integers(0, 256, (60, 8, 8)).astype(np.uint8)
    np.savez(place / "stranger/data.npz", images=images, labels=np.arange(60) % 2)
    for command in (*MAKE, *USE):
        code, err = run(command)
        assert not code, (command, err)
    for name in ("new", RUN):
        shutil.rmtree(place / "stranger" / name)
    for command in MAKE:
        code, err = run(command)
        assert not code, (command, err)


if __name__ == "__main__":
    good, place, *names = sys.argv[1:]
    make(Path(good))
    for name in names:
        print(json.dumps([name, in_a_fork(name, Path(good), Path(place) / "x")]), flush=True)
