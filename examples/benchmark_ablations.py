"""What each part of an agent is worth on digits: the whole agent beside itself without one part.

    cd examples && python benchmark_ablations.py --seeds 10 --evaluations 512 --workers 2

`recurrent` and `bayes`, options changed one at a time. Every run is an `ads_gym.search` in its own folder under --runs,
so a stopped benchmark goes on where it was. Writes results/ablations.json and .md here, tables as in
`benchmark_agents.py`. All objectives are of VALID; TEST is not read.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

from benchmark_agents import RESULTS, play
from compare.agents import table

PARTS: dict[str, dict[str, dict]] = {
    "recurrent": {
        "recurrent": {},
        "no memory (the LSTM's learning rate is 0)": {"learning_rate": 0.0},
        "no imitation": {"imitation": 0.0},
        "cost not taken out of the returns": {"exact_cost": False},
        "one update a batch": {"n_epochs": 1},
        "no random masks first": {"warmup": 0},
    },
    "bayes": {
        "bayes": {},
        "mean instead of upper confidence bound": {"kappa": 0.0},
        "one start": {"starts": 1},
        "one flip as perturbation": {"kick": 1},
    },
}
JOBS = [(agent, name) for agent, parts in PARTS.items() for name in parts]


def run(job: tuple[tuple[str, str], int, int, Path]) -> dict:
    """An agent with the options of one line."""
    (agent, name), seed, evaluations, runs = job
    folder = runs / str(JOBS.index((agent, name)))
    return play((agent, "digits", seed, evaluations, folder, "inherited"), agent_options=PARTS[agent][name]) | {
        "agent": name
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=512)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    args = parser.parse_args()
    with ProcessPoolExecutor(args.workers) as pool:
        rows = list(pool.map(run, [(*job, args.evaluations, args.runs) for job in product(JOBS, range(args.seeds))]))
    lines = [f"digits, {args.evaluations} evaluations, {args.seeds} seeds.", ""]
    for agent, parts in PARTS.items():
        lines += [f"## {agent}", "", *table(rows, list(parts), [agent], args.evaluations, None), ""]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ablations.json").write_text(json.dumps(rows) + "\n")
    (RESULTS / "ablations.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
