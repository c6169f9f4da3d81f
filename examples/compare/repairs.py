"""What `benchmark_repair.py` repairs with, and the table of its rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ads_gym.data.splits import Split, network_input
from ads_gym.tasks import Task

WAYS = ("inherited", "repaired", "inherited + distilled", "repaired + distilled")


def image_sets(task: Task, counts: list[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, images): of TRAIN, most of them first; as much noise of the same mean and variance; and digits."""
    train = task.images(Split.TRAIN).images
    drawn = network_input(train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: max(counts)]])
    yield from ((f"{count:,} of TRAIN", drawn[:count]) for count in sorted(counts, reverse=True))
    noise = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(0))
    yield f"{len(drawn):,} of noise", noise * drawn.std() + drawn.mean()
    digits = network_input(Task.load("digits").images(Split.TRAIN).images)
    resized = functional.interpolate(digits, size=drawn.shape[2:], mode="bilinear")
    yield f"{len(digits):,} of digits", resized.expand(-1, drawn.shape[1], -1, -1).contiguous()


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown lines: for each set of images and cost, accuracy of each way: mean and deviation over networks."""
    split = "test" if "test" in rows[0] else "valid"
    lines = [f"| images | relative cost | {' | '.join(WAYS)} |", "|---" * 6 + "|"]
    for images, cost in dict.fromkeys((row["images"], row["cost"]) for row in rows):
        here = [row for row in rows if (row["images"], row["cost"]) == (images, cost)]
        values = [[row[split] for row in here if row["way"] == way] for way in WAYS]
        cells = [f"{np.mean(each):.1f} ({np.std(each):.1f}; {len(each)})" if each else "" for each in values]
        lines.append(f"| {images} | {cost:g} | {' | '.join(cells)} |")
    return [*lines, "", f"Accuracy in % on {split.upper()}: mean (standard deviation; number of networks)."]
