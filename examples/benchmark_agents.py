"""Agents side by side on digits: the best reward (soft accuracy - even cost weight x relative cost) after N masks.

    cd examples && python benchmark_agents.py --seeds 10 --evaluations 512 --workers 2

Every run is an `ads_gym.search` in its own folder under --runs, so a stopped benchmark goes on where it was. Writes
results/agents.json and .md here: mean and sd over seeds, and the paired bootstrap interval (95 %, 10,000 resamples of
the seeds) of what `reinforce` is ahead. All rewards are of VALID; TEST is not read.
"""

import argparse
import csv
import json
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one run a core
import ads_gym

AGENTS, LIMITS = ["reinforce", "local", "bernoulli", "density", "random"], {"none": None, "0.6": 0.6}  # relative MACs
RESULTS = Path("results")


def play(job: tuple[str, str, int, int, Path], agent_options: dict | None = None) -> dict:
    """One run: its best rewards after a quarter, half and all of the budget, and the lines to compare it with."""
    agent, limit, seed, evaluations, runs = job
    folder, options = runs / f"{agent}-limit-{limit}-s{seed}", {"max_macs": LIMITS[limit], "device": "cpu"}
    options |= {"seed": seed, "run": folder, "progress": False, "agent_options": agent_options}
    result = ads_gym.search("digits", agent, evaluations, **options)
    with (folder / "history.csv").open() as file:
        rewards = np.maximum.accumulate([float(row["reward"]) for row in csv.DictReader(file)])
    curve = [float(rewards[min(n, len(rewards)) - 1]) for n in (evaluations // 4, evaluations // 2, evaluations)]
    ends = {line.name: line.reward for line in result.table if line.name in ("dense", "chain")}
    found = {"relative_macs": result.metrics.relative_macs, "accuracy": result.metrics.accuracy}
    return found | {"agent": agent, "limit": limit, "seed": seed, "curve": curve, "ends": ends}


def table(rows: list[dict], limit: str, agents: list[str]) -> list[str]:
    """Markdown lines of one limit; the first of the agents is compared with the others."""
    curves = {a: np.array([r["curve"] for r in rows if (r["agent"], r["limit"]) == (a, limit)]) for a in agents}
    rng = np.random.default_rng(0)
    lines = [f"| agent | 1/4 | 1/2 | all (sd) | {agents[0]} ahead by [95 %] |", "|---|---|---|---|---|"]
    for agent, curve in curves.items():
        ahead = curves[agents[0]][:, 2] - curve[:, 2]
        draws = ahead[rng.integers(0, len(ahead), (10_000, len(ahead)))].mean(axis=1)
        low, high = np.percentile(draws, [2.5, 97.5])
        gain = "-" if agent == agents[0] else f"{ahead.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
        means = "{:.4f} | {:.4f} | {:.4f}".format(*curve.mean(axis=0))
        lines.append(f"| {agent} | {means} ({curve[:, 2].std(ddof=1):.4f}) | {gain} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=512)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/agents"))
    args = parser.parse_args()
    jobs = [(*job, args.evaluations, args.runs) for job in product(AGENTS, LIMITS, range(args.seeds))]
    with ProcessPoolExecutor(args.workers) as pool:
        rows = list(pool.map(play, jobs))
    ends = rows[0]["ends"]
    same = f"Dense {ends['dense']:.4f}, chain {ends['chain']:.4f} (equal: the cost weight is even)."
    lines = [f"digits, {args.evaluations} evaluations, {args.seeds} seeds. {same}", ""]
    for limit in LIMITS:
        lines += [f"## Limit on relative MACs: {limit}", "", *table(rows, limit, AGENTS), ""]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "agents.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "agents.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
