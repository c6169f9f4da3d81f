"""What closed-form repair and distillation are worth: random masks, by cost and by the number of unlabelled images.

    cd examples && python benchmark_repair.py TASK [--masks 16] [--distilled 4] [--images 64 256 1000 3000] [--test]

TASK is a name or a folder. Accuracy on VALID (and, with --test, on TEST, once) of the same masks with inherited and
with repaired weights, and of the first few of them after distillation from each. Images are drawn from TRAIN; their
labels are not used. Writes results/repair-TASK.json here.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch

from ads_gym.architecture import Architecture
from ads_gym.data.splits import Split, network_input
from ads_gym.nets.cost import CostTable
from ads_gym.nets.distil import distil
from ads_gym.nets.recipe import Distillation
from ads_gym.nets.repair import repair
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.tasks import Task

COSTS = (0.7, 0.5, 0.3, 0.1, 0.0)


def columns(task: Task, mask: np.ndarray, images: torch.Tensor, args: argparse.Namespace, index: int) -> list[dict]:
    """A row for each way to make the network of a mask: accuracy in %, seconds."""
    supernet, made = task.supernet(), task.record.recipe  # of given weights, nothing is known
    rows, recipe = [], Distillation(args.steps, shift=getattr(made, "shift", 0), flip=getattr(made, "flip", False))
    for start in ("inherited", "repaired"):
        network, began = build_sparse(Architecture(task.config, mask), supernet), time.perf_counter()
        repair(network, supernet, images) if start == "repaired" else calibrate(network, images)
        for way in [start] + [f"{start} + distilled"] * (index < args.distilled):
            if way != start:
                distil(network, supernet, images, recipe)
            splits = (Split.VALID, Split.TEST)[: 1 + args.test]
            accuracy = {split: 100 * measure(network, task.images(split)).accuracy for split in splits}
            rows.append({"way": way, "seconds": time.perf_counter() - began} | accuracy)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--masks", type=int, default=16)
    parser.add_argument("--distilled", type=int, default=4)
    parser.add_argument("--images", type=int, nargs="+", default=[64, 256, 1000, 3000])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--test", action="store_true")
    args = parser.parse_args()
    task = Task.load(args.task)
    table, train, rows = CostTable(task.config), task.images(Split.TRAIN).images, []
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    for count in dict.fromkeys(min(count, len(train)) for count in args.images):
        images = network_input(train[order[:count]])
        for cost in COSTS:
            for index in range(args.masks if cost else 1):
                mask = table.random_mask(np.random.default_rng(index), cost)
                for row in columns(task, mask, images, args, index):
                    rows.append({"images": count, "cost": cost, "mask": index} | row)
            here = [row for row in rows if (row["images"], row["cost"]) == (count, cost)]
            for way in dict.fromkeys(row["way"] for row in here):
                values = [row[Split.VALID] for row in here if row["way"] == way]
                told = f"{np.mean(values):.1f} ({np.std(values):.1f})"
                print(f"{task.name} {count} images, relative cost {cost}: {way} {told}", flush=True)
    Path("results").mkdir(exist_ok=True)
    report = json.dumps({"arguments": vars(args), "rows": rows}, indent=1)
    Path(f"results/repair-{task.name}.json").write_text(report + "\n")


if __name__ == "__main__":
    main()
