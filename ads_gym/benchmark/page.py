"""What a benchmark writes beside its results: tables, a picture, and one HTML page with both."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ads_gym import __version__, files
from ads_gym.benchmark.places import FILE
from ads_gym.benchmark.records import Results
from ads_gym.benchmark.statistics import interquartile_mean, interval
from ads_gym.benchmark.summary import ALL, OfTask, by_task
from ads_gym.benchmark.tables import Table, csv_of, markdown, pair_table, score_table, settings
from ads_gym.errors import InvalidValue
from ads_gym.reports.html import environment

ROW, LEFT, WIDTH = 18, 130, 400  # units of the picture of scores: of an agent, of the names, of all


@dataclass(frozen=True)
class Bar:
    """An agent's score in the picture: places from left to right."""

    agent: str
    at: float  # downwards
    value: float
    low: float | None  # of the interval; None: there is none
    high: float | None


@dataclass(frozen=True)
class Section:
    """What the page says of a task."""

    task: str
    scores: Table | None  # None: see `why`
    pairs: Table | None
    why: str
    bars: tuple[Bar, ...]


def write(results: Results, folder: Path) -> list[Path]:
    """Write tables, picture and page beside results.json, and return all of them."""
    names = (FILE, "results.md", "results.csv", "curves.png", "report.html")
    paths = [folder / name for name in names]
    picture = draw(results)
    contents: list[bytes | str] = [markdown(results), csv_of(results), picture, page(results, picture)]
    for path, content in zip(paths[1:], contents, strict=True):
        files.write_file(path, content)
    return paths


def draw(results: Results) -> bytes:
    """The mean score of each agent over what was spent, a picture for each task, as PNG."""
    from matplotlib.figure import Figure

    parts = [part for part in by_task(results) if part.agents and not part.not_ranked]
    figure = Figure(figsize=(6 * max(len(parts), 1), 4), layout="constrained")
    every = np.unique(np.geomspace(1, results.plan.evaluations, 60).astype(int))
    for number, part in enumerate(parts, start=1):
        axes = figure.add_subplot(1, len(parts), number)
        for place, agent in enumerate(part.agents):
            style = ("-", "--", ":")[place // 10 % 3]
            axes.plot(every, [part.scores(agent, int(n)).mean() for n in every], style, label=agent)
        axes.set(xscale="log", xlabel="evaluations, charged ones included", ylabel="mean score", title=part.task)
        axes.legend(fontsize="x-small")
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=120)
    return made.getvalue()


def page(results: Results, picture: bytes) -> str:
    """The page as HTML. Every text in it is escaped, and nothing in it may run."""
    return (
        environment()
        .get_template("benchmark.html")
        .render(
            settings=settings(results),
            sections=[_section(part, results) for part in by_task(results)],
            picture=base64.b64encode(picture).decode(),
            definition=results.definition,
            results=results,
            version=__version__,
            width=WIDTH,
            left=LEFT,
            row=ROW,
        )
    )


def _section(part: OfTask, results: Results) -> Section:
    if part.not_ranked:
        return Section(part.task, None, None, part.not_ranked, ())
    pairs = pair_table(part) if len(part.agents) > 1 else None
    return Section(part.task, score_table(part, results), pairs, "", _bars(part))


def _bars(part: OfTask) -> tuple[Bar, ...]:
    """Scores of whole runs, the best agent first; 0 to 1 fills the picture, and what is below 0 stands at its edge."""

    def place(score: float) -> float:
        return LEFT + min(max(score, 0.0), 1.0) * (WIDTH - LEFT - 10)

    found: list[tuple[float, float | None, float | None, str]] = []
    for agent in part.agents:
        table = part.scores(agent, ALL)
        try:
            value, low, high = interval(table)
            found.append((value, place(low), place(high), agent))
        except InvalidValue:
            found.append((float(interquartile_mean(table.ravel())), None, None, agent))
    found.sort(key=lambda each: -each[0])
    return tuple(
        Bar(agent, (number + 0.5) * ROW, place(value), low, high)
        for number, (value, low, high, agent) in enumerate(found)
    )
