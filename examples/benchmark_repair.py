"""What closed-form repair and distillation are worth: random masks, by cost and by what images they are given.

    cd examples && python benchmark_repair.py FOLDERS [--masks 16] [--few 2] [--distilled 2] [--test]

FOLDERS are tasks of one kind, trained with several seeds. Of the same masks: accuracy with inherited and with repaired
weights and, of the first of them, after distillation from each. Images are drawn from TRAIN, without labels; there are
--masks masks of each relative cost with the largest number of images, and --few of --few-costs with fewer images, with
noise and with images of digits (of these, the first is distilled). The
masks are random and nothing is chosen, so with --test each network is scored on TEST once, when it is made. Writes
results/repair-NAME.json and .md here; a stopped benchmark goes on where it was.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch
from compare.labels import Results
from compare.repairs import WAYS, jobs, table

from ads_gym.architecture import Architecture
from ads_gym.data.splits import Split
from ads_gym.nets.cost import CostTable
from ads_gym.nets.distil import distil
from ads_gym.nets.recipe import Distillation
from ads_gym.nets.repair import repair
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.tasks import Task


def made(task: Task, mask: np.ndarray, images: torch.Tensor, args: argparse.Namespace, distils: bool) -> Iterator[dict]:
    """A row for each way to make the network of a mask: accuracy in %, seconds."""
    supernet, trained = task.supernet(), task.record.recipe  # of given weights, nothing is known
    recipe = Distillation(args.steps, shift=getattr(trained, "shift", 0), flip=getattr(trained, "flip", False))
    for start in WAYS[:2]:
        network, began = build_sparse(Architecture(task.config, mask), supernet), time.perf_counter()
        repair(network, supernet, images) if start == "repaired" else calibrate(network, images)
        for way in [start] + [f"{start} + distilled"] * distils:
            if way != start:
                distil(network, supernet, images, recipe)
            seconds, split = time.perf_counter() - began, Split.TEST if args.test else Split.VALID
            score = 100 * measure(network, task.images(split)).accuracy
            yield {"way": way, "seconds": seconds, str(split): score}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", type=Task.load)
    parser.add_argument("--name", default="fashion-mnist")
    parser.add_argument("--masks", type=int, default=16)
    parser.add_argument("--few", type=int, default=2)
    parser.add_argument("--few-costs", type=float, nargs="+", default=[0.5, 0.1])
    parser.add_argument("--distilled", type=int, default=2)
    parser.add_argument("--images", type=int, nargs="+", default=[64, 256, 1000, 3000])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--test", action="store_true")
    args = parser.parse_args()
    if len({task.folder.name for task in args.tasks}) < len(args.tasks):
        parser.error("folders of tasks need names of their own: rows bear them.")
    kept = {key: value for key, value in vars(args).items() if key != "tasks"}
    results = Results(Path(f"results/repair-{args.name}.json"), kept, table)
    results.report["test_reads"] = int(args.test)
    for task in args.tasks:
        for key, images, distils in jobs(task, args):
            if not results.has(**key):
                mask = CostTable(task.config).random_mask(np.random.default_rng(key["mask"]), key["cost"])
                results.write(*(key | row for row in made(task, mask, images, args, distils)))


if __name__ == "__main__":
    main()
