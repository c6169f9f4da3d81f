"""Model in, smaller model out: `sparsify` chooses what a trained DenseNet keeps, repairs it and distils it.

Its steps, each of which goes on from what the one before left in the run folder: `choose`, then `inherit`, `mend` and
`refine` (the stages "inherited", "repaired", "distilled"), then the test images, if there are any.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, InstanceOf
from torch import nn

from ads_gym import __version__
from ads_gym.agents.registry import find_agent
from ads_gym.architecture import Architecture
from ads_gym.compression.choosing import RANDOM_MASKS, choose, macs_range
from ads_gym.compression.subject import CHUNK, Subject, make_subject
from ads_gym.data.given import Transform
from ads_gym.data.given_splits import digest_of, read_splits
from ads_gym.devices import resolve_device
from ads_gym.errors import InvalidValue
from ads_gym.files import exists, resolve
from ads_gym.limits import MAX_CLASSES, MAX_EVALUATIONS, MAX_STEPS
from ads_gym.nets.cost import CostTable, architecture_cost
from ads_gym.nets.distil import distil as distil_network
from ads_gym.nets.from_torchvision import unwrapped
from ads_gym.nets.pace import measure_pace
from ads_gym.nets.recipe import Distillation
from ads_gym.nets.repair import repair
from ads_gym.nets.scoring import Score, measure
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, calibrate
from ads_gym.records import Seed, checked, to_values
from ads_gym.runs.code_digest import source_digest
from ads_gym.runs.folder import circumstances, now
from ads_gym.runs.html_report import NAME as REPORT
from ads_gym.runs.html_report import write_report
from ads_gym.runs.identity import code_parts
from ads_gym.runs.progress import duration
from ads_gym.runs.sparsify_folder import BEST, Steps, opened_steps
from ads_gym.runs.sparsify_record import (
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
from ads_gym.torch_state import give_memory_back

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
        if self.record.latency is not None:
            told.append(f"One image takes {self.record.latency:.0%} of the time that the dense network takes here.")
        if test is not None:
            told.append(
                f"On the {test.images:,} test images, read once: {test.measured} {test.sparse.accuracy:.4f}, and "
                f"{test.dense.accuracy:.4f} of the dense network."
            )
        if images.divided:
            reads = "; accuracy reads too high if the model was trained on them" if self.measured == "accuracy" else ""
            told.append(f"The {images.valid:,} validation images are a quarter of the given ones{reads}.")
        if self.record.settings.evaluations and not self.record.compared:
            told.append("There was no search: dropping connections alone cannot meet the limit.")
        if self.record.rejected is not None:
            told.append(self.record.why_rejected)
        return [*told, f"Weights were solved from {images.calibration:,} other images."]


@checked
def sparsify(  # noqa: PLR0913 - its keywords are its user interface
    model: InstanceOf[nn.Module],
    images: Any,
    labels: Any = None,
    *,
    max_macs: float = 0.7,
    max_latency: Annotated[float, Field(gt=0)] | None = None,
    evaluations: Annotated[int, Field(ge=0, le=MAX_EVALUATIONS)] = 0,
    agent: Any = "local",
    distil: Annotated[int, Field(ge=0, le=MAX_STEPS)] | None = None,
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

    Each layer reads fewer channels of those before it, and layers with bottlenecks, as torchvision's, become narrower:
    those channels go, by backward elimination, that the others make up for (see `ads_gym.nets.channels`). With
    `evaluations`, an agent also searches for whole connections to drop, and the better of both is taken: of a network
    without bottlenecks all that the limit asks for, of others a tenth. The model is neither changed nor moved: all is
    done with a copy in float32.

    With `run`, the same call after a kill goes on from the last step that ended; a run that is over is read from its
    folder. The order of the images does not matter for that, but a data set that changes them at random does.

    Args:
        model: `torchvision.models.densenet121` and its like, with one Linear that predicts one class of several; or a
            `DenseNet` of ours.
        images: that the model was not trained on: tensors, arrays, a data set, a loader, or a folder of images or class
            folders (see `ads_gym.data.given.read_given`); or a dict of such, "train", "valid" and "test". Of data sets
            and folders 10,000 images are read at most, drawn at random, of loaders the first 10,000; 1 GiB at most.
            Weights are solved from 3,000 of them at most, or 128 of more than 64 pixels.
        labels: int [n], the classes of `images`, where these are a tensor or array; None: those of the data set or
            folder, or the dense network's predictions stand for them.
        max_macs: limit on MACs / dense MACs.
        max_latency: limit on the time of one image / that of the dense network, both folded, measured on `device`;
            fewer MACs are kept if that takes it, and nothing is searched. None: none.
        evaluations: of a search, repaired networks; 0: there is none.
        agent: that searches: see `search`.
        distil: steps of distillation from the dense network, which is kept if it lowers the loss on the validation
            images; 0: none. None: 1000, and 0 for images of more than 64 pixels on a CPU, where each step takes as long
            as many of a small network.
        valid: other images (and labels) on which networks are scored and chosen; None: a quarter of `images`.
        test: images (and labels) on which the dense and the final network are scored once, at the end.
        classes: which of the network's classes label 0 (the first class folder by name) is, and so on; None: the same.
        transform: makes a model's input of uint8 images [n, c, h, w], as `weights.transforms()` of torchvision's.
        device: "auto", "cpu", "cuda".
        seed: of everything that is drawn.
        run: a folder for the record (sparsify.json), the network (best.json, best.safetensors), the search and a page
            about all of it (report.html); None: nothing is kept.
        progress: whether to show progress on stderr.

    Raises:
        InvalidValue: another model, images that it does not read, limits below what the smallest network needs, a
            folder of another run.
        NotFound, DamagedFile, StorageError: of files.
        DeviceUnavailable: this machine has no such device.
    """
    where, lines = resolve_device(device), StepLines(progress)
    subject = make_subject(model, read_splits(images, labels, valid, test, transform, seed), classes, where)
    if evaluations and max_latency is not None:
        raise InvalidValue("a search scores networks without timing them: give evaluations or max_latency.")
    if distil is None:
        distil = 0 if subject.is_large and where.type == "cpu" else Distillation().steps
    by = find_agent(agent).name if evaluations else None
    settings = Settings(max_macs, evaluations, by, distil, seed, where.type, max_latency)
    macs_range(subject, max_macs)  # before anything is written
    folder = None if run is None else resolve(run)
    with opened_steps(folder, _record(subject, settings, agent, type(unwrapped(model)).__name__, folder)) as steps:
        if steps.record.ended is None:
            lines.say(f"{_told(steps.record)}: about {duration(_expected_seconds(subject, steps.record))} on {where}")
        _measure_dense(subject, steps, lines)
        architecture = steps.architecture()
        if architecture is None:
            began = time.perf_counter()
            chosen = choose(subject, settings, agent, folder, lines)
            give_memory_back()
            architecture, taken = chosen.architecture, time.perf_counter() - began
            known = chosen._asdict() | {"architecture": architecture.to_record(), "choosing_seconds": taken}
            steps.note(**known)
        with steps.naming():
            ready = subject.reordered(steps.record.channels)
        network = _make(architecture, ready, steps, lines)
        _read_test(network, subject, steps)
        if steps.record.ended is None:
            steps.note(ended=now())
    if folder is not None and not exists(folder / REPORT):
        write_report(folder, batches=(1,), device=where.type, progress=progress)
    return Compressed(network.cpu(), architecture, steps.record, folder)


