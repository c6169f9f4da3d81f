"""Agents of other libraries, unmodified, through the real command line."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUDGET = 48


def search(run, agent, *options):
    """`ads-gym search` on planted-20, as a process; its output."""
    command = [sys.executable, "-m", "ads_gym", "search", "--task", "planted-20", "--agent", agent]
    command += ["--cost-weight", "0", "--evaluations", str(BUDGET), "--run", str(run), *options]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(run):
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [(), ("--max-macs", "0.6")], ids=["free", "limit"])
@pytest.mark.parametrize("agent", ["ppo", "recurrent_ppo", "maskable_ppo", "dqn", "cleanrl_style_ppo", "plain_loop"])
def test_it_plays_and_its_budget_is_counted(agent, limit, tmp_path):
    output = search(tmp_path / "run", f"foreign:{agent}", *limit)
    result = json.loads((tmp_path / "run" / "manifest.json").read_text())["result"]
    recorded = rows(tmp_path / "run")
    assert result["evaluations"] == len(recorded) == len({row["mask"] for row in recorded})
    assert len(recorded) == BUDGET or (result["episodes"] == 20 * BUDGET and "episodes" in output)
    if limit:
        assert max(float(row["relative_macs"]) for row in recorded) <= 0.6


@pytest.mark.slow
def test_maskable_ppo_is_never_overruled():
    import gymnasium as gym
    from foreign import EPISODE
    from sb3_contrib import MaskablePPO

    import ads_gym  # noqa: F401 - registers the environment

    class Watch(gym.Wrapper):
        steps = overruled = 0

        def step(self, action):
            outcome = self.env.step(action)
            self.steps += 1
            self.overruled += outcome[-1]["overruled"]
            return outcome

        def action_masks(self):
            return self.env.unwrapped.action_masks()

    env = Watch(gym.make("ads_gym:DenseNetSparsifyFlat-v0", task="planted-20", max_macs=0.6))
    MaskablePPO("MlpPolicy", env, n_steps=8 * EPISODE, batch_size=40, gamma=1.0, seed=0).learn(16 * EPISODE)
    assert env.steps >= 16 * EPISODE and env.overruled == 0
