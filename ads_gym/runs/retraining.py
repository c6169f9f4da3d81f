"""What a search found, trained like any network: sparse and dense by one recipe, TEST read once for each."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ads_gym.architecture import Architecture
from ads_gym.data.splits import Split
from ads_gym.devices import resolve_device
from ads_gym.errors import DamagedFile, InvalidValue, NotFound, StorageError
from ads_gym.nets.cost import CostTable, architecture_cost
from ads_gym.nets.scoring import Score, measure
from ads_gym.nets.sparse import SparseDenseNet, load, save
from ads_gym.nets.training import Recipe, fit, settings_digest
from ads_gym.tasks import Task

FORMAT = "ads-gym retraining"
NETWORKS = ("sparse", "dense")
Watcher = Callable[[str, int, float], None]  # which network, epochs done, loss of the last epoch in nats


@dataclass(frozen=True)
class Retrained:
    """One network, trained, and what it scores."""

    network: str  # "sparse" or "dense"
    seed: int
    parameters: int
    relative_macs: float
    valid: Score
    test: Score | None  # None until it is read, at the end


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
    recipe: Mapping[str, Any]
    networks: tuple[Retrained, ...]
    test_reads: int  # how often TEST was read, ever: once for each network

    def summaries(self) -> list[Summary]:
        """One for each kind of network: sparse, then dense."""
        return [_summary(name, [n for n in self.networks if n.network == name]) for name in NETWORKS]


def retrain(
    run: Path | str,
    *,
    epochs: int = 40,
    seeds: int = 3,
    inherit: bool = False,
    device: str = "auto",
    data_root: Path | str | None = None,
    watch: Watcher | None = None,
) -> RetrainReport:
    """Train the best architecture of a run and the dense network by the same recipe, `seeds` times each.

    Networks and `report.json` go to a folder of the run that belongs to the recipe; whatever is there already is not
    done again, so a killed call goes on, and more seeds extend it. TEST is read once for each network, after all are
    trained; a second call shows the stored reading.

    Args:
        run: the folder of a search on a task with data.
        epochs: passes over TRAIN.
        seeds: networks of each kind, at least 1.
        inherit: start from the supernet's weights, at a fifth of the learning rate, instead of from scratch.
        device: see `resolve_device`.
        data_root: where named data sets lie.
        watch: called after every epoch.

    Raises:
        AdsGymError: no such run, settings out of range, files that cannot be used.
    """
    if seeds < 1:
        raise InvalidValue(f"retraining needs at least one seed, got {seeds}.")
    run = Path(run)
    task, found = _found(run, data_root)
    recipe = _recipe(task, epochs, inherit)
    folder = run / f"retrain-{'inherit' if inherit else 'scratch'}-{settings_digest(recipe.to_dict())}"
    networks = _read(folder / "report.json")
    dense = Architecture(found.config, CostTable(found.config, found.scope).topology.dense(), found.scope)
    where = resolve_device(device)
    for seed in range(seeds):
        for name, architecture in zip(NETWORKS, (found, dense), strict=True):
            if (name, seed) not in networks:
                job = replace(recipe, seed=seed)
                path = folder / f"{name}-s{seed}"
                trained = _train(task, architecture, job, path, inherit, where, watch and _named(watch, path.name))
                networks[name, seed] = _entry(name, seed, architecture, measure(trained, task.images(Split.VALID)))
                save(trained, path)
                _write(folder, recipe, networks)
                _checkpoint(path).unlink(missing_ok=True)
    for (name, seed), entry in networks.items():
        if entry.test is None:
            network = load(folder / f"{name}-s{seed}").to(where)
            networks[name, seed] = replace(entry, test=measure(network, task.images(Split.TEST)))
            _write(folder, recipe, networks)
    chosen = tuple(networks[name, seed] for name in NETWORKS for seed in range(seeds))
    return RetrainReport(folder, recipe.to_dict(), chosen, _reads(networks))


def _found(run: Path, data_root: Path | str | None) -> tuple[Task, Architecture]:
    """The task of a run, and the best architecture that it found."""
    manifest = run / "manifest.json"
    if not manifest.is_file():
        raise NotFound(f"{run} is no run folder: it has no manifest.json. Give the folder that ads-gym search wrote.")
    try:
        stored = json.loads(manifest.read_text(encoding="utf-8"))
        name, stored_root = stored["settings"]["task"], stored.get("data_root")
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{manifest} is damaged or not a run's: {error}") from error
    task = Task.load(name, data_root or stored_root)
    if task.data is None:
        raise InvalidValue(f"the run {run} played on {task.name!r}, which has no data and no network to train.")
    architecture = Architecture.read(run / "best.json")
    if architecture.config != task.config:
        raise InvalidValue(f"{run / 'best.json'} is of another network than task {task.name!r}: was it trained anew?")
    return task, architecture


def _recipe(task: Task, epochs: int, inherit: bool) -> Recipe:
    """The supernet's augmentation and batches; the usual learning rate, or a fifth of it for inherited weights."""
    made = task.record.get("recipe", {})
    kept = {name: made[name] for name in ("batch_size", "shift", "flip") if name in made}
    return Recipe(epochs=epochs, learning_rate=0.02 if inherit else 0.1, **kept)


