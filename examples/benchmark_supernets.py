"""What a supernet is worth as a reward: how inherited metrics fall and spread.

    cd examples && python benchmark_supernets.py TASK [--masks 100] [--data-root FOLDER]

TASK is a name or a folder. On VALID: random masks at each relative cost with statistics of their own, and beside them
16 masks with the dense network's. On TEST (one read): the dense network. Writes results/supernet-TASK.json here.
"""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np

from ads_gym.architecture import Architecture
from ads_gym.data.splits import Split
from ads_gym.nets.cost import CostTable
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import build_sparse
from ads_gym.records import to_values
from ads_gym.supernet_training import SPREAD_COSTS, spread
from ads_gym.tasks import Task
from ads_gym.topology import Topology


def dense_statistics(task: Task, masks: int = 16) -> list[dict]:
    """Accuracy on VALID of random masks under the dense network's BatchNorm statistics: mean and sd over masks."""
    rng, table, supernet, rows = np.random.default_rng(0), CostTable(task.config), task.supernet(), []
    for cost in SPREAD_COSTS:
        drawn = [table.random_mask(rng, cost) for _ in range(masks if 0 < cost < 1 else 1)]
        networks = [build_sparse(Architecture(task.config, mask), supernet) for mask in drawn]
        accuracy = [measure(network, task.images(Split.VALID)).accuracy for network in networks]
        rows.append({"relative_cost": cost, "accuracy": np.mean(accuracy), "accuracy_sd": np.std(accuracy)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--data-root")
    args = parser.parse_args()
    task = Task.load(args.task, args.data_root)
    report = {"record": to_values(task.record), "spread": []}
    for row in spread(task.evaluator(device="cpu"), args.masks):
        report["spread"].append(asdict(row))
        print(f"cost {row.relative_cost}: accuracy {row.accuracy:.4f} ({row.accuracy_sd:.4f})", flush=True)
    report["dense_statistics"] = dense_statistics(task)
    dense = task.inherit(Architecture(task.config, Topology(task.config.blocks).dense()))
    report["dense"] = {split: measure(dense, task.images(split))._asdict() for split in (Split.VALID, Split.TEST)}
    print("dense", report["dense"])
    Path("results").mkdir(exist_ok=True)
    Path(f"results/supernet-{task.name}.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
