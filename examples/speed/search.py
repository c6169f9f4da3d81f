"""`ads-gym search` on digits, cold: how long it takes, and where the time goes.

The second runs this file in a process of its own, with a stopwatch on the parts; a part within another counts for
itself alone.
"""

import builtins
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from speed.stopwatch import Part, Stopwatch


@dataclass(frozen=True)
class Wall:
    """Runs of the whole command."""

    HEAD: ClassVar[str] = "| command | seconds (lowest - highest) | runs |"

    command: str
    seconds: list[float]

    def line(self) -> str:
        """As HEAD says."""
        middle, low, high = sorted(self.seconds)[len(self.seconds) // 2], min(self.seconds), max(self.seconds)
        return f"| `{self.command}` | {middle:.1f} ({low:.1f} - {high:.1f}) | {len(self.seconds)} |"


def measure(small: bool) -> list[Wall | Part]:
    """The command's time, then the parts of one more run, largest first."""
    evaluations, runs = (8, 1) if small else (512, 5)
    command = ["search", "--task", "digits", "--evaluations", str(evaluations)]
    seconds = [cold(["-m", "ads_gym", *command])[0] for _ in range(runs)]
    total, told = cold(["-m", "speed.search", str(evaluations)])
    parts = json.loads(told.splitlines()[-1])
    parts["starting and ending Python"] = total - sum(parts.values())
    largest = sorted(parts.items(), key=lambda part: -part[1])
    return [Wall(f"ads-gym {' '.join(command)}", seconds), *(Part(name, each, each / total) for name, each in largest)]


def cold(arguments: list[str]) -> tuple[float, str]:
    """Seconds and output of Python with these arguments, in a new process and an empty folder."""
    examples = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [examples, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return time.perf_counter() - start, done.stdout


WATCHED = [  # module, function, what it is part of
    ("ads_gym.evaluators.inherited", "InheritedEvaluator.evaluate_checked", "evaluator"),
    ("ads_gym.runs.runner", "play", "agent: choosing and learning"),
    ("ads_gym.evaluators.store", "EvaluationStore.read", "store"),
    ("ads_gym.evaluators.store", "EvaluationStore.add", "store"),
    ("ads_gym.runs.record", "RunRecord.append", "record"),
    ("ads_gym.runs.progress", "Scalars.write", "TensorBoard"),
    ("ads_gym.tasks.supernet", "SupernetTask.images", "images and weights"),
    ("ads_gym.tasks.supernet", "SupernetTask.supernet", "images and weights"),
    ("ads_gym.runs.runner", "draw_pictures", "pictures"),
]


def main() -> None:
    """A search with a budget of so many evaluations; prints seconds by part as JSON."""
    stopwatch = Stopwatch("the rest: opening the run, comparing, writing the result")
    stopwatch.watch(builtins, "__import__", "imports")
    stopwatch.watch(importlib, "import_module", "imports")
    for module, function, part in WATCHED:
        *owner, name = function.split(".")
        found = importlib.import_module(module)
        stopwatch.watch(getattr(found, owner[0]) if owner else found, name, part)
    importlib.import_module("ads_gym").search("digits", evaluations=int(sys.argv[1]), weights="inherited", run="run")
    stopwatch.lap()
    print(json.dumps(stopwatch.seconds))


if __name__ == "__main__":
    main()
