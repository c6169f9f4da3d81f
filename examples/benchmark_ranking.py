"""Which loss ranks networks as training does: inherited or repaired? Kendall's tau, random masks of relative cost 0.5.

    cd examples && python benchmark_ranking.py FOLDERS [--masks 24] [--epochs 1 3] [--orders 3]

FOLDERS are names or folders of tasks. Of each mask: the loss of its network with inherited and with repaired weights,
and after so many epochs of fine-tuning from either, mean over several orders of the images (the noise of one hides what
is looked for). All on VALID; TEST is not read. Intervals are a bootstrap over masks (95 %, 2,000 resamples).
Writes results/ranking-NAME.json and .md here; a stopped benchmark goes on where it was.
"""

import argparse
import os
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from compare.labels import Results, Row
from compare.ranking import table

from ads_gym.architecture import Architecture
from ads_gym.data.splits import Split, network_input
from ads_gym.nets.cost import CostTable
from ads_gym.nets.repair import repair
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.nets.training import Recipe, fit
from ads_gym.tasks import Task


def losses(task: Task, mask: np.ndarray, args: argparse.Namespace) -> Row:
    """Losses on VALID of a mask's network, nats: "inherited", "repaired", and by epochs of fine-tuning."""
    supernet, valid, train = task.supernet(), task.images(Split.VALID), task.images(Split.TRAIN)
    architecture, images = Architecture(task.config, mask), network_input(task.calibration().images)
    inherited = calibrate(build_sparse(architecture, supernet), images)
    repaired = build_sparse(architecture, supernet)
    repair(repaired, supernet, images)
    found = {"inherited": measure(inherited, valid).loss, "repaired": measure(repaired, valid).loss}
    for (name, start), epochs in product((("inherited", inherited), ("repaired", repaired)), args.epochs):
        values = []
        for order in range(args.orders):
            network = build_sparse(architecture, supernet)
            network.load_state_dict(start.state_dict())
            fit(network, train, Recipe(epochs=epochs, learning_rate=args.learning_rate, seed=order))
            values.append(measure(network, valid).loss)
        found[f"{epochs} epoch{'s' if epochs > 1 else ''} from {name}"] = float(np.mean(values))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", type=Task.load)
    parser.add_argument("--name", default="digits")
    parser.add_argument("--masks", type=int, default=24)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--orders", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    args = parser.parse_args()
    kept = {key: value for key, value in vars(args).items() if key not in ("tasks", "masks")}
    results = Results(Path(f"results/ranking-{args.name}.json"), kept, table)
    for task in args.tasks:
        costs = CostTable(task.config)
        for number in range(args.masks):
            key = {"task": task.name, "mask": number}
            if not results.has(**key):
                mask = costs.random_mask(np.random.default_rng(number), 0.5)
                results.write(key | losses(task, mask, args))


if __name__ == "__main__":
    main()
