"""Masks per second of inherited evaluation, against the obvious implementations.

A mask's metrics are its scores on VALID under BatchNorm statistics of its own, estimated on calibration images. Weights
and images are random, for the time does not depend on them. Every repeat has masks of its own. On CUDA where it is.
"""

from typing import NamedTuple

import numpy as np
import torch
from speed.network import Plain
from speed.timing import Row, interleaved
from torch import Tensor, nn

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.splits import ImageSet, network_input
from ads_gym.devices import resolve_device
from ads_gym.evaluators.inherited import InheritedEvaluator
from ads_gym.evaluators.repaired import RepairedEvaluator
from ads_gym.evaluators.throughput import neighbours, random_masks
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.scoring import score_logits
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.topology import BoolArray


class Setting(NamedTuple):
    """What is evaluated."""

    config: DenseNetConfig
    valid: int  # images
    calibration: int
    few: int = 2  # masks on which rivals are timed in one repeat: they compute them one after another


FASHION = DenseNetConfig((6, 6, 6), 8, 16, "conv3-stride2", image_shape=(1, 28, 28))
DENSENET_40 = DenseNetConfig((12, 12, 12), 12, 16, "conv3", image_shape=(3, 32, 32))
TINY = DenseNetConfig((3, 3), 4, 8, "conv3", image_shape=(1, 8, 8))
CPU = {"Fashion-MNIST's": Setting(FASHION, 2000, 500), "DenseNet-40": Setting(DENSENET_40, 400, 100, few=1)}
CUDA = {"Fashion-MNIST's": Setting(FASHION, 2000, 500), "DenseNet-40": Setting(DENSENET_40, 5000, 1000)}
SMALL = {"a small network": Setting(TINY, 100, 50)}
NAMES = {"random": "random masks", "neighbours": "neighbours"}
BATCHES = {"cpu": (500, 125), "cuda": (500, 2000)}  # in which the rival scores; the second is its best


class Images(NamedTuple):
    """Images on the device, as networks read them."""

    calibration: Tensor  # float32 [n, c, h, w]
    valid: Tensor
    labels: Tensor  # int64 [n]


class Problem(NamedTuple):
    """A supernet, our evaluators of it, and the same images for their rivals."""

    network: DenseNet
    evaluator: InheritedEvaluator
    repaired: RepairedEvaluator
    images: Images


def settings(small: bool) -> dict[str, Setting]:
    """Settings for this machine, by name."""
    return SMALL if small else CUDA if resolve_device().type == "cuda" else CPU


def problem(setting: Setting) -> Problem:
    """Weights and images drawn at random, always the same."""
    generator, shape = torch.Generator().manual_seed(0), setting.config.image_shape
    torch.manual_seed(0)
    network, device = DenseNet(setting.config).eval(), resolve_device()
    calibration, valid = (
        ImageSet(
            torch.randint(256, (count, *shape), dtype=torch.uint8, generator=generator),
            torch.randint(setting.config.classes, (count,), generator=generator),
        )
        for count in (setting.calibration, setting.valid)
    )
    ready = [network_input(images.images.to(device), torch.float32) for images in (calibration, valid)]
    evaluators = [kind(network, calibration, valid) for kind in (InheritedEvaluator, RepairedEvaluator)]
    return Problem(network.to(device), *evaluators, Images(*ready, valid.labels.to(device)))


@torch.inference_mode()
def masked(network: DenseNet, images: Images, masks: BoolArray, batch: int) -> list[list[float]]:
    """The rival: the whole supernet with dropped connections set to zero, one mask after another."""
    scores = []
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for mask in masks:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        network.train()
        network(images.calibration, mask)
        network.eval()
        logits = torch.cat([network(part, mask) for part in images.valid.split(batch)])
        scores.append(score_logits(logits, images.labels).tolist())
    return scores


@torch.inference_mode()
def pruned(network: DenseNet, images: Images, masks: BoolArray, is_plain: bool = False) -> list[list[float]]:
    """What a pruning tool does: build the smaller network, calibrate it, score it, one mask after another."""
    scores = []
    for mask in masks:
        smaller: nn.Module = build_sparse(Architecture(network.config, mask), network)
        if is_plain:
            smaller = Plain(smaller)
        calibrate(smaller, images.calibration)
        logits = torch.cat([smaller(part) for part in images.valid.split(500)])
        scores.append(score_logits(logits, images.labels).tolist())
    return scores


def measure(small: bool) -> list[Row]:
    """Rows: random masks and neighbours against the masked supernet, the smaller network, and one mask at a time."""
    return [row for name, setting in settings(small).items() for row in compare(name, setting, small)]


def compare(name: str, setting: Setting, small: bool) -> list[Row]:
    """All rows of one network."""
    network, evaluator, repaired, images = problem(setting)
    rng, device = np.random.default_rng(0), evaluator.device.type
    counts = {"random": 4, "neighbours": 8} if small else {"random": 32, "neighbours": 64}
    few, alone = setting.few, 2 if small else 8

    def draw(kind: str, count: int) -> BoolArray:
        return next({"random": random_masks, "neighbours": neighbours}[kind](evaluator.topology, count, rng))

    contestants = {kind: lambda kind=kind: evaluator.evaluate(draw(kind, counts[kind])) for kind in counts}
    contestants["alone"] = lambda: [evaluator.evaluate(mask[None]) for mask in draw("neighbours", alone)]
    for batch in BATCHES[device]:  # its work is the same for every mask
        contestants[f"masked, {batch}"] = lambda batch=batch: masked(network, images, draw("random", few), batch)
    for kind in counts:
        contestants[f"pruned, {kind}"] = lambda kind=kind: pruned(network, images, draw(kind, few))
        contestants[f"plain, {kind}"] = lambda kind=kind: pruned(network, images, draw(kind, few), is_plain=True)
        contestants[f"repaired, {kind}"] = lambda kind=kind: repaired.evaluate(draw(kind, alone))
    seconds = interleaved(contestants, 2 if small else 5)

    what = f"{name}, {setting.valid:,} + {setting.calibration:,} images, {device}, {torch.get_num_threads()} threads"
    rows = []
    for kind, count in counts.items():
        rivals = {f"masked, {batch}": f"masked supernet, scored {batch} at a time" for batch in BATCHES[device]}
        rivals |= {f"pruned, {kind}": "smaller network (ours)", f"plain, {kind}": "smaller network, plainly written"}
        rivals |= {"alone": "ours, one mask at a time"} if kind == "neighbours" else {}
        rivals[f"repaired, {kind}"] = f"ours with repaired weights, {alone} at a time"
        for rival, name_of_rival in rivals.items():
            works = count, alone if rival.startswith(("alone", "repaired")) else few, "masks"
            rows.append(Row(f"{count} {NAMES[kind]}, {what}", name_of_rival, seconds[kind], seconds[rival], *works))
    return rows
