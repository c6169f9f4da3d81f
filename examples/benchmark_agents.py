"""Agents side by side: the best objective after N evaluations, and how many it takes to come near the best known.

    cd examples && python benchmark_agents.py --seeds 10 --evaluations 512 --workers 2
    cd examples && python benchmark_agents.py --weights repaired --places digits --seeds 10 --evaluations 128

Digits without a limit and within 60 % of the MACs, and planted-198; reward "soft", cost weight even; --weights says
whose weights networks are scored with. Every run is an `ads_gym.search` in its own folder under --runs, so a stopped
benchmark goes on where it was. Writes results/agents.json and .md here (agents-repaired.*): means over seeds (sd); the
difference from REFERENCES, seed by seed, with its bootstrap interval (95 %, 10,000 resamples); and the median number of
evaluations until the best objective known from all runs is reached to 1 % of (best known - random's mean), where a run
that never does counts as more than all others. All objectives are of VALID; TEST is not read.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one run a core
from compare.agents import table

import ads_gym

AGENTS = ["recurrent", "bayes", "bernoulli", "local", "random"]
REFERENCES = ["bayes", "bernoulli"]
PLACES = {"digits": ("digits", None), "digits within 0.6": ("digits", 0.6), "planted-198": ("planted-198", None)}
RESULTS = Path("results")


def play(job: tuple[str, str, int, int, Path, str], agent_options: dict | None = None) -> dict:
    """One run: after which evaluations its best objective improved, and to what."""
    agent, place, seed, evaluations, runs, weights = job
    (task, limit), folder = PLACES[place], runs / f"{agent}-{place.replace(' ', '-')}-s{seed}"
    options = {"seed": seed, "run": folder, "progress": False, "agent_options": agent_options}
    options["weights"] = None if task.startswith("planted") else weights
    ads_gym.search(task, agent, evaluations, max_macs=limit, device="cpu", **options)
    objectives = np.loadtxt(folder / "history.csv", delimiter=",", skiprows=1, usecols=9, ndmin=1)[:evaluations]
    best = np.maximum.accumulate(objectives)
    first = np.flatnonzero(np.diff(best, prepend=-np.inf))  # where it improved
    return {"agent": agent, "place": place, "seed": seed, "improved": [[int(n) + 1, float(best[n])] for n in first]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=512)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--weights", choices=["inherited", "repaired"], default="inherited")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES))
    parser.add_argument("--runs", type=Path)
    args = parser.parse_args()
    name = "agents" if args.weights == "inherited" else f"agents-{args.weights}"
    runs = args.runs or Path("runs") / name
    jobs = [(*job, args.evaluations, runs, args.weights) for job in product(AGENTS, args.places, range(args.seeds))]
    with ProcessPoolExecutor(args.workers) as pool:
        rows = list(pool.map(play, jobs))
    lines = [f"{args.evaluations} evaluations, {args.seeds} seeds, cost weight even, {args.weights} weights.", ""]
    for place in args.places:
        here = [row for row in rows if row["place"] == place]
        lines += [f"## {place}", "", *table(here, AGENTS, REFERENCES, args.evaluations, "random"), ""]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(rows) + "\n")
    (RESULTS / f"{name}.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
