"""The first step of `sparsify`: what of a network is kept within a limit on MACs."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ads_gym.architecture import Architecture
from ads_gym.compression.subject import CHUNK, Subject
from ads_gym.data.images import ImageSet
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.repaired import RepairedEvaluator
from ads_gym.nets.channels import sort_channels
from ads_gym.nets.cost import CostTable, architecture_cost, dense_cost
from ads_gym.nets.densenet import DenseNet, uninitialised
from ads_gym.nets.latency import measure_latency
from ads_gym.nets.repair import repair
from ads_gym.nets.residual import elimination_order, kept_within
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import SparseDenseNet, build_sparse
from ads_gym.problem import macs_within, problem_of
from ads_gym.runs.comparison import masks_that_cost
from ads_gym.runs.runner import find_best
from ads_gym.runs.sparsify_folder import SEARCH
from ads_gym.runs.sparsify_record import Channels, Compared, Settings
from ads_gym.runs.step_lines import StepLines
from ads_gym.topology import BoolArray, Topology

LATENCY_REPEATS, LATENCY_HALVINGS = 15, 6
SEARCHED = 0.1  # of the MACs that bottlenecks are to save, the share that a search tries to save by connections
RANDOM_MASKS = 8  # beside which a search is shown


class Choice(NamedTuple):
    """What is kept, and beside what it was chosen."""

    architecture: Architecture
    channels: Channels | None  # the order in which the supernet has its channels then, see `Subject.reordered`
    latency: float | None = None  # of one image / the dense network's, where there is a limit on it
    compared: tuple[Compared, ...] = ()  # where there was a search


class Found(NamedTuple):
    """What a search found."""

    mask: BoolArray
    compared: tuple[Compared, ...]  # random masks as cheap


def choose(subject: Subject, settings: Settings, agent: Any, folder: Path | None, lines: StepLines) -> Choice:
    """Choose what is kept within the limit: of skip connections or, with bottlenecks, of the channels in each layer.

    Args:
        subject: the dense network and its images.
        settings: the limit and the budget.
        agent: that searches, if there is a budget.
        folder: of the run; the search goes on in its folder "search". None: a temporary one.
        lines: show progress.
    """

    def search(supernet: DenseNet, limit: int) -> Found:
        return _search(supernet, subject, limit, settings, agent, folder, lines.shown)

    chosen = _choose_channels if subject.supernet.config.bottleneck else _choose_connections
    return chosen(subject, settings, search if settings.evaluations else None, lines)


def _choose_connections(
    subject: Subject, settings: Settings, search: Callable[[DenseNet, int], Found] | None, lines: StepLines
) -> Choice:
    """The skip connections that elimination leaves, or better ones that a search finds."""
    config = subject.supernet.config
    table, images = CostTable(config), subject.calibration
    lines.say("choosing connections")
    with lines.long("choosing", "layers") as step:
        order = elimination_order(subject.supernet, images, seed=settings.seed, progress=step.update)

    def within(macs: int) -> Architecture:
        return Architecture(config, kept_within(order, table.connection_macs, macs - table.least_macs))

    limit, latency = _limit(subject, settings, within)
    if search is None:
        return Choice(within(limit), None, latency)
    found = search(subject.supernet, limit)
    return _better(within(limit), Architecture(config, found.mask), found, subject, settings)


def _choose_channels(
    subject: Subject, settings: Settings, search: Callable[[DenseNet, int], Found] | None, lines: StepLines
) -> Choice:
    """The channels that elimination leaves; or some more, and without some skip connections that a search finds."""
    config = subject.supernet.config
    keep_all = Topology(config.blocks).dense()
    lines.say("choosing channels")
    with lines.long("choosing", "layers") as step:
        made = sort_channels(subject.supernet, subject.calibration, seed=settings.seed, progress=step.update)
    ready = subject.reordered(made.channels)

    def within(macs: int) -> Architecture:
        return Architecture(made.narrowed(macs, subject.multiple), keep_all)

    limit, latency = _limit(subject, settings, within)
    wider = made.narrowed(limit + int(SEARCHED * (dense_cost(config)[0] - limit)), subject.multiple)
    if search is None or CostTable(wider).least_macs > limit:
        return Choice(within(limit), made.channels, latency)
    supernet = uninitialised(lambda device: DenseNet(wider, device)).to(subject.calibration.device)
    supernet.load_state_dict(_repaired(Architecture(wider, keep_all), ready, settings).state_dict())
    found = search(supernet.eval(), limit)
    chosen = _better(within(limit), Architecture(wider, found.mask), found, ready, settings)
    return chosen._replace(channels=made.channels)


def _limit(subject: Subject, settings: Settings, within: Callable[[int], Architecture]) -> tuple[int, float | None]:
    """The most MACs of the result: of both limits, the one that is lower; and, where that was timed, its latency.

    Args:
        subject, settings: see `choose`.
        within: what is kept within a limit on MACs.

    Raises:
        InvalidValue: a limit on latency that is not met with the fewest MACs either.
    """
    least, most = macs_range(subject, settings.max_macs)
    if settings.max_latency is None:
        return most, None

    def latency(macs: int) -> float:
        found = measure_latency(within(macs), 1, device=str(subject.calibration.device), repeats=LATENCY_REPEATS)
        return 1 / found.ratio.median

    shortest = latency(least)
    if shortest > settings.max_latency:
        raise InvalidValue(
            f"max_latency={settings.max_latency:g} is not met here: with the fewest MACs, one image still takes "
            f"{shortest:.2f} of the time that it takes in the dense network. Raise it, and give another run folder."
        )
    longest = latency(most)
    if longest <= settings.max_latency:
        return most, longest
    fits = least, shortest
    for _ in range(LATENCY_HALVINGS):
        middle = (fits[0] + most) // 2
        found = latency(middle)
        if found <= settings.max_latency:
            fits = middle, found
        else:
            most = middle
    return fits


def _better(
    eliminated: Architecture, searched: Architecture, found: Found, subject: Subject, settings: Settings
) -> Choice:
    """Of what elimination and what a search left, the one with less loss on the validation images, repaired."""
    scores = [measure(_repaired(each, subject, settings), subject.valid, CHUNK) for each in (eliminated, searched)]
    residual = Compared("residual", architecture_cost(eliminated)[0], scores[0].accuracy)
    better = eliminated if scores[0].loss <= scores[1].loss else searched
    return Choice(better, None, compared=(residual, *found.compared))


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
) -> Found:
    """The mask of a supernet's skip connections, within a limit on MACs, that an agent finds by repaired loss."""
    device = str(subject.calibration.device)
    evaluator = RepairedEvaluator(supernet, _unlabelled(subject.calibration), subject.valid, device=device)
    problem = problem_of(evaluator, "loss", min(1.0, limit / dense_cost(supernet.config)[0]))
    with ExitStack() as stack:
        stack.callback(problem.close)
        place = stack.enter_context(tempfile.TemporaryDirectory()) if folder is None else folder
        run = Path(place) / SEARCH
        best = find_best(problem, agent, settings.evaluations, run, seed=settings.seed, progress=progress)
        masks = masks_that_cost(problem.cost, limit, RANDOM_MASKS, np.random.default_rng(settings.seed))
        scored = problem.evaluator.evaluate_checked(masks)
        return Found(best, tuple(Compared("random", each.macs, each.accuracy) for each in scored))


def macs_range(subject: Subject, max_macs: Any) -> tuple[int, int]:
    """MACs of the smallest network, and the most that a limit allows.

    Raises:
        InvalidValue: no number, or less than the smallest network needs.
    """
    table = CostTable(subject.supernet.config)
    if not subject.supernet.config.bottleneck:
        return table.least_macs, macs_within(max_macs, table.dense_macs, table.least_macs, "only the chain")
    config = subject.supernet.config
    widths = [min(width, subject.multiple) for block in config.bottleneck_channels for width in block]
    least, _ = dense_cost(replace(config, widths=tuple(widths)))
    return least, macs_within(max_macs, table.dense_macs, least, f"channels in each layer: {subject.multiple}")


def _unlabelled(images: Tensor) -> ImageSet:
    """Calibration images as an evaluator takes them; their labels are not used."""
    return ImageSet(images, torch.zeros(len(images), dtype=torch.int64, device=images.device))
