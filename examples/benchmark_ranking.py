"""Does inherited loss rank networks? Kendall's tau with the loss after one epoch of fine-tuning, at relative cost 0.5.

    cd examples && python benchmark_ranking.py TASK [--masks 24] [--data-root FOLDER]

TASK is a name or a folder. Both losses are of VALID; TEST is not read. The interval is a bootstrap over the masks
(95 %, 2,000 resamples). Writes results/ranking-TASK.json here.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from scipy.stats import kendalltau

from ads_gym.architecture import Architecture
from ads_gym.data.splits import Split
from ads_gym.nets.cost import CostTable
from ads_gym.nets.scoring import measure
from ads_gym.nets.training import Recipe, fit
from ads_gym.tasks import Task


def losses(task: Task, mask: np.ndarray) -> tuple[float, float]:
    """Loss on VALID of a mask's network as inherited, and after one epoch, nats."""
    network, valid = task.inherit(Architecture(task.config, mask)), task.images(Split.VALID)
    before = measure(network, valid).loss
    fit(network, task.images(Split.TRAIN), Recipe(epochs=1, learning_rate=0.02))
    return before, measure(network, valid).loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--masks", type=int, default=24)
    parser.add_argument("--data-root")
    args = parser.parse_args()
    task, rng, rows = Task.load(args.task, args.data_root), np.random.default_rng(1), []
    table = CostTable(task.config)
    for mask in [table.random_mask(rng, 0.5) for _ in range(args.masks)]:
        rows.append(losses(task, mask))
        print(f"inherited {rows[-1][0]:.4f}, after one epoch {rows[-1][1]:.4f}", flush=True)
    pairs = np.array(rows)
    tau = kendalltau(*pairs.T)
    draws = [kendalltau(*pairs[rng.integers(0, len(pairs), len(pairs))].T).statistic for _ in range(2000)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    result = {"tau": tau.statistic, "p": tau.pvalue, "interval": [low, high], "losses": rows}
    Path("results").mkdir(exist_ok=True)
    Path(f"results/ranking-{task.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"Kendall's tau {tau.statistic:.2f} [{low:.2f}, {high:.2f}], p = {tau.pvalue:.1e}")


if __name__ == "__main__":
    main()
