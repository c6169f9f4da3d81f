"""What supernets are worth as a reward: how inherited metrics fall and spread, and whether they rank networks.

    python examples/benchmark_supernets.py NAME=TASK [NAME=TASK ...] [--masks 100] [--rank NAME]

For each task (a name or a folder): 100 random masks at each relative cost (VALID); the dense network and the best of a
search of --evaluations, without any training, on TEST (one read each). For --own-statistics: masks with the dense
net's own BatchNorm statistics. For --rank: Kendall's tau between inherited loss
and loss after one epoch of fine-tuning over 24 random masks of relative cost 0.5, both on VALID, with its bootstrap
interval. Writes examples/results/supernets-NAME.json, one file a task, and prints it.
"""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from scipy.stats import kendalltau

import ads_gym
from ads_gym.architecture import Architecture
from ads_gym.data import Split
from ads_gym.images import network_input
from ads_gym.nets.cost import CostTable
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, calibrate
from ads_gym.nets.training import Recipe, fit
from ads_gym.supernets import SPREAD_COSTS, spread
from ads_gym.tasks import Task


def inherit(task: Task, mask: np.ndarray, statistics: bool = True) -> SparseDenseNet:
    """The sparse network of a mask, its statistics re-estimated unless told otherwise."""
    network = build_sparse(Architecture(task.config, mask), task.supernet())
    return calibrate(network, network_input(task.calibration().images)) if statistics else network


def own_statistics(task: Task, table: CostTable, masks: int) -> list[dict]:
    """Accuracy on VALID with the dense network's statistics."""
    rng, rows, valid = np.random.default_rng(0), [], task.images(Split.VALID)
    for cost in SPREAD_COSTS:
        drawn = [table.random_mask(rng, cost) for _ in range(masks if 0 < cost < 1 else 1)]
        accuracy = [measure(inherit(task, mask, statistics=False), valid).accuracy for mask in drawn]
        rows.append({"relative_cost": cost, "accuracy": np.mean(accuracy), "accuracy_sd": np.std(accuracy)})
    return rows


def ranking(task: Task, table: CostTable, masks: int = 24) -> dict:
    """Kendall's tau between loss before and after one epoch of fine-tuning."""
    rng, valid, losses = np.random.default_rng(1), task.images(Split.VALID), []
    for mask in [table.random_mask(rng, 0.5) for _ in range(masks)]:
        network = inherit(task, mask)
        before = measure(network, valid).loss
        fit(network, task.images(Split.TRAIN), Recipe(epochs=1, learning_rate=0.02))
        losses.append((before, measure(network, valid).loss))
    pairs = np.array(losses)
    tau = kendalltau(*pairs.T)
    draws = [kendalltau(*pairs[rng.integers(0, masks, masks)].T).statistic for _ in range(2000)]
    interval = np.nanpercentile(draws, [2.5, 97.5]).tolist()
    return {"tau": float(tau.statistic), "p": float(tau.pvalue), "interval": interval, "losses": pairs.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", metavar="NAME=TASK")
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--evaluations", type=int, default=512)
    parser.add_argument("--agent", default="reinforce")
    parser.add_argument("--rank", nargs="*", default=[])
    parser.add_argument("--own-statistics", nargs="*", default=[])
    parser.add_argument("--data-root")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    for name, _, folder in (entry.partition("=") for entry in args.tasks):
        task = Task.load(folder, args.data_root)
        table, evaluator = CostTable(task.config), task.evaluator("layers", "cpu")
        report = {"recipe": dict(task.record["recipe"]), "data": task.data.to_dict() | {"source": task.data.source}}
        report["spread"] = [asdict(row) for row in spread(evaluator, args.masks)]
        found = ads_gym.search(task, args.agent, args.evaluations, device="cpu", run=f"runs/supernets-{name}")
        test = task.images(Split.TEST)
        for label, mask in (("dense", table.topology.dense()), ("found", found.architecture.mask)):
            report[label] = {"test": measure(inherit(task, mask), test)._asdict(), "mask": "".join(map(str, mask * 1))}
            report[label] |= {"valid": asdict(evaluator.evaluate(mask[None])[0])}
        report |= {"own_statistics": own_statistics(task, table, 16)} if name in args.own_statistics else {}
        report |= {"ranking": ranking(task, table)} if name in args.rank else {}
        args.results.mkdir(parents=True, exist_ok=True)
        (args.results / f"supernets-{name}.json").write_text(json.dumps(report, indent=1) + "\n")
        print(name, json.dumps({k: v for k, v in report.items() if k != "recipe"}, indent=1))


if __name__ == "__main__":
    main()
