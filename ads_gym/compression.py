"""Model in, smaller model out: `sparsify` chooses connections, repairs and distils a trained DenseNet.

Its steps, each of which goes on from what the one before left in the run folder: `choose`, then `inherit`, `mend` and
`refine` (the stages "inherited", "repaired", "distilled"), then the test images, if there are any.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, InstanceOf
from torch import Tensor, nn

from ads_gym import __version__
from ads_gym.agents.registry import find_agent
from ads_gym.architecture import Architecture
from ads_gym.data.given import Given, Transform
from ads_gym.data.given_splits import GivenSplits, digest_of, read_splits
from ads_gym.data.images import ImageSet
from ads_gym.devices import resolve_device
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.repaired import RepairedEvaluator
from ads_gym.files import resolve
from ads_gym.limits import MAX_CLASSES, MAX_EVALUATIONS, MAX_STEPS
from ads_gym.nets.channels import reordered, sort_channels
from ads_gym.nets.cost import CostTable, architecture_cost, dense_cost
from ads_gym.nets.densenet import DenseNet, check_input, uninitialised
from ads_gym.nets.distil import distil as distil_network
from ads_gym.nets.from_torchvision import from_torchvision, unwrapped
from ads_gym.nets.pace import measure_pace
from ads_gym.nets.recipe import Distillation
from ads_gym.nets.repair import repair
from ads_gym.nets.residual import elimination_order, kept_within
from ads_gym.nets.scoring import Score, check_images, measure
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, calibrate
from ads_gym.problem import macs_within, problem_of
from ads_gym.records import Seed, checked, to_values
from ads_gym.runs.code_digest import source_digest
from ads_gym.runs.folder import circumstances, now
from ads_gym.runs.identity import code_parts
from ads_gym.runs.progress import duration
from ads_gym.runs.runner import find_best
from ads_gym.runs.sparsify_folder import BEST, Steps, opened_steps
from ads_gym.runs.sparsify_record import (
    Channels,
    Images,
    Measured,
    OnTest,
    Scores,
    Settings,
    SparsifyRecord,
    Stage,
    StageName,
)
from ads_gym.runs.step_lines import StepLines
from ads_gym.topology import BoolArray, Topology

CALIBRATION = 3_000  # images from which weights are solved, at most
LARGE = 64  # pixels; of larger images fewer are taken, and no masks are evaluated unless that is asked for
LARGE_CALIBRATION = 128
EVALUATIONS = 64
MULTIPLE = 8  # channels: so many a GPU, or a vector of a CPU, takes at once
SEARCHED = 0.1  # of the MACs that bottlenecks are to save, the share that a search tries to save by connections
CHUNK = 64  # images in one forward pass
BATCH = Distillation().batch_size


@dataclass(frozen=True, eq=False)
class Compressed:
    """What `sparsify` returns."""

    network: SparseDenseNet  # repaired and distilled, on the CPU, in eval mode
    architecture: Architecture
    record: SparsifyRecord  # settings, scores and sizes of every stage, test scores
    folder: Path | None  # where network, architecture and record are

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The dense network, and what the steps made."""
        return self.record.stages

    @property
    def measured(self) -> Measured:
        """Whether scores are accuracies, or agreements with the dense network."""
        return self.record.measured

    @property
    def relative_macs(self) -> float:
        """MACs / dense MACs."""
        return self.stages[-1].macs / self.stages[0].macs

    @property
    def parameters(self) -> int:
        """Of the network."""
        return self.stages[-1].parameters

    def __str__(self) -> str:
        first, last = self.stages[0], self.stages[-1]
        lines = [f"{self.relative_macs:.1%} of the MACs, {last.parameters:,} of {first.parameters:,} parameters"]
        lines += [f"{each.name:<10}{self.measured} {each.valid.accuracy:.4f}" for each in self.stages]
        return "\n".join([*lines, *self.notes()])

    def notes(self) -> list[str]:
        """What is to be known of the scores, in sentences."""
        images, test, told = self.record.images, self.record.test, []
        if test is not None:
            told.append(
                f"On the {test.images:,} test images, read once: {test.measured} {test.sparse.accuracy:.4f}, and "
                f"{test.dense.accuracy:.4f} of the dense network."
            )
        if images.divided:
            reads = "; accuracy reads too high if the model was trained on them" if self.measured == "accuracy" else ""
            told.append(f"The {images.valid:,} validation images are a quarter of the given ones{reads}.")
        return [*told, f"Weights were solved from {images.calibration:,} other images."]


