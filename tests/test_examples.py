"""Every example runs, in an empty folder, with no network and no home."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from marks import slow

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py") if not path.name.startswith("benchmark"))


@pytest.mark.parametrize("name", [slow(name) if name == "sb3_agents.py" else name for name in EXAMPLES])
def test_an_example_runs(tmp_path, name):
    environment = os.environ | {"ADS_GYM_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    environment.pop("ADS_GYM_DATA", None)
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", FOLDER / name]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 3 and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_says_how_it_is_run(name):
    text = (FOLDER / name).read_text()
    assert len(text.splitlines()) < 80
    assert f"python examples/{name}" in text


@pytest.mark.slow
def test_the_quickstart_takes_a_network_home(tmp_path, monkeypatch, capsys):
    """What it prints of the network is what the search recorded of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))
    import quickstart

    import ads_gym

    result = ads_gym.search("digits", agent="random", evaluations=3, progress=False)
    quickstart.take_home(result)
    (accuracy,) = re.findall(r"accuracy (0\.\d{3}) as it is", capsys.readouterr().out)
    assert float(accuracy) == pytest.approx(result.table[-1].repaired_accuracy, abs=0.005)
