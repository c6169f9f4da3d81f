"""The tables and the picture of a benchmark."""

import csv
import io
import math
from pathlib import Path

import numpy as np

from ads_gym import files
from ads_gym.benchmark.places import FILE
from ads_gym.benchmark.records import Played, Results
from ads_gym.benchmark.statistics import CONFIDENCE, FEWEST, Floats, interquartile_mean, interval
from ads_gym.benchmark.summary import OfTask, by_task
from ads_gym.errors import InvalidValue


def budgets(evaluations: int) -> list[int]:
    """After how much of the budget scores are shown: 8, 32, 128, ... and all of it."""
    return [*(n for n in (8, 32, 128, 512, 2048) if n < evaluations), evaluations]


def markdown(results: Results) -> str:
    """The tables as Markdown."""
    plan, lines = results.plan, list[str]()
    lines.append(
        f"{plan.evaluations} evaluations, {plan.seeds} seeds on each supernet, reward {plan.reward}, cost weight "
        f"{plan.cost_weight}, weights {plan.weights or 'as the task has them'}"
        + ("" if plan.max_macs is None else f", at most {plan.max_macs:g} of the MACs")
        + ("" if plan.start is None else f", start {plan.start}")
        + "."
    )
    for part in by_task(results):
        lines += ["", f"## {part.task}", ""]
        if part.not_ranked:
            lines.append(
                "Nothing is ranked: nobody found anything better than random masks are on average on "
                f"{', '.join(part.not_ranked)}."
            )
        else:
            lines += [*_table(part, plan.evaluations), *_pairs(part)]
    return "\n".join(lines) + "\n"


def _table(part: OfTask, evaluations: int) -> list[str]:
    shown = budgets(evaluations)
    heads = [
        "agent",
        *(f"score after {n}" for n in shown),
        "1 % left after",
        "charged",
        "hypervolume",
        "agent, s",
        "in all, s",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    seconds = np.array([each.evaluation_seconds for each in part.supernets])[:, None]
    for agent, runs in part.agents.items():
        cells = [interval_text(part.scores(agent, n)) for n in shown]
        arrivals = part.arrivals(agent)
        took = np.median(arrivals)
        cells.append(
            f"{'never' if math.isinf(took) else f'{took:.0f}'} ({np.isfinite(arrivals).sum()} of {arrivals.size})"
        )
        cells.append(f"{_mean(runs, 'charged'):.0f}")
        cells.append(f"{_mean(runs, 'hypervolume'):.4f}")
        own = np.array([[run.agent_seconds for run in row] for row in runs])
        count = np.array([[run.evaluations + run.charged for run in row] for row in runs])
        cells += [f"{own.mean():.1f}", f"{(own + count * seconds).mean():.1f}"]
        lines.append(f"| {' | '.join([agent, *cells])} |")
    for agent, why in part.missing.items():
        told = " ".join(why.split())[:200].replace("|", "/")
        lines.append(f"| {agent} | {told} |" + " |" * (len(heads) - 2))
    return [*lines, "", _legend(part)]


def _mean(runs: list[list[Played]], field: str) -> float:
    return float(np.mean([[getattr(run, field) for run in row] for row in runs]))


def _legend(part: OfTask) -> str:
    """What the columns are."""
    known = "the exact optimum" if all(each.optimum is not None for each in part.supernets) else "the best known"
    count, seeds = len(part.supernets), max((len(row) for runs in part.agents.values() for row in runs), default=0)
    percent = f"{CONFIDENCE:.0%}".replace("%", " %")
    if count == 1:
        of = "one network, of which alone this is a claim"
        of += f"; intervals of {percent} are over seeds" if seeds >= FEWEST else "; too few seeds for intervals"
    elif count < FEWEST:
        of = f"{count} supernets, too few for intervals"
    else:
        of = f"{count} supernets, with intervals of {percent} over supernets and seeds"
    return (
        f"Score: interquartile mean of (best objective - mean of random masks) / ({known} - that mean), of {of}. "
        "1 % left after: what was spent when 1 % of that way was left, the median of the runs, and how many of them "
        "came so far. Charged: evaluations of the budget that went into features and gradients. Hypervolume: of all "
        "that a run evaluated, relative cost against reward. Seconds of CPU: of the agent alone, and with evaluations."
    )


def interval_text(table: Floats) -> str:
    """A score and its interval, where one can be told."""
    try:
        found = interval(table)
    except InvalidValue:
        return f"{float(interquartile_mean(table.ravel())):.3f}"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _pairs(part: OfTask) -> list[str]:
    """Sentences about all pairs: who is ahead of whom, and who cannot be told apart."""
    if len(part.agents) < 2:
        return []
    try:
        found = part.compared()
    except InvalidValue:
        return ["", f"Too little to tell agents apart: {FEWEST} supernets are the fewest, or {FEWEST} seeds of one."]
    lines = ["", "| agent | ahead of | ties with |", "|---|---|---|"]
    for agent in part.agents:
        ahead, ties = [], []
        for each in found:
            if agent not in (each.one, each.other):
                continue
            other = each.other if each.one == agent else each.one
            probability = each.probability if each.one == agent else 1 - each.probability
            if each.is_tie:
                ties.append(other)
            elif (each.difference > 0) == (each.one == agent):
                ahead.append(f"{other} ({probability:.2f})")
        lines.append(f"| {agent} | {', '.join(ahead)} | {', '.join(ties)} |")
    return [
        *lines,
        "",
        "Ahead: of mean scores, p <= 0.05 with all pairs considered. In brackets: the probability that a run of the "
        "one is better than a run of the other on the same supernet.",
    ]


def csv_of(results: Results) -> str:
    """Every run in a line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("evaluations", "charged", "hypervolume", "agent_seconds")
    writer.writerow(("task", "supernet", "agent", "seed", "score", "objective", *columns))
    for part in by_task(results):
        for run in part.played:
            score = "" if run.supernet in part.not_ranked else part.score_of(run)
            values = (getattr(run, name) for name in columns)
            writer.writerow((part.task, run.supernet, run.agent, run.seed, score, run.best, *values))
    return text.getvalue()


def draw(results: Results, path: Path) -> None:
    """The mean score of each agent over what was spent, a picture for each task."""
    from matplotlib.figure import Figure

    parts = [part for part in by_task(results) if part.agents and not part.not_ranked]
    figure = Figure(figsize=(6 * max(len(parts), 1), 4), layout="constrained")
    every = np.unique(np.geomspace(1, results.plan.evaluations, 60).astype(int))
    for number, part in enumerate(parts, start=1):
        axes = figure.add_subplot(1, len(parts), number)
        for agent in part.agents:
            axes.plot(every, [part.scores(agent, int(n)).mean() for n in every], label=agent)
        axes.set(xscale="log", xlabel="evaluations, charged ones included", ylabel="mean score", title=part.task)
        axes.legend(fontsize="small")
    with files.file_errors(path, "written"):
        figure.savefig(path, dpi=120)


def write(results: Results, folder: Path) -> list[Path]:
    """Write results.md, results.csv and curves.png beside results.json, and return all four."""
    paths = [folder / name for name in (FILE, "results.md", "results.csv", "curves.png")]
    files.write_file(paths[1], markdown(results))
    files.write_file(paths[2], csv_of(results))
    draw(results, paths[3])
    return paths