@checked
def sparsify(  # noqa: PLR0913 - its keywords are its user interface
    model: InstanceOf[nn.Module],
    images: Any,
    labels: Any = None,
    *,
    max_macs: float = 0.7,
    evaluations: Annotated[int, Field(ge=0, le=MAX_EVALUATIONS)] | None = None,
    agent: Any = "local",
    distil: Annotated[int, Field(ge=0, le=MAX_STEPS)] = 300,
    valid: Any = None,
    test: Any = None,
    classes: Annotated[tuple[int, ...], Field(max_length=MAX_CLASSES)] | None = None,
    transform: Transform | None = None,
    device: str = "auto",
    seed: Seed = 0,
    run: Path | str | None = None,
    progress: bool = True,
) -> Compressed:
    """Make a trained DenseNet smaller: choose what to keep, solve the weights again, distil; labels are not needed.

    Skip connections are dropped: those that backward elimination by residuals drops, or better ones that an agent finds
    with `evaluations` of repaired networks. Layers with bottlenecks, as torchvision's, lose channels instead, for that
    is where their work is (see `ads_gym.nets.channels`); a search tries whether a tenth of it is better saved by
    connections. The model is neither changed nor moved: all is done with a copy in float32.

    With `run`, the same call after a kill goes on from the last step that ended; a run that is over is read from its
    folder. The order of the images does not matter for that, but a data set that changes them at random does.

    Args:
        model: `torchvision.models.densenet121` and its like, with one Linear that predicts one class of several; or a
            `DenseNet` of ours.
        images: that the model was not trained on: tensors, arrays, a data set, a loader, or a folder of images or class
            folders (see `ads_gym.data.given.read_given`); or a dict of such, "train", "valid" and "test".
        labels: int [n], the classes of `images`, where these are a tensor or array; None: those of the data set or
            folder, or the dense network's predictions stand for them.
        max_macs: limit on MACs / dense MACs.
        evaluations: of the search; 0: none. None: 64, and 0 for images of more than 64 pixels.
        agent: that searches: see `search`.
        distil: steps of distillation from the dense network; 0: none.
        valid: other images (and labels) on which networks are scored and chosen; None: a quarter of `images`.
        test: images (and labels) on which the dense and the final network are scored once, at the end.
        classes: which of the network's classes label 0 (the first class folder by name) is, and so on; None: the same.
        transform: makes a model's input of uint8 images [n, c, h, w], as `weights.transforms()` of torchvision's.
        device: "auto", "cpu", "cuda".
        seed: of everything that is drawn.
        run: a folder for the record (sparsify.json), the network (best.json, best.safetensors) and the search; None:
            nothing is kept.
        progress: whether to show progress on stderr.

    Raises:
        InvalidValue: another model, images that it does not read, a limit below what the chain needs, a folder of
            another run.
        NotFound, DamagedFile, StorageError: of files.
        DeviceUnavailable: this machine has no such device.
    """
    where, lines = resolve_device(device), StepLines(progress)
    subject = _subject(model, read_splits(images, labels, valid, test, transform, seed), classes, where)
    count = (0 if subject.is_large else EVALUATIONS) if evaluations is None else evaluations
    settings = Settings(max_macs, count, find_agent(agent).name if count else None, distil, seed, where.type)
    _limit(subject, max_macs)  # before anything is written
    folder = None if run is None else resolve(run)
    with opened_steps(folder, _record(subject, settings, agent, type(unwrapped(model)).__name__, folder)) as steps:
        if steps.record.ended is None:
            lines.say(f"{_told(steps.record)}: about {duration(_expected_seconds(subject, steps.record))} on {where}")
        _measure_dense(subject, steps, lines)
        architecture = steps.architecture()
        if architecture is None:
            began = time.perf_counter()
            lines.say(f"choosing {'channels' if subject.supernet.config.bottleneck else 'connections'}")
            architecture, channels = choose(subject, settings, agent, folder, progress)
            taken = time.perf_counter() - began
            steps.note(architecture=architecture.to_record(), channels=channels, choosing_seconds=taken)
        network = _make(architecture, subject.reordered(steps.record.channels), steps, lines)
        _read_test(network, subject, steps)
        if steps.record.ended is None:
            steps.note(ended=now())
        return Compressed(network.cpu(), architecture, steps.record, folder)


