"""Read the page of a report from the folder of a finished search. Nothing in the folder is changed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ads_gym import files, limits
from ads_gym.architecture import Architecture
from ads_gym.errors import DamagedFile, InvalidValue, NotFound
from ads_gym.evaluators.base import MAX_METRIC, Metrics, Weights
from ads_gym.nets.cost import CostTable, architecture_cost
from ads_gym.reports.page import Curve, Facts, Page, Points, Role, Size, Snippet, Stage
from ads_gym.reports.search_command import search_command, weights_of
from ads_gym.runs.comparison import masks_that_cost
from ads_gym.runs.folder import Manifest, RunFolder
from ads_gym.runs.record import Row, best_of, read_record
from ads_gym.runs.recorder import EPISODES_PER_EVALUATION, StoppedBy
from ads_gym.runs.result import Line, SearchResult

MAX_FACTS = 40  # of one heading
MAX_SHOWN = 1_000  # characters of a value: an option may be of any length
OF_THE_SEARCH = (  # parts of an identity
    *("agent", "agent's options", "seed", "reward", "cost weight", "scope"),
    *("decision", "observation", "environments"),
)


def search_page(run: Path) -> Page:
    """Return what a report of a search shows.

    Args:
        run: the folder of a search that is over.

    Raises:
        NotFound: no run folder.
        InvalidValue: a search that is not over.
        DamagedFile: files that cannot be used, or are of different runs.
        StorageError: files that may not be read.
    """
    found = read_search(run)
    manifest, result, scores = found.manifest, found.result, found.scores
    task = manifest.task or "an evaluator of its own"
    agent = text(manifest.identity.get("agent"))
    has_weights = scores.weights is not None
    return Page(
        title=task,
        what=f"Agent {agent} searched on {task}: {result.counts}.",
        measured="accuracy",
        architecture=result.architecture,
        stages=tuple(_stages(result, scores)),
        dense=found.dense,
        sparse=found.sparse,
        points=tuple(_points(found, agent)),
        lines=result.table,
        curve=_curve(found),
        snippets=tuple(snippets(run, result.architecture)) if found.sparse.file_bytes else (),
        command=search_command(manifest, result),
        facts=tuple(_facts(found)),
        notes=tuple(_notes(manifest, result, has_weights)),
    )


@dataclass(frozen=True)
class Scores:
    """The metrics in a run's record."""

    rows: Sequence[Row]  # the history
    weights: Weights | None  # with which the search scored; None: metrics are not a task's network's
    by_weights: Mapping[Weights | None, Mapping[bytes, Metrics]]  # all metrics by mask, of the closing table too


@dataclass(frozen=True)
class FinishedSearch:
    """All that is read from a run's folder."""

    manifest: Manifest
    result: SearchResult
    scores: Scores
    dense: Size
    sparse: Size


def read_search(run: Path) -> FinishedSearch:
    """Read the folder of a finished search; arguments and errors as `search_page`."""
    folder = RunFolder(files.resolve(run))
    if not files.exists(folder.manifest) or (manifest := folder.read()) is None:
        raise NotFound(f"{run} is no run folder: it has no manifest.json. Give the folder that ads-gym search wrote.")
    if manifest.result is None or manifest.ended is None:
        raise InvalidValue(f"the search in {run} is not over: give its command again, and report what it finds.")
    with files.naming(folder.manifest, "manifest of a run"):
        result = SearchResult.from_record(folder.path, manifest.result, manifest.ended)
        architecture = result.architecture
        dense = Architecture(architecture.config, architecture.topology.dense(), architecture.scope)
        costs = architecture_cost(dense), architecture_cost(architecture)
    scores = _read_scores(folder, manifest, result)
    sizes = file_sizes(folder.best, architecture)
    return FinishedSearch(manifest, result, scores, Size(*costs[0], sizes[0]), Size(*costs[1], sizes[1]))


def _read_scores(folder: RunFolder, manifest: Manifest, result: SearchResult) -> Scores:
    """The metrics of the record: those of the history, and of the closing table with both kinds of weights."""
    topology, weights = result.architecture.topology, weights_of(manifest, result)
    other = {Weights.INHERITED: Weights.REPAIRED, Weights.REPAIRED: Weights.INHERITED}.get(weights) if weights else None
    with read_record(folder.record) as record:
        rows = record.rows(topology)
        if len(rows) != result.evaluations or topology.mask(best_of(rows).mask).tolist() != (
            result.architecture.mask.tolist()
        ):
            raise DamagedFile(
                f"{folder.manifest} and {folder.record} are of different runs: bring back those that belong together."
            )
        mine, others = record.metrics()
    by_weights: dict[Weights | None, Mapping[bytes, Metrics]] = {weights: mine}
    if other is not None and len(others) == 1:
        by_weights[other] = others[0]
    return Scores(rows, weights, by_weights)


