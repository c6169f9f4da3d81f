"""Every benchmark script runs to its end, in small, and writes what it says."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ads_gym.nets.densenet import DenseNet
from ads_gym.tasks import Task, save_task

FOLDER = Path(__file__).parents[1] / "examples"
SMALL = {
    "benchmark_agents.py": (["--seeds", "2", "--evaluations", "8"], "agents.md"),
    "benchmark_ablations.py": (["--seeds", "2", "--evaluations", "8"], "ablations.md"),
    "benchmark_channels.py": (
        ["BOTTLENECK", "--name", "digits", "--images", "64", "--steps", "2"],
        "channels-digits.md",
    ),
    "benchmark_digits.py": (["1"], "digits-choice.md"),
    "benchmark_large.py": (["--images", "8", "--size", "65", "--device", "cpu"], "large-densenet121-cpu.md"),
    "benchmark_memory.py": (
        ["--name", "small", "--steps", "64", "--episodes", "2", "--seeds", "0", "--choose", "1", "--tries", "1"],
        "memory-small.png",
    ),
    "benchmark_ranking.py": (["digits", "--masks", "3", "--epochs", "1", "--orders", "1"], "ranking-digits.md"),
    "benchmark_repair.py": (
        ["digits", "--name", "digits", "--masks", "1", "--few", "1", "--images", "64", "70", "--steps", "2", "--test"],
        "repair-digits.md",
    ),
    "benchmark_sparsify.py": (
        ["digits", "--name", "digits", "--random", "2", "--evaluations", "4", "--images", "64", "--steps", "2"],
        "sparsify-digits.md",
    ),
    "benchmark_sizes.py": (
        ["--name", "small", "--seeds", "0", "--settings", "--task digits --epochs 1", "--images", "64", "--steps", "2"],
        "sizes-small.md",
    ),
    "benchmark_speed.py": (["--small"], "speed-growth.png"),
    "benchmark_supernets.py": (["digits", "--masks", "2"], "supernet-digits.json"),
    "benchmark_transfer.py": (
        ["--pool", str(FOLDER / "transfer/small.json"), "--updates", "2", "--seeds", "1"],
        "transfer.md",
    ),
}


def test_every_benchmark_is_run_here_and_is_short():
    scripts = {path.name: path.read_text() for path in FOLDER.glob("benchmark*.py")}
    assert set(scripts) == set(SMALL)
    for name, text in scripts.items():
        assert len(text.splitlines()) < 80
        assert f"python {'' if 'cd examples' in text else 'examples/'}{name}" in text


def bottlenecks(folder):
    """The folder of a task whose network has bottlenecks, and was not trained."""
    digits = Task.load("digits")
    config = dataclasses.replace(digits.config, bottleneck=True)
    return str(save_task(folder, "bc", config, digits.data, DenseNet(config).state_dict()).folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs(tmp_path, name):
    arguments, written = SMALL[name]
    arguments = [bottlenecks(tmp_path / "task") if each == "BOTTLENECK" else each for each in arguments]
    environment = os.environ | {"ADS_GYM_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, FOLDER / name, *arguments]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / written).stat().st_size > 100