@dataclass(frozen=True, eq=False)
class Subject:
    """What is made smaller, and with which images."""

    supernet: DenseNet  # a copy of the caller's model, on the device
    calibration: Tensor  # images on the device, from which weights are solved
    valid: ImageSet  # on the device; labels, or what the dense network predicts
    test: ImageSet | None  # on the CPU
    measured: Measured  # on `valid`
    test_measured: Measured
    divided: bool  # whether `valid` is a quarter of what was given

    def reordered(self, channels: Channels | None) -> "Subject":
        """With the supernet's bottleneck channels in another order, which changes nothing."""
        return self if channels is None else replace(self, supernet=reordered(self.supernet, channels))

    @property
    def is_large(self) -> bool:
        """Whether images are so large that fewer are taken, and no masks are evaluated by default."""
        return max(self.calibration.shape[2:]) > LARGE

    @property
    def multiple(self) -> int:
        """Of which the numbers of channels in layers are."""
        return MULTIPLE if self.is_large else 1


def _subject(model: nn.Module, splits: GivenSplits, classes: Sequence[int] | None, device: torch.device) -> Subject:
    """Copy the model, and make the images ready for it.

    Raises:
        InvalidValue: a model or images that cannot be used.
    """
    supernet = from_torchvision(model, splits.image_size)
    config = supernet.config
    splits = splits.with_classes(classes, config.classes)
    check_input(splits.train.images, config)
    most = LARGE_CALIBRATION if max(splits.image_size) > LARGE else CALIBRATION
    calibration = splits.train.images[:most].to(device)
    if len(calibration) < 2:
        raise InvalidValue(f"weights are solved from at least two images, got {len(calibration)}: give more.")
    supernet.to(device)
    valid, measured = _labelled(supernet, splits.valid)
    test, test_measured = (None, measured) if splits.test is None else _labelled(supernet, splits.test)
    for each in (valid, test):
        if each is not None:
            check_images(each, config)
    return Subject(supernet, calibration, valid.to(device), test, measured, test_measured, splits.divided)


def _labelled(supernet: DenseNet, given: Given) -> tuple[ImageSet, Measured]:
    """Images with their labels, or with what the dense network takes them for; on the CPU."""
    if given.labels is not None:
        return ImageSet(given.images, given.labels), "accuracy"
    device = supernet.classifier.weight.device
    with torch.no_grad():
        parts = [supernet(part.to(device)).argmax(1) for part in torch.split(given.images, CHUNK)]
    return ImageSet(given.images, torch.cat(parts).cpu()), "agreement"


def _record(subject: Subject, settings: Settings, agent: Any, model: str, folder: Path | None) -> SparsifyRecord:
    """The record of a run that begins; what is not kept needs no digest of the code."""
    weights = [tensor.flatten().float() for tensor in subject.supernet.state_dict().values()]
    identity: dict[str, Any] = {
        "network": to_values(subject.supernet.config),
        "weights": digest_of(torch.cat(weights)),
        "images": digest_of(subject.calibration),
        "validation images": digest_of(subject.valid.images, subject.valid.labels),
        "limit on relative MACs": settings.max_macs,
        "evaluations": settings.evaluations,
        "steps of distillation": settings.distil,
        "seed": settings.seed,
        "device": settings.device,
        "ads-gym": __version__,
        "code": None if folder is None else source_digest(sparsify),
    }
    if settings.evaluations and folder is not None:
        identity |= code_parts("agent", find_agent(agent).make, agent, {})
    images = Images(
        len(subject.calibration),
        len(subject.valid),
        0 if subject.test is None else len(subject.test),
        subject.supernet.config.image_shape,
        subject.divided,
    )
    versions = circumstances() | {"torch": torch.__version__}
    return SparsifyRecord(identity, model, subject.supernet.config, settings, subject.measured, images, versions, now())


