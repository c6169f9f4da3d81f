"""Where the parts of a benchmark lie in its folder."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from ads_gym.tasks.presets import is_preset, split_name

FILE = "results.json"
PLAN_FILE = "plan.json"


class Place(NamedTuple):
    """A supernet, and what it takes to score its architectures."""

    task: str  # of the plan
    name: str  # of the supernet
    reference: str  # by which it is loaded
    store: Path | None  # of its evaluations
    device: str
    data_root: Path | None


def supernet_names(task: str, count: int) -> list[str]:
    """The supernets of a task: NAME@1 to NAME@count of a named one, else the task itself."""
    base, seed = split_name(task)
    if count and is_preset(task) and seed is None:
        return [f"{base}@{number}" for number in range(1, count + 1)]
    return [task]


def supernet_folder(folder: Path, name: str) -> Path:
    """The copy of a supernet, in the folder of a benchmark."""
    return folder / "supernets" / plain(name)


def store_file(folder: Path, name: str) -> Path:
    """The evaluations of a supernet, which its runs share."""
    return folder / "evaluations" / f"{plain(name)}.sqlite"


def run_folder(folder: Path, supernet: str, agent: str, seed: int) -> Path:
    """An agent's run."""
    return folder / "runs" / plain(supernet) / plain(agent) / f"s{seed}"


def plain(name: str) -> str:
    """A name for a file; other names have other ones."""
    kept = "".join(letter if (letter.isascii() and letter.isalnum()) or letter in "-_@." else "-" for letter in name)
    if kept == name and len(name) <= 100 and not name.startswith("."):
        return name
    return f"{kept[-80:].lstrip('.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
