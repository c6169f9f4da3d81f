"""Agents side by side on digits: the best reward (soft accuracy - even cost weight x relative cost) after N masks.

    python examples/benchmark_agents.py --seeds 10 --evaluations 512 --workers 2

Every run is an `ads_gym.search` in its own folder under --runs, so a stopped benchmark goes on where it was. Writes
examples/results/agents.json and agents.md: mean and standard deviation over seeds, and the paired bootstrap interval
(95 %, 10,000 resamples of the seeds) of what `reinforce` is ahead. All rewards are of VALID; TEST is not read.
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

AGENTS = ["reinforce", "local", "bernoulli", "density", "random"]
LIMITS = {"none": None, "0.6": 0.6}  # relative MACs
RESULTS = Path(__file__).parent / "results"


def play(job: tuple[str, str, int, int, Path]) -> dict:
    """One run: its best rewards after a quarter, half and all of the budget, and the lines to compare it with."""
    agent, limit, seed, evaluations, runs = job
    folder = runs / f"{agent}-limit-{limit}-s{seed}"
    result = ads_gym.search(
        "digits", agent, evaluations, seed=seed, max_macs=LIMITS[limit], device="cpu", run=folder, progress=False
    )
    with (folder / "history.csv").open() as file:
        rewards = np.maximum.accumulate([float(row["reward"]) for row in csv.DictReader(file)])
    curve = [float(rewards[min(n, len(rewards)) - 1]) for n in (evaluations // 4, evaluations // 2, evaluations)]
    ends = {line.name: line.reward for line in result.table if line.name in ("dense", "chain")}
    macs, accuracy = result.metrics.relative_macs, result.metrics.accuracy
    job_names = {"agent": agent, "limit": limit, "seed": seed, "paid": len(rewards)}
    return job_names | {"curve": curve, "relative_macs": macs, "accuracy": accuracy, "ends": ends}


def table(rows: list[dict], limit: str) -> list[str]:
    """Markdown lines of one limit."""
    curves = {a: np.array([r["curve"] for r in rows if (r["agent"], r["limit"]) == (a, limit)]) for a in AGENTS}
    rng, lines = np.random.default_rng(0), ["| agent | 1/4 | 1/2 | all (sd) | reinforce ahead by [95 %] |"]
    lines.append("|---|---|---|---|---|")
    for agent, curve in curves.items():
        ahead = curves["reinforce"][:, 2] - curve[:, 2]
        draws = ahead[rng.integers(0, len(ahead), (10_000, len(ahead)))].mean(axis=1)
        low, high = np.percentile(draws, [2.5, 97.5])
        gain = "-" if agent == "reinforce" else f"{ahead.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
        mean, sd = curve.mean(axis=0), curve[:, 2].std(ddof=1)
        lines.append(f"| {agent} | {mean[0]:.4f} | {mean[1]:.4f} | {mean[2]:.4f} ({sd:.4f}) | {gain} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=512)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark-agents"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    jobs = [(*job, args.evaluations, args.runs) for job in product(AGENTS, LIMITS, range(args.seeds))]
    with ProcessPoolExecutor(args.workers) as pool:
        rows = list(pool.map(play, jobs))
    ends = rows[0]["ends"]
    lines = [f"digits, {args.evaluations} evaluations, {args.seeds} seeds. Dense {ends['dense']:.4f}, ", ""]
    lines[0] += f"chain {ends['chain']:.4f} (equal: the cost weight is even)."
    for limit in LIMITS:
        lines += [f"## Limit on relative MACs: {limit}", "", *table(rows, limit), ""]
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "agents.json").write_text(json.dumps(rows, indent=1) + "\n")
    (args.results / "agents.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