def choose(
    subject: Subject, settings: Settings, agent: Any, folder: Path | None, progress: bool
) -> tuple[Architecture, Channels | None]:
    """Choose what is kept within the limit: of skip connections or, with bottlenecks, of the channels in each layer.

    Args:
        subject: the dense network and its images.
        settings: the limit and the budget.
        agent: that searches, if there is a budget.
        folder: of the run; the search goes on in its folder "search". None: a temporary one.
        progress: whether the search shows progress.

    Returns:
        The architecture, and the order in which the supernet has its channels then (see `Subject.reordered`).
    """
    limit = _limit(subject, settings.max_macs)

    def search(supernet: DenseNet) -> BoolArray:
        return _search(supernet, subject, limit, settings, agent, folder, progress)

    if subject.supernet.config.bottleneck:
        return _choose_channels(subject, limit, settings, search if settings.evaluations else None)
    table, order = CostTable(subject.supernet.config), elimination_order(subject.supernet, subject.calibration)
    masks = [kept_within(order, table.connection_macs, limit - table.least_macs)]
    masks += [search(subject.supernet)] if settings.evaluations else []
    return _best([Architecture(subject.supernet.config, mask) for mask in masks], subject, settings), None


def _choose_channels(
    subject: Subject, limit: int, settings: Settings, search: Callable[[DenseNet], BoolArray] | None
) -> tuple[Architecture, Channels]:
    """The channels that elimination leaves; or some more, and without some skip connections that a search finds."""
    config = subject.supernet.config
    made, keep_all = (
        sort_channels(subject.supernet, subject.calibration, seed=settings.seed),
        Topology(config.blocks).dense(),
    )
    ready = subject.reordered(made.channels)
    found = [Architecture(made.narrowed(limit, subject.multiple), keep_all)]
    if search is not None:
        wider = made.narrowed(limit + int(SEARCHED * (dense_cost(config)[0] - limit)), subject.multiple)
        if CostTable(wider).least_macs <= limit:
            supernet = uninitialised(lambda device: DenseNet(wider, device)).to(subject.calibration.device)
            supernet.load_state_dict(_repaired(Architecture(wider, keep_all), ready, settings).state_dict())
            found.append(Architecture(wider, search(supernet.eval())))
    return _best(found, ready, settings), made.channels


def _best(found: Sequence[Architecture], subject: Subject, settings: Settings) -> Architecture:
    """The one with the least loss on the validation images, repaired."""
    if len(found) == 1:
        return found[0]
    return min(found, key=lambda each: measure(_repaired(each, subject, settings), subject.valid, CHUNK).loss)


def _repaired(architecture: Architecture, subject: Subject, settings: Settings) -> SparseDenseNet:
    network = build_sparse(architecture, subject.supernet)
    repair(network, subject.supernet, subject.calibration, seed=settings.seed)
    return network


def _search(
    supernet: DenseNet,
    subject: Subject,
    limit: int,
    settings: Settings,
    agent: Any,
    folder: Path | None,
    progress: bool,
) -> BoolArray:
    """The mask of a supernet's skip connections, within a limit on MACs, that an agent finds by repaired loss."""
    device = str(subject.calibration.device)
    evaluator = RepairedEvaluator(supernet, _unlabelled(subject.calibration), subject.valid, device=device)
    problem = problem_of(evaluator, "loss", limit / dense_cost(supernet.config)[0])
    with ExitStack() as stack:
        stack.callback(problem.close)
        place = stack.enter_context(tempfile.TemporaryDirectory()) if folder is None else folder
        run = Path(place) / "search"
        return find_best(problem, agent, settings.evaluations, run, seed=settings.seed, progress=progress)


def _limit(subject: Subject, max_macs: Any) -> int:
    """The most MACs of the result.

    Raises:
        InvalidValue: no number, or less than the smallest network needs.
    """
    table = CostTable(subject.supernet.config)
    if not subject.supernet.config.bottleneck:
        return macs_within(max_macs, table.dense_macs, table.least_macs, "only the chain")
    config = subject.supernet.config
    widths = [min(width, subject.multiple) for block in config.bottleneck_channels for width in block]
    least, _ = dense_cost(replace(config, widths=tuple(widths)))
    return macs_within(max_macs, table.dense_macs, least, f"channels in each layer: {subject.multiple}")


def inherit(network: SparseDenseNet, subject: Subject, settings: Settings, lines: StepLines) -> None:
    """Re-estimate the BatchNorm statistics of a network with the dense network's weights."""
    calibrate(network, subject.calibration)


def mend(network: SparseDenseNet, subject: Subject, settings: Settings, lines: StepLines) -> None:
    """Solve a network's weights again."""
    repair(network, subject.supernet, subject.calibration, seed=settings.seed)


