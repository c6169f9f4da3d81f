"""What each part of `reinforce` is worth on digits: the whole agent beside itself without one part.

    cd examples && python benchmark_ablations.py --seeds 10 --evaluations 512 --workers 2

Every run is an `ads_gym.search` in its own folder under --runs, so a stopped benchmark goes on where it was. Writes
results/ablations.json and .md here, as `benchmark_agents.py` does. All rewards are of VALID; TEST is not read.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

from benchmark_agents import RESULTS, play, table

PARTS = {
    "all of it": {},
    "no critic": {"asks": 0},
    "no critic, no memory (the LSTM's rate is 0)": {"asks": 0, "rate": 0.0},
    "no policy after its first batch": {"asks": 1_000_000},
    "no memory (the LSTM's rate is 0)": {"rate": 0.0},
    "no imitation": {"imitation": 0.0},
    "cost not taken out of the returns": {"exact_cost": False},
    "critic without doubt": {"trust": 0.0},
    "critic starts from what was just played only": {"starts": 0},
    "one update a batch": {"updates": 1},
}


def run(job: tuple[str, str, int, int, Path]) -> dict:
    """`reinforce` with the options of one line."""
    name, limit, seed, evaluations, runs = job
    runs = runs / str(list(PARTS).index(name))
    row = play(("reinforce", limit, seed, evaluations, runs), agent_options=PARTS[name])
    return row | {"agent": name, "options": PARTS[name]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=512)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    args = parser.parse_args()
    jobs = [(*job, args.evaluations, args.runs) for job in product(PARTS, ["none"], range(args.seeds))]
    with ProcessPoolExecutor(args.workers) as pool:
        rows = list(pool.map(run, jobs))
    lines = [f"digits, {args.evaluations} evaluations, {args.seeds} seeds.", "", *table(rows, "none", list(PARTS)), ""]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ablations.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "ablations.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