def file_sizes(best: Path, found: Architecture) -> tuple[int | None, int | None]:
    """Bytes of the dense and of the found network's weights as they are saved; None where no network was written.

    Args:
        best: the architecture's file; its weights are beside it.
        found: what is expected in it.

    Raises:
        DamagedFile: files that cannot be used, or of another network.
    """
    weights = best.with_suffix(".safetensors")
    if not files.exists(weights):
        return None, None
    import torch

    from ads_gym.nets.sparse import SparseDenseNet, load
    from ads_gym.nets.tensorfile import to_safetensors

    if load(best).architecture != found:
        raise DamagedFile(f"{best} is of another network than the run's record: bring back the one it names.")
    with torch.random.fork_rng(devices=[]):  # leaves torch's random numbers as they are
        of_dense = len(to_safetensors(SparseDenseNet(found.dense).state_dict()))
    with files.file_errors(weights):
        return of_dense, weights.stat().st_size


def _stages(result: SearchResult, scores: Scores) -> Iterator[Stage]:
    """Dense, inherited and repaired; dense and found, where no weights were."""
    topology = result.architecture.topology
    lines = {line.name: line for line in result.table}
    dense, best = lines.get("dense"), result.table[-1]
    if dense is not None:
        yield Stage("dense", dense.accuracy, dense.soft_accuracy, dense.loss)
    if scores.weights is None:
        yield Stage("found", best.accuracy, best.soft_accuracy, best.loss)
        return
    for weights in Weights:
        accuracy = _accuracy(best, weights)
        metrics = scores.by_weights.get(weights, {}).get(topology.key(result.architecture.mask))
        if metrics is not None:
            yield Stage(weights, metrics.accuracy, metrics.soft_accuracy, metrics.loss)
        elif accuracy is not None:
            yield Stage(weights, accuracy)


def _accuracy(line: Line, weights: Weights) -> float | None:
    return line.inherited_accuracy if weights is Weights.INHERITED else line.repaired_accuracy


def _points(found: FinishedSearch, agent: str) -> Iterator[Points]:
    """Evaluated networks, random ones, chain, dense and the chosen one, each with the weights that are known."""
    result, scores = found.result, found.scores
    topology = result.architecture.topology
    role = Role.RESIDUAL if agent == "residual" else Role.EVALUATED
    yield Points(role, [_place(row.metrics) for row in scores.rows], _named(scores.weights))
    for line in result.table:
        if line.name == "residual" != agent and line.repaired_accuracy is not None:
            place = line.relative_macs, line.repaired_accuracy
            if max(abs(value) for value in place) <= MAX_METRIC:
                yield Points(Role.RESIDUAL, [place], "repaired")
    groups = {
        Role.RANDOM: _random_keys(found),
        Role.CHAIN: [topology.key(topology.chain())],
        Role.DENSE: [topology.key(topology.dense())],
        Role.CHOSEN: [topology.key(result.architecture.mask)],
    }
    for role, keys in groups.items():
        for weights in Weights if scores.weights else (None,):
            known = scores.by_weights.get(weights, {})
            if places := [_place(known[key]) for key in keys if key in known]:
                if role is Role.DENSE:  # repair changes nothing in it
                    yield Points(role, places)
                    break
                yield Points(role, places, _named(weights))


def _named(weights: Weights | None) -> Any:
    return None if weights is None else weights.value


def _place(metrics: Metrics) -> tuple[float, float]:
    return metrics.relative_macs, metrics.accuracy


def _curve(found: FinishedSearch) -> Curve:
    others = [(line.name, line.objective) for line in found.result.table[:-1] if abs(line.objective) <= MAX_METRIC]
    return Curve([row.objective for row in found.scores.rows], others)


def _random_keys(found: FinishedSearch) -> list[bytes]:
    """The random masks of the closing table: drawn again from the seed, they are the same."""
    architecture, seed = found.result.architecture, found.manifest.identity.get("seed")
    count = next((line.masks for line in found.result.table if line.name == "random"), 0)
    if not isinstance(seed, int) or not 0 <= seed <= limits.MAX_SEED or count > 1_000:
        return []
    cost = CostTable(architecture.config, architecture.scope)
    masks = masks_that_cost(cost, found.sparse.macs, count, np.random.default_rng(seed))
    return [cost.topology.key(mask) for mask in masks]