def refine(network: SparseDenseNet, subject: Subject, settings: Settings, lines: StepLines) -> None:
    """Distil a network from the dense one."""
    recipe = Distillation(settings.distil, seed=settings.seed)
    with lines.long("distilling") as step:
        distil_network(
            network,
            subject.supernet,
            subject.calibration,
            recipe,
            lambda done, loss: step.update(done, recipe.steps, loss),
        )


Step = Callable[[SparseDenseNet, Subject, Settings, StepLines], None]  # changes the network
STEPS: Mapping[StageName, Step] = {"inherited": inherit, "repaired": mend, "distilled": refine}


def _measure_dense(subject: Subject, steps: Steps, lines: StepLines) -> None:
    """Score the dense network, unless that is done."""
    if steps.record.stage("dense") is None:
        table = CostTable(subject.supernet.config)
        began = time.perf_counter()
        score = measure(subject.supernet, subject.valid, CHUNK)
        stage = Stage("dense", _scores(score), time.perf_counter() - began, table.dense_macs, table.dense_parameters)
        steps.add(stage)
        _say(stage, subject, lines)


def _make(architecture: Architecture, subject: Subject, steps: Steps, lines: StepLines) -> SparseDenseNet:
    """The final network, from the last one that is there already."""
    settings = steps.record.settings
    names = [name for name in STEPS if name != "distilled" or settings.distil]
    files = {name: name for name in names[:-1]} | {names[-1]: BEST}
    device = subject.calibration.device
    network, first = build_sparse(architecture, subject.supernet), 0
    for number, name in enumerate(names):
        if name != "inherited" and (kept := steps.network(name, files[name])) is not None:
            network, first = kept.to(device), number + 1
    macs, parameters = architecture_cost(architecture)
    for name in names[first:]:
        began = time.perf_counter()
        STEPS[name](network, subject, settings, lines)
        seconds = time.perf_counter() - began
        stage = Stage(name, _scores(measure(network, subject.valid, CHUNK)), seconds, macs, parameters)
        steps.add(stage, None if name == "inherited" else network, files[name])
        _say(stage, subject, lines)
    if names[-1] != "repaired" and "repaired.json" in steps.record.files:
        steps.forget("repaired")
    return network.eval()


def _read_test(network: SparseDenseNet, subject: Subject, steps: Steps) -> None:
    """Score the dense and the final network on the test images, unless that is done."""
    if subject.test is None:
        return
    digest = digest_of(subject.test.images, subject.test.labels)
    known = steps.record.test
    if known is None or known.digest != digest:
        dense, sparse = (_scores(measure(each, subject.test, CHUNK)) for each in (subject.supernet, network))
        steps.note(test=OnTest(len(subject.test), digest, subject.test_measured, dense, sparse))


def _expected_seconds(subject: Subject, record: SparsifyRecord) -> float:
    """A rough guess of what is still to do."""
    pace, count = measure_pace(subject.supernet, subject.calibration), len(subject.calibration)
    scoring = len(subject.valid) * pace.image
    left = 0.0 if subject.test is None else 2 * len(subject.test) * pace.image
    if record.architecture is None:
        left += pace.choosing(count) + record.settings.evaluations * (scoring + pace.repairing(count) / 2)
    if record.stage("repaired") is None:
        left += pace.repairing(count) + 3 * scoring
    return left + pace.distilling(record.settings.distil, min(count, BATCH)) + scoring


def _told(record: SparsifyRecord) -> str:
    """Where a run is, for its first line."""
    images = f"{record.model}, {record.images.calibration:,} + {record.images.valid:,} images"
    if record.stages:
        return f"going on after {record.stages[-1].name if record.architecture else 'dense'}, {images}"
    return images


def _say(stage: Stage, subject: Subject, lines: StepLines) -> None:
    lines.say(
        f"{stage.name:<10}{subject.measured} {stage.valid.accuracy:.4f}  loss {stage.valid.loss:.4f}  "
        f"{stage.macs:,} MACs  {duration(stage.seconds)}"
    )


def _scores(score: Score) -> Scores:
    return Scores(*score)


def _unlabelled(images: Tensor) -> ImageSet:
    """Calibration images as an evaluator takes them; their labels are not used."""
    return ImageSet(images, torch.zeros(len(images), dtype=torch.int64, device=images.device))
