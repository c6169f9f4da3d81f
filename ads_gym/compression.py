"""Model in, smaller model out: `sparsify` chooses connections, repairs and distils a trained DenseNet."""

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, InstanceOf
from torch import Tensor, nn

from ads_gym.architecture import Architecture
from ads_gym.data.given import Transform, read_images
from ads_gym.data.images import ImageSet
from ads_gym.devices import resolve_device
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.repaired import RepairedEvaluator
from ads_gym.limits import MAX_EVALUATIONS, MAX_STEPS
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet, check_input
from ads_gym.nets.distil import distil as distil_network
from ads_gym.nets.from_torchvision import from_torchvision
from ads_gym.nets.recipe import Distillation
from ads_gym.nets.repair import repair
from ads_gym.nets.residual import elimination_order, kept_within
from ads_gym.nets.scoring import Score, check_images, measure
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, calibrate, save
from ads_gym.problem import macs_limit
from ads_gym.records import Seed, checked
from ads_gym.runs.runner import search
from ads_gym.topology import BoolArray

CALIBRATION = 3_000  # images from which weights are solved, at most
LARGE = 64  # pixels; of larger images fewer are taken, and no masks are evaluated unless that is asked for
LARGE_CALIBRATION = 128
EVALUATIONS = 64


@dataclass(frozen=True)
class Stage:
    """A network on the way from the dense one to the result."""

    name: str  # "dense", "inherited", "repaired", "distilled"
    score: Score  # on the validation images
    seconds: float  # that it took


@dataclass(frozen=True, eq=False)
class Compressed:
    """What `sparsify` returns."""

    network: SparseDenseNet  # repaired and distilled, on the CPU, in eval mode
    architecture: Architecture
    stages: tuple[Stage, ...]
    measured: Literal["accuracy", "agreement"]  # with the labels, or with the dense network's predictions
    calibration: int  # images from which weights were solved
    valid: int  # images on which stages were scored
    relative_macs: float  # MACs / dense MACs
    parameters: int
    dense_parameters: int
    folder: Path | None  # where network and architecture are

    def __str__(self) -> str:
        lines = [f"{self.relative_macs:.1%} of the MACs, {self.parameters:,} of {self.dense_parameters:,} parameters"]
        lines += [f"{each.name:<10}{self.measured} {each.score.accuracy:.4f}" for each in self.stages]
        return "\n".join([*lines, f"({self.valid} validation images, {self.calibration} for repair)"])


