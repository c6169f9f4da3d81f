"""One training for all sizes: wide networks cut to fewer MACs, beside dense networks of those MACs trained as long.

    cd examples && python benchmark_sizes.py [--seeds 0 1 2 3 4 5] [--limits 0.8 0.65 0.5] [--test]

Trains DenseNets of several sizes on Fashion-MNIST, averaged to 14x14 ($ADS_GYM_DATA says where it is), with each seed.
Wide ones are cut to each limit on relative MACs: channels as `sparsify` drops them, repaired, and distilled, with
unlabelled TRAIN images. Accuracy on VALID and, with --test, once on TEST, which the results file counts. Writes
results/sizes-NAME.json, .md and .png here; networks lie in runs/sizes; a stopped benchmark goes on where it was.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
from compare.fronts import draw, paired
from compare.networks import Choice, Maker, compare, parser

from ads_gym.nets.channels import order_channels
from ads_gym.tasks import Task

NETWORKS = {"k6": (6, 6), "k8": (8, 6), "k9": (9, 6), "k10-5": (10, 5), "k10": (10, 6), "k12": (12, 6)}
WIDE = ("k10", "k12")  # that are cut
SETTINGS = "--task fashion-mnist --size 14 --stem-stride 1 --train 20000 --valid 5000 --epochs 10"


class Cut(Maker):
    """Wide networks without some channels."""

    def choices(self, limit: float) -> Iterator[Choice]:
        """See `Maker`."""
        if self.name.rpartition("-")[0] in WIDE:
            made = order_channels(self.supernet, self.images)
            yield "channels", 0, made.within(int(limit * self.dense_macs)), made.supernet


def trained(name: str, seed: int, args: argparse.Namespace) -> Task:
    """The task of a network, trained if it is not there and TEST is not to be read."""
    growth, layers = NETWORKS[name]
    folder = Path("runs/sizes") / args.name / f"{name}-{seed}"
    if not (folder / "task.json").exists() and not args.test:
        network = f"--growth {growth} --blocks {layers},{layers},{layers}"
        options = f"{args.settings} {network} --seed {seed} --out {folder}".split()
        subprocess.run([sys.executable, "-m", "ads_gym", "train-supernet", *options], check=True)
    return Task.load(folder)


def main() -> None:
    arguments = parser(__doc__, "fashion-mnist-14", [0.8, 0.65, 0.5], trains=True)
    arguments.add_argument("--seeds", type=int, nargs="+", default=list(range(6)))
    arguments.add_argument("--settings", default=SETTINGS, help="of train-supernet")
    args = arguments.parse_args()
    for seeds in [args.seeds] if args.test else [[seed] for seed in args.seeds]:
        args.tasks = [trained(name, seed, args) for seed in seeds for name in NETWORKS]
        results = compare(Cut, args, "sizes", paired)
        draw(results.rows, results.file.with_suffix(".png"))


if __name__ == "__main__":
    main()