def _train(
    task: Task,
    architecture: Architecture,
    recipe: Recipe,
    path: Path,
    inherit: bool,
    device: torch.device,
    progress: Callable[[int, float], None] | None,
) -> SparseDenseNet:
    torch.manual_seed(recipe.seed)
    network = task.inherit(architecture) if inherit else SparseDenseNet(architecture)
    network.to(device)
    fit(network, task.images(Split.TRAIN), recipe, _checkpoint(path), progress)
    return network


def _checkpoint(path: Path) -> Path:
    """Of the training of the network that is saved at `path`."""
    return path.with_name(path.name + ".checkpoint.pt")


def _named(watch: Watcher, name: str) -> Callable[[int, float], None]:
    return lambda epoch, loss: watch(name, epoch, loss)


def _entry(name: str, seed: int, architecture: Architecture, valid: Score) -> Retrained:
    table = CostTable(architecture.config, architecture.scope)
    macs, parameters = architecture_cost(architecture)
    return Retrained(name, seed, parameters, macs / table.dense_macs, valid, None)


def _summary(name: str, networks: list[Retrained]) -> Summary:
    valid = np.array([n.valid.accuracy for n in networks])
    test = np.array([(n.test.accuracy, n.test.loss) for n in networks if n.test is not None])
    mean = test.mean(axis=0)
    sd = test.std(axis=0, ddof=1) if len(test) > 1 else np.zeros(2)
    first = networks[0]
    figures = (valid.mean(), mean[0], sd[0], mean[1], sd[1])
    return Summary(name, len(networks), first.parameters, first.relative_macs, *(float(value) for value in figures))


def _reads(networks: Mapping[tuple[str, int], Retrained]) -> int:
    return sum(entry.test is not None for entry in networks.values())


def _write(folder: Path, recipe: Recipe, networks: Mapping[tuple[str, int], Retrained]) -> None:
    rows = [asdict(entry) | {"valid": entry.valid, "test": entry.test} for entry in networks.values()]
    report = {"format": FORMAT, "recipe": recipe.to_dict(), "test_reads": _reads(networks), "networks": rows}
    partial = folder / "report.json.part"
    try:
        partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / "report.json")
    except OSError as error:
        raise StorageError(f"could not write {folder / 'report.json'}: {error}. Free some space.") from error


def _read(path: Path) -> dict[tuple[str, int], Retrained]:
    if not path.exists():
        return {}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["format"] != FORMAT:
            raise ValueError(f"its format is {report['format']!r}")
        entries = [
            Retrained(**row | {"valid": Score(*row["valid"]), "test": row["test"] and Score(*row["test"])})
            for row in report["networks"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{path} cannot be used ({error}): move it away to train these networks anew.") from error
    return {(entry.network, entry.seed): entry for entry in entries}
