"""Every example runs, in an empty folder, with no network and no home."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from marks import slow

from ads_gym.nets.cost import relative_macs

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py") if not path.name.startswith("benchmark"))
SLOW = ("cleanrl_ppo.py", "optuna_study.py", "sb3_agents.py")
LINES = {"cleanrl_ppo.py": 150}  # a whole algorithm; of all others less than 80


@pytest.mark.parametrize("name", [slow(name) if name in SLOW else name for name in EXAMPLES])
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
    assert len(text.splitlines()) < LINES.get(name, 80)
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


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_one_file_ppo_finds_the_planted_mask(seed, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import cleanrl_ppo

    import ads_gym

    _, architecture, best_return = cleanrl_ppo.train(cleanrl_ppo.parse_arguments(["--seed", str(seed)]))
    problem = ads_gym.make_problem("planted-45", reward="soft", cost_weight="even")
    (found,) = problem.score(architecture.mask[None])
    assert found.objective == pytest.approx(best_return, abs=1e-6)
    assert found.metrics.accuracy >= 44 / 45


@pytest.mark.slow
def test_the_one_file_ppo_runs_on_digits_within_a_limit(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import cleanrl_ppo

    words = ["--task", "digits", "--timesteps", "720", "--num-envs", "8", "--max-macs", "0.6"]
    _, architecture, best_return = cleanrl_ppo.train(cleanrl_ppo.parse_arguments(words))
    assert relative_macs(architecture) <= 0.6 and 0 < best_return < 1


@pytest.mark.slow
def test_the_optuna_study_ends_with_a_front(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import optuna_study

    import ads_gym

    problem = ads_gym.make_problem("planted-20")
    study = optuna_study.study_masks(problem, 40)
    assert len(study.trials) == 40
    masks = np.array([list(trial.params.values()) for trial in study.trials])
    scored = [score.metrics for score in problem.score(masks)]
    assert [trial.values for trial in study.trials] == [[each.soft_accuracy, each.relative_macs] for each in scored]
    front = sorted((macs, soft) for soft, macs in (trial.values for trial in study.best_trials))
    assert len(front) >= 3 and front == sorted(front, key=lambda pair: pair[1])  # what costs more is worth more
