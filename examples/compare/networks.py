"""Networks of several supernets side by side: chosen, repaired, distilled, scored on VALID, kept; TEST is read once."""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from compare.labels import Results, Row, table

from ads_gym.architecture import Architecture
from ads_gym.data.splits import Split, network_input
from ads_gym.nets.cost import architecture_cost, dense_cost
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.distil import distil
from ads_gym.nets.recipe import Distillation
from ads_gym.nets.repair import repair
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, load, save
from ads_gym.tasks import Task
from ads_gym.topology import Topology

Choice = tuple[str, int, Architecture, DenseNet]  # its name, its number among those of a name; the supernet it inherits


class Maker:
    """Makes the networks of one task.

    Args:
        task: with its supernet.
        results: where rows go.
        args: of `parser`.
        runs: folder of the networks.
    """

    def __init__(self, task: Task, results: Results, args: argparse.Namespace, runs: Path) -> None:
        self.task, self.results, self.args, self.runs, self.name = task, results, args, runs, task.folder.name
        self.supernet, self.valid = task.supernet(), task.images(Split.VALID)
        self.dense_macs = dense_cost(task.config)[0]
        train, made = task.images(Split.TRAIN).images, task.record.recipe  # of given weights, nothing is known
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        self.images = network_input(train[order[: args.images]])
        self.recipe = Distillation(args.steps, shift=getattr(made, "shift", 0), flip=getattr(made, "flip", False))

    def choices(self, limit: float) -> Iterator[Choice]:
        """Every network within a limit on relative MACs."""
        raise NotImplementedError

    def make(self) -> None:
        """Make what is not there yet."""
        dense = Architecture(self.task.config, Topology(self.task.config.blocks).dense())
        key = {"task": self.name, "limit": 1.0, "choice": "dense", "number": 0}
        if not self.results.has(**key):
            self.results.write(self.row(build_sparse(dense, self.supernet), key, "dense", time.perf_counter()))
        for limit in self.args.limits:
            for choice, number, architecture, supernet in self.choices(limit):
                key = {"task": self.name, "limit": limit, "choice": choice, "number": number}
                if not self.results.has(**key):
                    self.results.write(*self.rows(architecture, supernet, key))

    def rows(self, architecture: Architecture, supernet: DenseNet, key: Row) -> Iterator[Row]:
        """A network repaired, and the first ones of a choice distilled."""
        network, began = build_sparse(architecture, supernet), time.perf_counter()
        repair(network, supernet, self.images)
        yield self.row(network, key, "repaired", began)
        if key["number"] < self.args.distilled:
            began = time.perf_counter()
            distil(network, supernet, self.images, self.recipe)
            yield self.row(network, key, "distilled", began)

    def row(self, network: SparseDenseNet, key: Row, way: str, began: float) -> Row:
        """Score a network on VALID, and keep it."""
        seconds, score = time.perf_counter() - began, measure(network, self.valid)
        macs, _ = architecture_cost(network.architecture)
        _, file = save(network, self.runs / "-".join(map(str, (*key.values(), way))).replace(", ", "-"))
        found = {
            "seconds": seconds,
            "macs": macs,
            "relative_macs": macs / self.dense_macs,
            "file": os.path.relpath(file),
            "sha256": digest(file),
        }
        return key | {"way": way} | found | {"valid": 100 * score.accuracy, "valid_loss": score.loss}


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def parser(description: str | None, name: str, limits: list[float], *, trains: bool = False) -> argparse.ArgumentParser:
    """The arguments that these benchmarks have in common.

    Args:
        description: of the script.
        name, limits: defaults of the results file's name and of relative MACs.
        trains: whether the script trains its tasks, and so is not given them.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if not trains:
        made.add_argument("tasks", nargs="+", type=Task.load)
    made.add_argument("--name", default=name)
    made.add_argument("--limits", type=float, nargs="+", default=limits)
    made.add_argument("--distilled", type=int, default=2, help="networks of each choice")
    made.add_argument("--images", type=int, default=3000)
    made.add_argument("--steps", type=int, default=1000, help="of distillation")
    made.add_argument("--test", action="store_true", help="make nothing, read TEST")
    return made


def compare(
    maker: type[Maker], args: argparse.Namespace, what: str, lines: Callable[[list[Row]], list[str]] = table
) -> Results:
    """Make the networks of all tasks, or read TEST for those that are there, of each network once.

    Args:
        maker: what makes them.
        args: of `parser`.
        what: first word of files and folders.
        lines: of the table.

    Returns:
        The results, which are stored.
    """
    in_rows = ("tasks", "seeds", "limits", "choices", "searches", "distilled", "test")
    if len({task.folder.name for task in args.tasks}) < len(args.tasks):
        sys.exit("folders of tasks need names of their own: rows bear them.")
    kept = {key: value for key, value in vars(args).items() if key not in in_rows}
    results = Results(Path(f"results/{what}-{args.name}.json"), kept, lines)
    if not args.test:
        for task in args.tasks:
            maker(task, results, args, Path("runs") / what / args.name).make()
        return results
    results.report["test_reads"] += 1
    for task in args.tasks:
        for row in results.rows:
            if row["task"] == task.folder.name and "test" not in row:
                if digest(Path(row["file"])) != row["sha256"]:
                    sys.exit(
                        f"{row['file']} is not the network that was scored on VALID: restore it, or make all anew."
                    )
                row["test"] = 100 * measure(load(row["file"]), task.images(Split.TEST)).accuracy
                results.write()  # at once: what was read is not read again
    return results
