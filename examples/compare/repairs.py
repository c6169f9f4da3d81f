"""What `benchmark_repair.py` repairs with, and the table of its rows."""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from compare.labels import markdown
from torch.nn import functional

from ads_gym.data.splits import Split, network_input
from ads_gym.tasks import Task

COSTS = (0.7, 0.5, 0.3, 0.1, 0.0)  # relative ones, of masks that get most images
WAYS = ("inherited", "repaired", "inherited + distilled", "repaired + distilled")


def image_sets(task: Task, counts: list[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, images): of TRAIN, most of them first; as much noise of the same mean and variance; and digits."""
    train = task.images(Split.TRAIN).images
    drawn = network_input(train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: max(counts)]])
    for count in sorted({min(count, len(train)) for count in counts}, reverse=True):
        yield f"{count:,} of TRAIN", drawn[:count]
    noise = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(0))
    yield f"{len(drawn):,} of noise", noise * drawn.std() + drawn.mean()
    digits = network_input(Task.load("digits").images(Split.TRAIN).images)
    resized = functional.interpolate(digits, size=drawn.shape[2:], mode="bilinear")
    yield f"{len(digits):,} of digits", resized.expand(-1, drawn.shape[1], -1, -1).contiguous()


def jobs(task: Task, args: argparse.Namespace) -> Iterator[tuple[dict, torch.Tensor, bool]]:
    """What is made of a task: the beginning of its rows, images, whether it is distilled."""
    for number, (name, images) in enumerate(image_sets(task, args.images)):
        for cost in args.few_costs if number else COSTS:
            for index in range((args.few if number else args.masks) if cost else 1):
                key = {"task": task.folder.name, "images": name, "cost": cost, "mask": index}
                yield key, images, index < (1 if number else args.distilled)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown lines: for each set of images and cost, accuracy of each way: mean and deviation over networks.

    First of all masks, before distillation; then of those that were distilled, all ways.
    """
    split = "test" if "test" in rows[0] else "valid"
    distilled = {_network(row) for row in rows if "distilled" in row["way"]}
    lines = [*_ways(rows, WAYS[:2], split), "", "Those that were distilled:", ""]
    lines += _ways([row for row in rows if _network(row) in distilled], WAYS, split)
    return [*lines, "", f"Accuracy in % on {split.upper()}: mean (standard deviation; number of networks)."]


def _network(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("task", "images", "cost", "mask"))


def _ways(rows: list[dict[str, Any]], ways: tuple[str, ...], split: str) -> list[str]:
    lines = []
    for images, cost in dict.fromkeys((row["images"], row["cost"]) for row in rows):
        here = [row for row in rows if (row["images"], row["cost"]) == (images, cost)]
        values = [[row[split] for row in here if row["way"] == way] for way in ways]
        cells = [f"{np.mean(each):.1f} ({np.std(each):.1f}; {len(each)})" if each else "" for each in values]
        lines.append([images, f"{cost:g}", *cells])
    return markdown(["images", "relative cost", *ways], lines)
