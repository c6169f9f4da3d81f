"""Read the page of a report from the folder of a finished `sparsify`. Nothing in the folder is changed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ads_gym import files
from ads_gym.architecture import Architecture
from ads_gym.errors import DamagedFile, InvalidValue
from ads_gym.nets.cost import architecture_cost
from ads_gym.reports.page import Curve, Facts, Page, Points, Role, Size, Stage
from ads_gym.reports.search_page import MAX_FACTS, duration, file_sizes, snippets, text
from ads_gym.runs.folder import RunFolder
from ads_gym.runs.record import Row
from ads_gym.runs.record import read_record as read_search
from ads_gym.runs.sparsify_folder import BEST, SEARCH
from ads_gym.runs.sparsify_record import FILE, SparsifyRecord, read_record


def sparsify_page(run: Path) -> Page:
    """Return what a report of a `sparsify` shows.

    Args:
        run: the folder of one that is over.

    Raises:
        InvalidValue: one that is not over.
        NotFound, DamagedFile, StorageError: files that are missing, cannot be used, or may not be read.
    """
    folder = files.resolve(run)
    record = read_record(folder)
    if record.architecture is None or record.ended is None or not record.stages:
        raise InvalidValue(f"the run in {run} is not over: make the same call again, and report what it leaves.")
    with files.naming(folder / FILE, "record of a sparsification"):
        architecture = Architecture.from_record(record.architecture)
        costs = [architecture_cost(each) for each in (architecture.dense, architecture)]
    if not architecture.config.fits_in(record.config):
        raise DamagedFile(f"{folder / FILE} names two networks: {architecture.config} and {record.config}.")
    sizes, rows = file_sizes(folder / f"{BEST}.json", architecture), _searched(folder, architecture)
    return Page(
        title=record.model,
        what=f"A trained {record.model} without {_lost(architecture)}; its weights were solved again"
        + (", then it was distilled from the dense network." if record.stage("distilled") else ".")
        + ("" if record.measured == "accuracy" else " Agreement is with the classes that the dense network predicts."),
        measured=record.measured,
        architecture=architecture,
        stages=[
            Stage(each.name, each.valid.accuracy, each.valid.soft_accuracy, each.valid.loss, each.seconds)
            for each in record.stages
        ],
        dense=Size(*costs[0], sizes[0]),
        sparse=Size(*costs[1], sizes[1]),
        points=tuple(_points(record, rows)),
        curve=Curve([row.objective for row in rows]) if rows else None,
        snippets=tuple(snippets(run, architecture)) if sizes[1] else (),
        facts=tuple(_facts(record)),
        notes=tuple(_notes(record)),
    )


def _lost(architecture: Architecture) -> str:
    lost = ["channels that layers read"] * (architecture.reads is not None)
    lost += ["channels inside its layers"] * (architecture.config.widths is not None)
    return "some of the " + (" and ".join(lost) or "skip connections")


def _searched(folder: Path, architecture: Architecture) -> list[Row]:
    """The evaluations of the search, if there was one and its folder is still there."""
    record = RunFolder(folder / SEARCH).record
    if not files.exists(record):
        return []
    with read_search(record) as search:
        return search.rows(architecture.topology)


def _points(record: SparsifyRecord, rows: Sequence[Row]) -> Iterator[Points]:
    dense = record.stages[0]
    macs = max(1, dense.macs)
    if rows:
        yield Points(Role.EVALUATED, [(row.metrics.macs / macs, row.metrics.accuracy) for row in rows], "repaired")
    for role in (Role.RANDOM, Role.CHANNELS):
        if places := [(each.macs / macs, each.accuracy) for each in record.compared if each.role == role]:
            yield Points(role, places, "repaired")
    yield Points(Role.DENSE, [(1.0, dense.valid.accuracy)])
    for stage in record.stages:
        if stage.name != "dense":
            yield Points(Role.CHOSEN, [(stage.macs / macs, stage.valid.accuracy)], stage.name)


def _notes(record: SparsifyRecord) -> Iterator[str]:
    images, test = record.images, record.test
    if record.settings.evaluations and not record.compared:
        yield "There was no search: dropping connections alone cannot meet the limit."
    if record.rejected is not None:
        yield record.why_rejected
    yield f"Weights were solved from {images.calibration:,} images, and networks scored on {images.valid:,} others."
    if images.divided:
        yield "The latter are a quarter of the images given; accuracy reads too high if the model was trained on them."
    if test is not None:
        yield (
            f"On {test.images:,} test images, read once: {test.measured} {test.sparse.accuracy:.1%}, of the dense "
            f"network {test.dense.accuracy:.1%}."
        )


def _facts(record: SparsifyRecord) -> Iterator[Facts]:
    """The recipe: what is needed to judge the numbers, and to get them again."""
    settings = record.settings
    yield Facts(
        "Sparsification",
        [
            ("limit on MACs", f"{settings.max_macs:.1%} of the dense network's"),
            *(
                [
                    ("limit on latency", f"{settings.max_latency:.1%} of the dense network's"),
                    ("latency when chosen", f"{record.latency:.1%}"),
                ]
                if settings.max_latency is not None and record.latency is not None
                else []
            ),
            ("evaluations", f"{settings.evaluations:,}" + (f" by agent {settings.agent}" if settings.agent else "")),
            ("distillation", f"{settings.distil:,} steps"),
            ("seed", str(settings.seed)),
            ("device", settings.device),
        ],
    )
    config = record.config.to_dict()
    yield Facts("Dense network", [(name.replace("_", " "), text(value)) for name, value in config.items()])
    time = [("began", record.began), ("ended", record.ended or "")]
    time += [] if record.choosing_seconds is None else [("choosing", duration(record.choosing_seconds))]
    yield Facts("Time", time)
    versions, identity = record.versions, record.identity
    yield Facts("Machine and versions", [(text(name), text(versions[name])) for name in list(versions)[:MAX_FACTS]])
    yield Facts("Digests", [(text(name), text(identity[name])) for name in list(identity)[:MAX_FACTS]])
