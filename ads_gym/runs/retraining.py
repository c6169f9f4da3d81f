"""Retraining: the network that a search found and the dense one, by one recipe; TEST is read once for each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import numpy as np
import torch
from pydantic import FailFast, Field

from ads_gym.architecture import Architecture, ArchitectureRecord
from ads_gym.data.splits import Split
from ads_gym.devices import resolve_device
from ads_gym.errors import DamagedFile, InvalidValue, NotFound
from ads_gym.evaluators.base import provenance
from ads_gym.files import digest as files_digest
from ads_gym.files import exists, is_file, locked, make_folder, resolve
from ads_gym.limits import MAX_EPOCHS, MAX_SEEDS, MAX_TENSORS_BYTES
from ads_gym.nets.cost import architecture_cost, check_training_memory, relative_macs
from ads_gym.nets.scoring import Score, measure
from ads_gym.nets.sparse import SparseDenseNet, load, save
from ads_gym.nets.training import Recipe, fit, settings_digest
from ads_gym.records import Count, Format, Number, Seed, Text, checked, record
from ads_gym.runs.folder import RunFolder, load_task_of
from ads_gym.tasks import SupernetTask

Network = Literal["sparse", "dense"]
NETWORKS: tuple[Network, ...] = get_args(Network)
Watcher = Callable[[str, int, float], None]  # which network, epochs done, loss of the last epoch in nats


@record
class Retrained:
    """One network, trained, and what it scores."""

    network: Network
    seed: Seed
    parameters: Count
    relative_macs: Number
    valid: Score
    test: Score | None  # None until it is read, at the end


@record
class Sources:
    """What the networks of one retraining are computed from: its folder belongs to these."""

    recipe: Recipe
    architecture: ArchitectureRecord
    data: Annotated[tuple[Text, ...], Field(max_length=len(Split)), FailFast()]  # a digest for each split
    weights: Text | None  # those that are inherited: "repaired", and the supernet's digest


@record
class Report:
    """What report.json holds."""

    sources: Sources
    test_reads: Count
    networks: Annotated[tuple[Retrained, ...], Field(max_length=2 * MAX_SEEDS), FailFast()]


REPORT = Format("ads-gym retraining", 2, "report of a retraining", Report)


@dataclass(frozen=True)
class Summary:
    """One kind of network over its seeds: means and sample standard deviations (0 for one seed)."""

    network: str
    seeds: int
    parameters: int
    relative_macs: float
    valid_accuracy: float
    test_accuracy: float
    test_accuracy_sd: float
    test_loss: float  # nats
    test_loss_sd: float


@dataclass(frozen=True)
class RetrainReport:
    """All networks of one retraining, and where they are."""

    folder: Path
    recipe: Recipe
    networks: tuple[Retrained, ...]
    test_reads: int  # how often TEST was read, ever: once for each network

    def summaries(self) -> list[Summary]:
        """One for each kind of network: sparse, then dense."""
        return [_summary(name, [n for n in self.networks if n.network == name]) for name in NETWORKS]


@checked
def retrain(
    run: Path | str,
    *,
    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = 40,
    seeds: Annotated[int, Field(ge=1, le=MAX_SEEDS)] = 3,
    inherit: bool = False,
    device: str = "auto",
    data_root: Path | str | None = None,
    watch: Watcher | None = None,
) -> RetrainReport:
    """Train the best architecture of a run and the dense network by the same recipe, `seeds` times each.

    Networks and `report.json` go to a folder of the run that belongs to recipe, architecture, images and (inherited)
    weights. What is there already is not done again, so a killed call goes on, and more seeds extend it. TEST is read
    once for each network, after all are trained; a second call shows the stored reading.

    Args:
        run: the folder of a search on a task with data.
        epochs: passes over TRAIN.
        seeds: networks of each kind, at least 1.
        inherit: start from the supernet's weights, repaired, at a fifth of the learning rate, instead of from scratch.
        device: see `resolve_device`.
        data_root: where named data sets lie.
        watch: called after every epoch.

    Raises:
        AdsGymError: no such run, settings out of range, files that cannot be used, another process that is at it.
    """
    run = resolve(run)
    task, found = _read_run(run, data_root, inherit)
    job = _Retraining.of(run, task, found, _recipe(task, epochs, inherit), inherit, resolve_device(device))
    job.read()
    if not job.is_done(seeds):
        check_training_memory(task.config, job.recipe)
        make_folder(job.folder)
        with locked(job.folder, "retraining"):
            job.read()  # another process may have ended just now
            job.train(seeds, watch)
            job.read_test()
    chosen = tuple(job.networks[name, seed] for name in NETWORKS for seed in range(seeds))
    return RetrainReport(job.folder, job.recipe, chosen, _reads(job.networks))


@dataclass
class _Retraining:
    """What is trained, of what, and what is there already."""

    task: SupernetTask
    architectures: Mapping[Network, Architecture]  # sparse and dense
    recipe: Recipe
    inherit: bool
    device: torch.device
    folder: Path
    sources: Sources
    networks: dict[tuple[Network, int], Retrained] = field(default_factory=dict)  # by name and seed

    @classmethod
    def of(
        cls, run: Path, task: SupernetTask, found: Architecture, recipe: Recipe, inherit: bool, device: torch.device
    ) -> Self:
        """The retraining of what a run found; nothing is read of its folder yet."""
        weights = files_digest(task.files.weights, "weights file", MAX_TENSORS_BYTES)
        digests = tuple(task.images(split).digest for split in Split)
        sources = Sources(recipe, found.to_record(), digests, f"repaired {weights}" if inherit else None)
        folder = run / f"retrain-{'inherit' if inherit else 'scratch'}-{settings_digest(sources)}"
        return cls(task, {"sparse": found, "dense": found.dense}, recipe, inherit, device, folder, sources)

    @property
    def report(self) -> Path:
        """Where the scores are."""
        return self.folder / "report.json"

    def read(self) -> None:
        """Read what earlier calls left."""
        self.networks = {}
        if exists(self.report):
            report = REPORT.read(self.report)
            if report.sources != self.sources:
                raise DamagedFile(
                    f"{self.report} is of another retraining than its folder: move it away to train anew."
                )
            self.networks = {(entry.network, entry.seed): entry for entry in report.networks}

    def write(self) -> None:
        """Write the report."""
        REPORT.write(self.report, Report(self.sources, _reads(self.networks), tuple(self.networks.values())))

    def is_done(self, seeds: int) -> bool:
        """Whether all networks are trained and have their TEST scores."""
        asked = {(name, seed) for name in NETWORKS for seed in range(seeds)}
        return asked <= set(self.networks) and _reads(self.networks) == len(self.networks)

    def train(self, seeds: int, watch: Watcher | None) -> None:
        """Train, score on VALID and save each network that is not there yet."""
        for seed in range(seeds):
            for name, architecture in self.architectures.items():
                if (name, seed) not in self.networks:
                    path = self.folder / f"{name}-s{seed}"
                    network = self._train(architecture, seed, path, watch)
                    valid = measure(network, self.task.images(Split.VALID))
                    self.networks[name, seed] = _entry(name, seed, architecture, valid)
                    save(network, path)
                    self.write()
                    _checkpoint(path).unlink(missing_ok=True)

    def read_test(self) -> None:
        """Score each network on TEST that was not yet."""
        for (name, seed), entry in self.networks.items():
            if entry.test is None:
                network = load(self.folder / f"{name}-s{seed}").to(self.device)
                self.networks[name, seed] = replace(entry, test=measure(network, self.task.images(Split.TEST)))
                self.write()

    def _train(self, architecture: Architecture, seed: int, path: Path, watch: Watcher | None) -> SparseDenseNet:
        torch.manual_seed(seed)
        network = self.task.repair(architecture) if self.inherit else SparseDenseNet(architecture)
        network.to(self.device)
        progress = None if watch is None else partial(watch, path.name)
        recipe = replace(self.recipe, seed=seed)
        fit(network, self.task.images(Split.TRAIN), recipe, _checkpoint(path), progress)
        return network


def _read_run(run: Path, data_root: Path | str | None, inherit: bool) -> tuple[SupernetTask, Architecture]:
    """The task of a run, and the best architecture that it found.

    Raises:
        InvalidValue: a run that is not over, or on no images; a task whose images or (where they are inherited) weights
            are others today.
    """
    folder = RunFolder(run)
    if not is_file(folder.manifest) or (manifest := folder.read()) is None:
        raise NotFound(f"{run} is no run folder: it has no manifest.json. Give the folder that ads-gym search wrote.")
    if manifest.ended is None:
        raise InvalidValue(f"the search in {run} is not over: give its command again, and retrain what it finds.")
    task = load_task_of(manifest, run, data_root)
    if not isinstance(task, SupernetTask):
        raise InvalidValue(f"the run {run} is about {task.name!r}, which has no images and no network to train.")
    architecture = Architecture.read(folder.best)
    if architecture.config != task.config:
        raise InvalidValue(f"{folder.best} is of another network than task {task.name!r}: was it trained anew?")
    of_run, today = manifest.identity, provenance(task.evaluator(device="cpu")) if manifest.identity else {}
    for part in ("data", "weights") if inherit else ("data",):
        if of_run.get(part) != today.get(part):
            raise InvalidValue(
                f"the {part} of task {task.name!r} in {task.folder} are not those that the run {run} searched on: "
                "search again, or bring them back."
            )
    return task, architecture


def _recipe(task: SupernetTask, epochs: int, inherit: bool) -> Recipe:
    """The supernet's augmentation and batches; the preset learning rate, or a fifth of it for inherited weights."""
    made = task.record.recipe
    recipe = Recipe(epochs=epochs, learning_rate=0.02 if inherit else 0.1)
    if not isinstance(made, Recipe):
        return recipe
    return replace(recipe, batch_size=made.batch_size, shift=made.shift, flip=made.flip)


def _checkpoint(path: Path) -> Path:
    """Of the training of the network that is saved at `path`."""
    return path.with_name(path.name + ".checkpoint.safetensors")


def _entry(name: Network, seed: int, architecture: Architecture, valid: Score) -> Retrained:
    _, parameters = architecture_cost(architecture)
    return Retrained(name, seed, parameters, relative_macs(architecture), valid, None)


def _summary(name: str, networks: list[Retrained]) -> Summary:
    valid = np.array([n.valid.accuracy for n in networks])
    test = np.array([(n.test.accuracy, n.test.loss) for n in networks if n.test is not None])
    mean = test.mean(axis=0)
    sd = test.std(axis=0, ddof=1) if len(test) > 1 else np.zeros(2)
    first = networks[0]
    figures = (valid.mean(), mean[0], sd[0], mean[1], sd[1])
    return Summary(name, len(networks), first.parameters, first.relative_macs, *(float(value) for value in figures))


def _reads(networks: Mapping[tuple[Network, int], Retrained]) -> int:
    return sum(entry.test is not None for entry in networks.values())
