"""Agents side by side: the best objective after N evaluations, and how many it takes to come near the best known.

    cd examples && python benchmark_agents.py --seeds 10 --evaluations 512 --workers 2

Digits without a limit and within 60 % of the MACs, and planted-198; reward "soft", cost weight even. Every run is an
`ads_gym.search` in its own folder under --runs, so a stopped benchmark goes on where it was. Writes
results/agents.json and .md here: means over seeds (sd); the difference from REFERENCES, seed by seed, with its
bootstrap interval (95 %, 10,000 resamples); and the median number of evaluations until the best objective known from
all runs is reached to 1 % of (best known - random's mean), where a run that never does counts as more than all others.
All objectives are of VALID; TEST is not read.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one run a core
import ads_gym

AGENTS = ["recurrent", "bayes", "hybrid", "bernoulli", "local", "random"]
REFERENCES = ["bayes", "bernoulli"]
PLACES = {"digits": ("digits", None), "digits within 0.6": ("digits", 0.6), "planted-198": ("planted-198", None)}
RESULTS = Path("results")


def play(job: tuple[str, str, int, int, Path], agent_options: dict | None = None) -> dict:
    """One run: the best objective so far after each of its evaluations."""
    agent, place, seed, evaluations, runs = job
    (task, limit), folder = PLACES[place], runs / f"{agent}-{place.replace(' ', '-')}-s{seed}"
    options = {"seed": seed, "run": folder, "progress": False, "agent_options": agent_options}
    ads_gym.search(task, agent, evaluations, max_macs=limit, device="cpu", **options)
    objectives = np.loadtxt(folder / "history.csv", delimiter=",", skiprows=1, usecols=9, ndmin=1)[:evaluations]
    return {"agent": agent, "place": place, "seed": seed, "best": np.maximum.accumulate(objectives).tolist()}


def difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Mean of paired differences [seeds] and its interval."""
    draws = np.random.default_rng(0).integers(0, len(ours), (10_000, len(ours)))
    low, high = np.percentile((ours - theirs)[draws].mean(axis=1), [2.5, 97.5])
    return f"{(ours - theirs).mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def table(rows: list[dict], agents: list[str], references: list[str], evaluations: int, baseline: str) -> list[str]:
    """Markdown lines; `baseline` is the agent whose mean is the lower end of the way to the best known."""
    padded = lambda best: best + best[-1:] * (evaluations - len(best))  # noqa: E731 - an agent may end early
    curves = {agent: np.array([padded(row["best"]) for row in rows if row["agent"] == agent]) for agent in agents}
    known = max(curve.max() for curve in curves.values())
    target = known - 0.01 * (known - curves[baseline][:, -1].mean())
    heads = ["agent", "1/4", "1/2", "all (sd)", *(f"ahead of {name}" for name in references), "to the best known"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for agent, curve in curves.items():
        quarter, half, end = (curve[:, max(1, evaluations // n) - 1] for n in (4, 2, 1))
        reached = np.where(end >= target, (curve >= target).argmax(axis=1) + 1, np.inf)
        ahead = [difference(end, curves[name][:, -1]) if name != agent else "-" for name in references]
        took = f"{np.median(reached):.0f} ({np.isfinite(reached).sum()} of {len(reached)})"
        means = f"{quarter.mean():.4f} | {half.mean():.4f} | {end.mean():.4f} ({end.std(ddof=1):.4f})"
        lines.append(f"| {agent} | {means} | {' | '.join(ahead)} | {took} |")
    return [*lines, "", f"Best known {known:.4f}; reached means {target:.4f} or more."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=512)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/agents"))
    args = parser.parse_args()
    jobs = [(*job, args.evaluations, args.runs) for job in product(AGENTS, PLACES, range(args.seeds))]
    with ProcessPoolExecutor(args.workers) as pool:
        rows = list(pool.map(play, jobs))
    lines = [f"{args.evaluations} evaluations, {args.seeds} seeds, cost weight even.", ""]
    for place in PLACES:
        here = [row for row in rows if row["place"] == place]
        lines += [f"## {place}", "", *table(here, AGENTS, REFERENCES, args.evaluations, "random"), ""]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "agents.json").write_text(json.dumps(rows) + "\n")
    (RESULTS / "agents.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