@checked
def sparsify(  # noqa: PLR0913 - its keywords are its user interface
    model: InstanceOf[nn.Module],
    images: Any,
    labels: Any = None,
    *,
    valid: Any = None,
    transform: Transform | None = None,
    max_macs: float = 0.7,
    evaluations: Annotated[int, Field(ge=0, le=MAX_EVALUATIONS)] | None = None,
    agent: Any = "local",
    distil: Annotated[int, Field(ge=0, le=MAX_STEPS)] = 300,
    device: str = "auto",
    seed: Seed = 0,
    run: Path | str | None = None,
    progress: bool = True,
) -> Compressed:
    """Make a trained DenseNet smaller: choose connections, solve the weights again, distil; labels are not needed.

    Connections are those that backward elimination by residuals leaves, or better ones that an agent finds with
    `evaluations` of repaired networks. The model is not changed.

    Args:
        model: `torchvision.models.densenet121` and its like, with any head of one Linear; or a `DenseNet` of ours.
        images: that the model was not trained on, see `ads_gym.data.given.read_images`.
        labels: int [n], their classes; None: the dense network's predictions stand for them.
        valid: other images (and labels) on which networks are scored and chosen; None: a quarter of `images`.
        transform: makes a model's input of uint8 images.
        max_macs: limit on MACs / dense MACs.
        evaluations: of the search; 0: none. None: 64, and 0 for images of more than 64 pixels.
        agent: that searches: see `search`.
        distil: steps of distillation from the dense network; 0: none.
        device: "auto", "cpu", "cuda".
        seed: of everything that is drawn.
        run: a folder for the network (best.json, best.safetensors) and the search; None: nothing is kept.
        progress: whether a search shows progress on stderr.

    Raises:
        InvalidValue: another model, images that it does not read, a limit below what the chain needs.
        DeviceUnavailable: this machine has no such device.
    """
    where = resolve_device(device)
    read, known = read_images(images if labels is None else (images, labels), transform, seed=seed)
    supernet = from_torchvision(model, (read.shape[2], read.shape[3])).to(where)
    check_input(read, supernet.config)
    is_large = max(read.shape[2:]) > LARGE
    if valid is None:
        train, held_out = _split(read, known, seed)
    else:
        train, held_out = (read, known), read_images(valid, transform, seed=seed)
    calibration = train[0][: LARGE_CALIBRATION if is_large else CALIBRATION]
    if len(calibration) < 2:
        raise InvalidValue(f"weights are solved from at least two images, got {len(calibration)}: give more.")
    table = CostTable(supernet.config)
    limit = macs_limit(table, max_macs)
    assert limit is not None
    check_input(held_out[0], supernet.config)
    scored, measured = _validation(supernet, *held_out, where)
    check_images(scored, supernet.config)
    stages: list[Stage] = []

    def stage(name: str, make: Callable[[], nn.Module]) -> nn.Module:
        began = time.perf_counter()
        network = make()
        stages.append(Stage(name, measure(network, scored, 64), time.perf_counter() - began))
        return network

    inputs = calibration.to(where)
    stage("dense", lambda: supernet)
    mask = kept_within(elimination_order(supernet, inputs), table.connection_macs, limit - table.least_macs)
    evaluations = (0 if is_large else EVALUATIONS) if evaluations is None else evaluations
    folder = None if run is None else Path(run)
    if evaluations:
        evaluator = RepairedEvaluator(supernet, _with_labels(calibration), scored, device=str(where))
        mask = _search(evaluator, mask, agent, evaluations, max_macs, seed, folder, progress)
        evaluator.close()
    architecture = Architecture(supernet.config, mask)
    network = build_sparse(architecture, supernet)
    stage("inherited", lambda: calibrate(network, inputs))

    def repaired() -> nn.Module:
        repair(network, supernet, inputs, seed=seed)
        return network

    def distilled() -> nn.Module:
        distil_network(network, supernet, inputs, Distillation(distil, seed=seed))
        return network

    stage("repaired", repaired)
    if distil:
        stage("distilled", distilled)
    network.cpu()
    if folder is not None:
        save(network, folder / "best")
    return Compressed(
        network,
        architecture,
        tuple(stages),
        measured,
        len(calibration),
        len(scored),
        float(table.macs(mask)) / table.dense_macs,
        int(table.parameters(mask)),
        table.dense_parameters,
        folder,
    )


def _split(images: Tensor, labels: Tensor | None, seed: int) -> tuple[tuple[Tensor, Tensor | None], ...]:
    """Three quarters and one quarter of the images and labels, at random."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    count = max(1, len(images) // 4)
    return tuple((images[part], None if labels is None else labels[part]) for part in (order[count:], order[:count]))


def _validation(
    supernet: DenseNet, images: Tensor, labels: Tensor | None, device: torch.device
) -> tuple[ImageSet, Literal["accuracy", "agreement"]]:
    """The images on which networks are scored, with their labels, or with what the dense network takes them for."""
    if labels is not None:
        return ImageSet(images, labels).to(device), "accuracy"
    with torch.no_grad():
        predicted = torch.cat([supernet(part.to(device)).argmax(1) for part in torch.split(images, 64)])
    return ImageSet(images.to(device), predicted), "agreement"


def _with_labels(images: Tensor) -> ImageSet:
    """Calibration images as an evaluator takes them; their labels are not used."""
    return ImageSet(images, torch.zeros(len(images), dtype=torch.int64))


def _search(
    evaluator: RepairedEvaluator,
    mask: BoolArray,
    agent: Any,
    evaluations: int,
    max_macs: float,
    seed: int,
    folder: Path | None,
    progress: bool,
) -> BoolArray:
    """The mask with less loss: that one, or the best that an agent finds."""
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory()) if folder is None else folder
        settings: Mapping[str, Any] = {"reward": "loss", "cost_weight": 0.0, "max_macs": max_macs, "progress": progress}
        found = search(
            "digits", agent, evaluations, seed=seed, run=Path(place) / "search", evaluator=evaluator, **settings
        )
        losses = [each.loss for each in evaluator.evaluate(np.stack([mask, found.architecture.mask]))]
    return mask if losses[0] <= losses[1] else found.architecture.mask
