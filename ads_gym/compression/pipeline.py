"""What `sparsify` does: it chooses what a trained DenseNet keeps, repairs that and distils it.

Its steps, each of which goes on from what the one before left in the run folder: `choose`, then `inherit`, `mend` and
`refine` (the stages "inherited", "repaired", "distilled"), then the test images, if there are any.
"""

import copy
import ctypes
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ads_gym import __version__
from ads_gym.agents.registry import find_agent
from ads_gym.architecture import Architecture
from ads_gym.compression.choosing import RANDOM_MASKS, choose
from ads_gym.compression.subject import CHUNK, Subject
from ads_gym.data.given_splits import digest_of
from ads_gym.nets.cost import CostTable, architecture_cost
from ads_gym.nets.distil import distil as distil_network
from ads_gym.nets.pace import measure_pace
from ads_gym.nets.recipe import Distillation
from ads_gym.nets.repair import repair
from ads_gym.nets.scoring import Score, measure
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, calibrate
from ads_gym.records import to_values
from ads_gym.runs.code_digest import source_digest
from ads_gym.runs.folder import circumstances, now
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

BATCH = Distillation().batch_size


@dataclass(frozen=True, eq=False)
class Compressed:
    """What `sparsify` returns."""

    network: SparseDenseNet  # repaired and distilled, on the CPU, in eval mode
    architecture: Architecture
    record: SparsifyRecord  # settings, scores and sizes of every stage, test scores
    folder: Path | None  # where network, architecture, record and report are

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


def compress(
    subject: Subject, settings: Settings, agent: Any, model: str, folder: Path | None, lines: StepLines
) -> Compressed:
    """Do the steps that are not done yet.

    Args:
        subject: the dense network and its images.
        settings: limits, budget, seed.
        agent: that searches, if there is a budget.
        model: class of the caller's model.
        folder: of the run; None: nothing is kept.
        lines: show progress.

    Raises:
        InvalidValue: a folder of another run, or a limit that cannot be met.
        NotFound, DamagedFile, StorageError: of files.
    """
    with opened_steps(folder, _record(subject, settings, agent, model, folder)) as steps:
        if steps.record.ended is None:
            left = duration(_expected_seconds(subject, steps.record))
            lines.say(f"{_told(steps.record)}: about {left} on {subject.calibration.device}")
        _measure_dense(subject, steps, lines)
        architecture = steps.architecture()
        if architecture is None:
            began = time.perf_counter()
            chosen = choose(subject, settings, agent, folder, lines)
            _give_memory_back()
            architecture, taken = chosen.architecture, time.perf_counter() - began
            known = chosen._asdict() | {"architecture": architecture.to_record(), "choosing_seconds": taken}
            steps.note(**known)
        with steps.naming():
            ready = subject.reordered(steps.record.channels)
        network = _make(architecture, ready, steps, lines)
        _read_test(network, subject, steps)
        if steps.record.ended is None:
            steps.note(ended=now())
        return Compressed(network.cpu(), architecture, steps.record, folder)


def _give_memory_back() -> None:
    """Give freed memory back to the system: of many matrices of some MB, glibc keeps what they took."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


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
        "code": None if folder is None else source_digest(compress),
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
        repaired = steps.record.stage("repaired")
        if name == "distilled" and repaired is not None and stage.valid.loss >= repaired.valid.loss:
            network = before
            steps.reject(stage, network)
            _say(stage, subject, lines)
            lines.say("no better: the repaired network is kept")
        else:
            steps.add(stage, None if name == "inherited" else network, files[name])
            _say(stage, subject, lines)
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