def snippets(run: Path, architecture: Architecture) -> Iterator[Snippet]:
    """How the network is loaded, and used without ads-gym."""
    shape = ", ".join(map(str, architecture.config.image_shape))
    yield Snippet(
        "With ads-gym: an ordinary torch.nn.Module, float32, on the CPU, in eval mode.",
        f"""\
import torch
import ads_gym

network = ads_gym.load({str(run)!r})
images = torch.zeros(16, {shape})  # as it was trained; ours read pixels from -1 to 1: uint8 / 127.5 - 1
with torch.no_grad():
    classes = network(images).argmax(dim=1)""",
    )
    yield Snippet(
        "For plain torch, export it once (here for up to 4,096 images at a time):",
        """\
batch = torch.export.Dim("batch", min=1, max=4096)
program = torch.export.export(network, (images,), dynamic_shapes=({0: batch},))
torch.export.save(program, "network.pt2")""",
    )
    yield Snippet(
        "Wherever torch is, without ads-gym:",
        f"""\
import torch

network = torch.export.load("network.pt2").module()
logits = network(torch.zeros(16, {shape}))""",
    )


def _notes(manifest: Manifest, result: SearchResult, has_weights: bool) -> Iterator[str]:
    if not has_weights:
        yield "Scores are those of an evaluator of its own (planted or given), and not a task's trained network's."
    if manifest.differs_at is not None:
        yield (
            f"The run was resumed, and its agent did not repeat itself at evaluation {manifest.differs_at}: what was "
            "recorded counts, but the command below may find another network."
        )
    if result.stopped_by is StoppedBy.EPISODES:
        yield f"The search ended early, after {EPISODES_PER_EVALUATION} episodes for each evaluation of the budget."
    if result.stopped_by is StoppedBy.AGENT:
        yield "The agent stopped before the budget was spent."


def _facts(found: FinishedSearch) -> Iterator[Facts]:
    """The recipe: what is needed to judge the numbers, and to get them again."""
    manifest, result, rows = found.manifest, found.result, found.scores.rows
    identity = dict(manifest.identity)
    limit = identity.pop("limit in MACs", None)
    share = f" ({limit / found.dense.macs:.1%} of dense)" if isinstance(limit, int) else ""
    search = [("task", manifest.task or "none"), ("budget", f"{manifest.budget:,} evaluations")]
    search += [(name, text(identity.pop(name))) for name in OF_THE_SEARCH if name in identity]
    search += [("limit in MACs", "none" if limit is None else f"{text(limit)}{share}")]
    search += [("scored with", f"{found.scores.weights} weights")] if found.scores.weights else []
    yield Facts("Search", search)
    config = result.architecture.config.to_dict()
    yield Facts("Dense network", [(name.replace("_", " "), text(value)) for name, value in config.items()])
    evaluating = sum(row.seconds for row in rows)
    time = [("began", date(manifest.began)), ("ended", date(manifest.ended or "")), *_elapsed(manifest)]
    time += [("evaluating", f"{duration(evaluating)}, {evaluating / len(rows):.3g} s for each network")]
    yield Facts("Time", time)
    where: dict[str, Any] = {
        name: identity.pop(name) for name in ("device", "torch", "cpu capability") if name in identity
    }
    versions = {**where, **manifest.circumstances}
    yield Facts("Machine and versions", [(text(name), text(versions[name])) for name in list(versions)[:MAX_FACTS]])
    yield Facts("Digests", [(text(name), text(identity[name])) for name in list(identity)[:MAX_FACTS]])


def _elapsed(manifest: Manifest) -> list[tuple[str, str]]:
    """From the beginning to the end, pauses between calls included; nothing where these are no dates."""
    try:
        seconds = datetime.fromisoformat(manifest.ended or "") - datetime.fromisoformat(manifest.began)
    except (ValueError, TypeError):  # TypeError: one without a time zone
        return []
    return [("altogether", duration(seconds.total_seconds()))]


def date(text: str) -> str:
    """ISO 8601 as people read it."""
    return text.replace("T", " ", 1)


def duration(seconds: float) -> str:
    """For people."""
    if not 0 <= seconds < 1e9:
        return f"{seconds:.3g} s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def text(value: Any) -> str:
    """A value of JSON, for people."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text):,} characters)"
