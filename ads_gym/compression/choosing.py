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
from ads_gym.nets.channels import ChannelOrders, least_macs, order_channels
from ads_gym.nets.cost import CostTable, architecture_cost, dense_cost
from ads_gym.nets.densenet import DenseNet, uninitialised
from ads_gym.nets.latency import measure_latency
from ads_gym.nets.repair import repair
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import SparseDenseNet, build_sparse
from ads_gym.problem import macs_within, problem_of
from ads_gym.runs.comparison import masks_that_cost
from ads_gym.runs.runner import find_best
from ads_gym.runs.sparsify_folder import SEARCH
from ads_gym.runs.sparsify_record import Channels, Compared, Settings
from ads_gym.runs.step_lines import StepLines
from ads_gym.topology import BoolArray

LATENCY_REPEATS, LATENCY_HALVINGS = 15, 6
SEARCHED = 0.1  # of the MACs that bottlenecks are to save, the share that a search tries to save by connections
RANDOM_MASKS = 8  # beside which a search is shown


class Choice(NamedTuple):
    """What is kept, and beside what it was chosen."""

    architecture: Architecture
    channels: Channels | None  # the order in which the supernet has its channels then
    latency: float | None = None  # of one image / the dense network's, where there is a limit on it
    compared: tuple[Compared, ...] = ()  # where there was a search


class Found(NamedTuple):
    """What a search found."""

    mask: BoolArray
    compared: tuple[Compared, ...]  # random masks as cheap


def choose(subject: Subject, settings: Settings, agent: Any, folder: Path | None, lines: StepLines) -> Choice:
    """Choose what is kept within the limit: the channels that elimination leaves, or connections that a search finds.

    Args:
        subject: the dense network and its images.
        settings: the limit and the budget.
        agent: that searches, if there is a budget.
        folder: of the run; the search goes on in its folder "search". None: a temporary one.
        lines: show progress.
    """
    lines.say("choosing channels")
    with lines.long("choosing", "layers") as step:
        made = order_channels(
            subject.supernet,
            subject.calibration,
            multiple=subject.multiple,
            seed=settings.seed,
            progress=step.update,
        )
    channels = Channels(made.nodes, made.bottlenecks)
    ready = replace(subject, supernet=made.supernet)

    def within(macs: int) -> Architecture:
        return made.within(macs)

    limit, latency = _limit(subject, settings, within)
    eliminated = within(limit)
    supernet = _searchable(made, limit, subject, ready, settings) if settings.evaluations else None
    if supernet is None:
        if settings.evaluations:
            lines.say("no search: with connections alone, the limit cannot be met")
        return Choice(eliminated, channels, latency)
    found = _search(supernet, subject, limit, settings, agent, folder, lines.shown)
    searched = Architecture(supernet.config, found.mask)
    scores = [measure(_repaired(each, ready, settings), subject.valid, CHUNK) for each in (eliminated, searched)]
    if scores[0].loss <= scores[1].loss:
        return Choice(eliminated, channels, latency, found.compared)
    beside = Compared("channels", architecture_cost(eliminated)[0], scores[0].accuracy)
    return Choice(searched, channels, latency, (beside, *found.compared))


def _searchable(
    made: ChannelOrders, limit: int, subject: Subject, ready: Subject, settings: Settings
) -> DenseNet | None:
    """The network of which a search drops connections; None, where that cannot meet the limit.

    Behind bottlenecks it is narrower already, for connections are not where the work is.
    """
    config = made.supernet.config
    if not config.bottleneck:  # as it was given: a search that goes on knows it again
        return subject.supernet if CostTable(config).least_macs <= limit else None
    most = limit + int(SEARCHED * (dense_cost(config)[0] - limit))
    if most < least_macs(config, subject.multiple, reads=False):
        return None
    wider = made.within(most, reads=False)
    if CostTable(wider.config).least_macs > limit:
        return None
    supernet = uninitialised(lambda device: DenseNet(wider.config, device)).to(subject.calibration.device)
    supernet.load_state_dict(_repaired(wider, ready, settings).state_dict())
    return supernet.eval()


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
    config, multiple = subject.supernet.config, subject.multiple
    least = least_macs(config, multiple)
    return least, macs_within(max_macs, dense_cost(config)[0], least, f"channels in each layer: {multiple}")


def _unlabelled(images: Tensor) -> ImageSet:
    """Calibration images as an evaluator takes them; their labels are not used."""
    return ImageSet(images, torch.zeros(len(images), dtype=torch.int64, device=images.device))
