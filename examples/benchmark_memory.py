"""What memory and action masks are worth: Taxi whose passenger and destination are seen in the first step only.

    cd examples && python benchmark_memory.py [--steps 500000] [--seeds 0 1 2 3 4] [--choose 100 101]

Afterwards an observation is the taxi's row and column. Masks tell which actions change something: they tell where the
passenger waits once the taxi is there, not where he wants to go; and an agent with masks that stood still knows that it
took him in, while one without may have hit a wall. `recurrent-ppo` has masks and memory, sb3-contrib's MaskablePPO only
masks, its RecurrentPPO only memory; and ours without the one or the other. All have 128 environments, rollouts of 32
steps, 8 epochs, gamma and lambda 0.95, rewards divided by 20; a rollout is one minibatch (MaskablePPO: 256 steps).
These were found by hand with seed 100, in about seven trials of ours, one of MaskablePPO and none of RecurrentPPO, so
they may favour ours: a comparison should give the others as many.

Each agent tries every one of `SETTINGS` with the seeds --choose, and takes the one of the highest mean return over the
last fifth of the steps; its runs with other seeds, --seeds, are reported. An ablation takes the whole agent's setting.
Writes results/memory-taxi.json, .md and .png here; a stopped benchmark goes on with the next run.
"""

import argparse
import os
import time
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
from compare.labels import Results, Row
from compare.memory import chosen, draw, parts, table
from compare.taxi import ABLATIONS, AGENTS, MAKERS, WITHOUT_MASKS, Log, evaluate

SETTINGS = [{"learning_rate": rate, "ent_coef": entropy} for rate, entropy in product((0.001, 0.003), (0.01, 0.05))]


def play(agent: str, setting: int, seed: int, steps: int, episodes: int) -> Row:
    """Train and evaluate an agent."""
    log: Log = []
    began, made = time.perf_counter(), MAKERS[agent](log, seed, SETTINGS[setting])
    made.learn(steps)
    row = parts(log[:steps]) | {"seconds": time.perf_counter() - began}
    for name, deterministic in (("drawn", False), ("probable", True)):
        row[name] = evaluate(made, agent not in WITHOUT_MASKS, deterministic, episodes)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="taxi")
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--choose", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--episodes", type=int, default=100, help="of a trained agent")
    parser.add_argument("--tries", type=int, default=len(SETTINGS), help="how many of the settings")
    args = parser.parse_args()
    if set(args.seeds) & set(args.choose):
        parser.error("--seeds and --choose have one in common: what is reported must not have chosen.")
    arguments = {"steps": args.steps, "choose": args.choose, "settings": SETTINGS[: args.tries]}
    results = Results(Path(f"results/memory-{args.name}.json"), arguments, table)

    def add(stage: str, agent: str, setting: int, seed: int) -> None:
        key = {"stage": stage, "agent": agent, "setting": setting, "seed": seed}
        if not results.has(**key):
            results.write(key | play(agent, setting, seed, args.steps, args.episodes))

    for seed, setting, agent in product(args.choose, range(args.tries), AGENTS):
        add("choose", agent, setting, seed)
    for seed, agent in product(args.seeds, AGENTS + ABLATIONS):
        add("report", agent, chosen(results.rows, agent if agent in AGENTS else AGENTS[0]), seed)
    draw(results.rows, args.steps, results.file.with_suffix(".png"))


if __name__ == "__main__":
    main()
