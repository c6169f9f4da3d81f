"""The networks that `benchmark_sparsify.py` compares: chosen, repaired, distilled, scored on VALID and kept."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from compare.labels import Key, Results

import ads_gym
from ads_gym.architecture import Architecture
from ads_gym.data.splits import Split, network_input
from ads_gym.nets.cost import CostTable
from ads_gym.nets.distil import distil
from ads_gym.nets.recipe import Distillation
from ads_gym.nets.repair import repair
from ads_gym.nets.residual import elimination_order, kept_within
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, save
from ads_gym.runs.comparison import masks_that_cost
from ads_gym.tasks import Task

RUNS = Path("runs/sparsify")
SEARCHES = {  # agent, and the weights with which it is rewarded
    "bayes": ("bayes", "repaired"),
    "recurrent": ("recurrent", "repaired"),
    "bayes, inherited": ("bayes", "inherited"),
}


class Maker:
    """Makes the networks of one task."""

    def __init__(self, task: Task, results: Results, args: argparse.Namespace) -> None:
        self.task, self.results, self.args, self.name = task, results, args, task.folder.name
        self.cost, self.supernet, self.valid = CostTable(task.config), task.supernet(), task.images(Split.VALID)
        train, made = task.images(Split.TRAIN).images, task.record.recipe  # of given weights, nothing is known
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        self.images = network_input(train[order[: args.images]])
        self.recipe = Distillation(args.steps, shift=getattr(made, "shift", 0), flip=getattr(made, "flip", False))

    def choices(self, limit: float) -> Iterator[tuple[str, int, np.ndarray]]:
        """(choice, number, mask) of every network within a limit on relative MACs."""
        cost, most = self.cost, int(limit * self.cost.dense_macs)
        order = elimination_order(self.supernet, self.images)
        yield "residual", 0, kept_within(order, cost.connection_macs, most - cost.least_macs)
        masks = masks_that_cost(cost, most, self.args.random, np.random.default_rng(0))
        yield from (("random", number, mask) for number, mask in enumerate(masks))
        for name in self.args.searches:
            agent, weights = SEARCHES[name]
            run = RUNS / f"{self.name}-{limit}-{agent}-{weights}"
            settings = {"reward": "loss", "cost_weight": 0.0, "max_macs": limit, "device": "cpu", "progress": False}
            found = ads_gym.search(self.task, agent, self.args.evaluations, weights=weights, run=run, **settings)
            yield name, 0, found.architecture.mask

    def make(self) -> None:
        """Make what is not there yet."""
        if not self.results.has((self.name, 1.0, "dense", 0)):
            dense = Architecture(self.task.config, self.cost.topology.dense())
            network = build_sparse(dense, self.supernet)
            self.results.write(self.row(network, (self.name, 1.0, "dense", 0), "dense", time.perf_counter()))
        for limit in self.args.limits:
            for choice, number, mask in self.choices(limit):
                key = (self.name, limit, choice, number)
                if not self.results.has(key):
                    self.results.write(*self.rows(mask, key))

    def rows(self, mask: np.ndarray, key: Key) -> Iterator[dict]:
        """The repaired network of a mask, and the first of a choice distilled."""
        network, began = build_sparse(Architecture(self.task.config, mask), self.supernet), time.perf_counter()
        repair(network, self.supernet, self.images)
        yield self.row(network, key, "repaired", began)
        if key[-1] < self.args.distilled:
            began = time.perf_counter()
            distil(network, self.supernet, self.images, self.recipe)
            yield self.row(network, key, "distilled", began)

    def row(self, network: SparseDenseNet, key: Key, way: str, began: float) -> dict:
        """Score a network on VALID, and keep it."""
        seconds, score = time.perf_counter() - began, measure(network, self.valid)
        found = dict(zip(("task", "limit", "choice", "number"), key, strict=True)) | {"way": way, "seconds": seconds}
        stem = RUNS / "-".join(map(str, (*key, way))).replace(", ", "-")
        found["relative_macs"] = float(self.cost.relative_macs(network.architecture.mask))
        _, file = save(network, stem)
        return found | {"file": str(file), "valid": 100 * score.accuracy, "valid_loss": score.loss}