def _record(subject: Subject, settings: Settings, agent: Any, model: str, folder: Path | None) -> SparsifyRecord:
    """The record of a run that begins; what is not kept needs no digest of the code."""
    weights = [tensor.flatten().float() for tensor in subject.supernet.state_dict().values()]
    identity: dict[str, Any] = {
        "network": to_values(subject.supernet.config),
        "weights": digest_of(torch.cat(weights)),
        "images": digest_of(subject.calibration),
        "validation images": digest_of(subject.valid.images, subject.valid.labels),
        "limit on relative MACs": settings.max_macs,
        "limit on relative latency": settings.max_latency,
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


def inherit(network: SparseDenseNet, subject: Subject, settings: Settings, lines: StepLines) -> None:
    """Re-estimate the BatchNorm statistics of a network with the dense network's weights."""
    calibrate(network, subject.calibration)


def mend(network: SparseDenseNet, subject: Subject, settings: Settings, lines: StepLines) -> None:
    """Solve a network's weights again."""
    with lines.long("repairing", "layers") as step:
        repair(network, subject.supernet, subject.calibration, seed=settings.seed, progress=step.update)


def refine(network: SparseDenseNet, subject: Subject, settings: Settings, lines: StepLines) -> None:
    """Distil a network from the dense one."""
    recipe = Distillation(settings.distil, seed=settings.seed)
    with lines.long("distilling", "steps") as step:
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
    """The final network, from the last one that is there already: of the repaired and the distilled one the better."""
    settings = steps.record.settings
    distils = settings.distil and steps.record.rejected is None
    names = [name for name in STEPS if name != "distilled" or distils]
    files = {name: name for name in names[:-1]} | {names[-1]: BEST}
    device = subject.calibration.device
    network, first = build_sparse(architecture, subject.supernet), 0
    for number, name in enumerate(names):
        if name != "inherited" and (kept := steps.network(name, files[name])) is not None:
            network, first = kept.to(device), number + 1
    macs, parameters = architecture_cost(architecture)
    for name in names[first:]:
        before, began = copy.deepcopy(network) if name == "distilled" else network, time.perf_counter()
        STEPS[name](network, subject, settings, lines)
        seconds = time.perf_counter() - began
        stage = Stage(name, _scores(measure(network, subject.valid, CHUNK)), seconds, macs, parameters)
        _say(stage, subject, lines)
        repaired = steps.record.stage("repaired")
        if name == "distilled" and repaired is not None and stage.valid.loss >= repaired.valid.loss:
            network = before
            steps.reject(stage, network)
            lines.say("no better: the repaired network is kept")
        else:
            steps.add(stage, None if name == "inherited" else network, files[name])
    if settings.distil and "repaired.json" in steps.record.files:
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
        evaluations = record.settings.evaluations and record.settings.evaluations + RANDOM_MASKS
        left += pace.choosing(count) + evaluations * (scoring + pace.repairing(count) / 2)
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
