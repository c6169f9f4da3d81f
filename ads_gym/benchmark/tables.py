"""The tables of a benchmark."""

import csv
import io
import math
from typing import NamedTuple

import numpy as np

from ads_gym.benchmark.records import Played, Results
from ads_gym.benchmark.statistics import CONFIDENCE, FEWEST, Floats, interquartile_mean, interval
from ads_gym.benchmark.summary import OfTask, by_task
from ads_gym.errors import InvalidValue


def budgets(evaluations: int) -> list[int]:
    """After how much of the budget scores are shown: 8, 32, 128, ... and all of it."""
    return [*(n for n in (8, 32, 128, 512, 2048) if n < evaluations), evaluations]


class Table(NamedTuple):
    """A table, and a sentence about it."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: str

    def markdown(self) -> list[str]:
        """Lines."""
        if not self.rows:
            return [self.legend]
        rows = [self.heads, ("---",) * len(self.heads), *self.rows]
        return [*(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows), "", self.legend]


def markdown(results: Results) -> str:
    """The tables as Markdown."""
    lines = [settings(results)]
    for part in by_task(results):
        lines += ["", f"## {part.task}", ""]
        if part.not_ranked:
            lines.append(part.not_ranked)
        else:
            lines += score_table(part, results).markdown()
            lines += ["", *pair_table(part).markdown()] if len(part.agents) > 1 else []
    return "\n".join(lines) + "\n"


def settings(results: Results) -> str:
    """What was played, in a sentence."""
    plan = results.plan
    return (
        f"{plan.evaluations} evaluations, {plan.seeds} seed{'' if plan.seeds == 1 else 's'} on each supernet, reward "
        f"{plan.reward}, cost weight {plan.cost_weight}, weights {plan.weights or 'as the task has them'}"
        + ("" if plan.max_macs is None else f", at most {plan.max_macs:g} of the MACs")
        + ("" if plan.start is None else f", start {plan.start}")
        + "."
    )


def score_table(part: OfTask, results: Results) -> Table:
    """Scores, arrivals and seconds of the agents on a task."""
    shown, reads = budgets(results.plan.evaluations), {each.agent: each.reads for each in results.entries}
    scored = [f"score after {n}" for n in shown]
    heads = ("agent", "reads", *scored, "1 % left after", "charged", "hypervolume", "agent, s", "in all, s")
    seconds = np.array([each.evaluation_seconds for each in part.supernets])[:, None]
    rows = []
    for agent, runs in part.agents.items():
        own, count = _of(runs, "agent_seconds"), _of(runs, "evaluations") + _of(runs, "charged")
        rows.append(
            (
                *(agent, reads.get(agent, "?"), *(interval_text(part.scores(agent, n)) for n in shown)),
                *(_arrival(part.arrivals(agent)), f"{_of(runs, 'charged').mean():.0f}"),
                f"{_of(runs, 'hypervolume').mean():.4f}",
                *(f"{own.mean():.3g}", f"{(own + count * seconds).mean():.3g}"),
            )
        )
    for agent, why in part.missing.items():
        rows.append((agent, reads.get(agent, "?"), " ".join(why.split())[:200], *("",) * (len(heads) - 3)))
    return Table(heads, tuple(rows), _legend(part))


def _arrival(arrivals: Floats) -> str:
    took = np.median(arrivals)
    return f"{'never' if math.isinf(took) else f'{took:.0f}'} ({np.isfinite(arrivals).sum()} of {arrivals.size})"


def _of(runs: list[list[Played]], field: str) -> Floats:
    """A number of each run, [S, K]."""
    return np.array([[getattr(run, field) for run in row] for row in runs], np.float64)


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
        "Reads: what of the trained network an agent sees besides scores. 1 % left after: what was spent when 1 % of "
        "that way was left, the median of the runs, and how many of them came so far. Charged: evaluations of the "
        "budget that went into features and gradients. Hypervolume: of all that a run evaluated, relative cost against "
        "reward. Seconds of CPU: of the agent alone, and with evaluations."
    )


def interval_text(table: Floats) -> str:
    """A score and its interval, where one can be told."""
    try:
        found = interval(table)
    except InvalidValue:
        return f"{float(interquartile_mean(table.ravel())):.3f}"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def pair_table(part: OfTask) -> Table:
    """Who is ahead of whom, and who cannot be told apart."""
    try:
        found = part.compared()
    except InvalidValue:
        few = f"Too little to tell agents apart: {FEWEST} supernets are the fewest, or {FEWEST} seeds of one."
        return Table((), (), few)
    rows = []
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
        rows.append((agent, ", ".join(ahead), ", ".join(ties)))
    legend = (
        "Ahead: of mean scores, p <= 0.05 with all pairs considered. In brackets: the probability that a run of the "
        "one is better than a run of the other on the same supernet."
    )
    return Table(("agent", "ahead of", "ties with"), tuple(rows), legend)


def csv_of(results: Results) -> str:
    """Every run in a line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("evaluations", "charged", "hypervolume", "agent_seconds")
    writer.writerow(("task", "supernet", "agent", "seed", "score", "objective", *columns))
    for part in by_task(results):
        for run in part.played:
            score = "" if part.not_ranked else part.score_of(run)
            values = (getattr(run, name) for name in columns)
            writer.writerow((part.task, run.supernet, run.agent, run.seed, score, run.best, *values))
    return text.getvalue()
