"""The tables and the picture of a benchmark."""

import csv
import io
import math
from pathlib import Path

import numpy as np

from ads_gym import files
from ads_gym.benchmark.records import Results
from ads_gym.benchmark.statistics import FEWEST_SUPERNETS, Floats, interval
from ads_gym.benchmark.summary import ALL, OfTask, by_task
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
        lines += ["", f"## {part.task}", "", *_table(part, plan.evaluations), *_pairs(part)]
    return "\n".join(lines) + "\n"


def _table(part: OfTask, evaluations: int) -> list[str]:
    shown = budgets(evaluations)
    heads = ["agent", *(f"score after {n}" for n in shown), "left 1 %", "charged", "agent, s", "all, s"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    seconds = np.array([each.evaluation_seconds for each in part.supernets])[:, None]
    for agent, runs in part.agents.items():
        cells = [interval_text(part.scores(agent, n)) for n in shown]
        arrivals = part.arrivals(agent)
        took = np.median(arrivals)
        cells.append(
            f"{'never' if math.isinf(took) else f'{took:.0f}'} ({np.isfinite(arrivals).sum()} of {arrivals.size})"
        )
        cells.append(f"{np.mean([[run.charged for run in row] for row in runs]):.0f}")
        own = np.array([[run.agent_seconds for run in row] for row in runs])
        count = np.array([[run.evaluations for run in row] for row in runs])
        cells += [f"{own.mean():.1f}", f"{(own + count * seconds).mean():.1f}"]
        lines.append(f"| {' | '.join([agent, *cells])} |")
    for agent, why in part.missing.items():
        told = " ".join(why.split())[:200].replace("|", "/")
        lines.append(f"| {agent} | {told} |" + " |" * (len(heads) - 2))
    return [*lines, "", _legend(part)]


def _legend(part: OfTask) -> str:
    """What the columns are."""
    known = "the exact optimum" if all(each.optimum is not None for each in part.supernets) else "the best known"
    count = len(part.supernets)
    if count == 1:
        of = "one network, of which alone this is a claim; intervals of 95 % are over seeds"
    elif count < FEWEST_SUPERNETS:
        of = f"{count} supernets, too few for intervals"
    else:
        of = f"{count} supernets, with intervals of 95 % over supernets and seeds"
    return (
        f"Score: interquartile mean of (best objective - mean of random masks) / ({known} - that mean), of {of}. "
        '"left 1 %": what was spent when 1 % of that way was left, the median, and how many runs came so far.'
    )


def interval_text(table: Floats) -> str:
    """A score and its interval, where one can be told."""
    try:
        found = interval(table)
    except InvalidValue:
        return f"{np.mean(np.sort(table, axis=None)):.3f}"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _pairs(part: OfTask) -> list[str]:
    """Sentences about all pairs: who is ahead of whom, and who cannot be told apart."""
    if len(part.agents) < 2:
        return []
    lines = ["", "| agent | ahead of | ties with |", "|---|---|---|"]
    found = part.compared()
    for agent in part.agents:
        ahead, ties = [], []
        for each in found:
            if agent not in (each.one, each.other):
                continue
            other = each.other if each.one == agent else each.one
            probability = each.probability if each.one == agent else 1 - each.probability
            if each.is_tie:
                ties.append(other)
            elif probability > 0.5:
                ahead.append(f"{other} ({probability:.2f})")
        lines.append(f"| {agent} | {', '.join(ahead)} | {', '.join(ties)} |")
    return [
        *lines,
        "",
        "In brackets: the probability that a run is better on the same supernet. p < 0.05 after Holm's correction.",
    ]


def to_csv(results: Results) -> str:
    """Every run in a line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("task", "supernet", "agent", "seed", "score", "objective", "evaluations", "charged", "agent_seconds")
    )
    for part in by_task(results):
        for agent, runs in part.agents.items():
            for supernet, row, found in zip(part.supernets, runs, part.scores(agent, ALL).tolist(), strict=True):
                for run, score in zip(row, found, strict=True):
                    values = (run.best, run.evaluations, run.charged, run.agent_seconds)
                    writer.writerow((part.task, supernet.name, agent, run.seed, score, *values))
    return text.getvalue()


def draw(results: Results, path: Path) -> None:
    """The mean score of each agent over what was spent, a picture for each task."""
    from matplotlib.figure import Figure

    parts = [part for part in by_task(results) if part.agents]
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
    paths = [folder / name for name in ("results.json", "results.md", "results.csv", "curves.png")]
    files.write_file(paths[1], markdown(results))
    files.write_file(paths[2], to_csv(results))
    draw(results, paths[3])
    return paths
