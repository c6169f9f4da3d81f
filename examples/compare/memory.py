"""Curves over seeds, for `benchmark_memory.py`."""

from pathlib import Path
from typing import Any

import numpy as np
from compare.labels import Row, markdown

PARTS = 20  # of the steps of a run
LAST = PARTS // 5  # that tell how good an agent has become


def parts(steps: list[tuple[bool, float]]) -> dict[str, Any]:
    """Of each part of a run: the mean return of episodes that ended in it (None: none did), and illegal actions' share.

    Args:
        steps: whether the action was legal, and the return of the episode that ended, else NaN.
    """
    pieces = np.array_split(np.array(steps, float), PARTS)
    ended = [piece[:, 1][~np.isnan(piece[:, 1])] for piece in pieces]
    return {
        "returns": [float(each.mean()) if len(each) else None for each in ended],
        "illegal": [float(1 - piece[:, 0].mean()) for piece in pieces],
    }


def last(row: Row) -> float:
    """Mean return over the last fifth of the steps; where no episode ended, less than all."""
    return float(np.mean([-np.inf if each is None else each for each in row["returns"][-LAST:]]))


def of(rows: list[Row], **key: Any) -> list[Row]:
    """Rows that agree with a key."""
    return [row for row in rows if row.items() >= key.items()]


def tried(rows: list[Row], agent: str) -> dict[int, float]:
    """Of each setting that an agent tried, `last`: the mean over seeds."""
    mine = of(rows, agent=agent, stage="choose")
    settings = dict.fromkeys(row["setting"] for row in mine)
    return {setting: float(np.mean([last(row) for row in of(mine, setting=setting)])) for setting in settings}


def chosen(rows: list[Row], agent: str) -> int:
    """The setting of the highest `last`."""
    found = tried(rows, agent)
    return max(found, key=lambda setting: found[setting])


def returns(rows: list[Row], count: int) -> np.ndarray:
    """Mean returns [seeds, count] of so many parts of runs; NaN where no episode ended."""
    return np.array([row["returns"] for row in rows], float).reshape(len(rows), count, -1).mean(axis=-1)


def spread(values: np.ndarray) -> str:
    """Median, least and most over seeds."""
    return f"{np.median(values):.1f} [{np.min(values):.1f}, {np.max(values):.1f}]"


def table(rows: list[Row]) -> list[str]:
    """Markdown lines: settings that were tried, how good agents became, and their curves."""
    agents, settings = (list(dict.fromkeys(row[key] for row in rows)) for key in ("agent", "setting"))
    tries = [
        [agent, *(f"{found[setting]:.1f}" if setting in found else "" for setting in settings)]
        for agent in agents
        if (found := tried(rows, agent))
    ]
    lines = ["Settings, by the mean return over the last fifth of the steps, mean over the seeds that choose:", ""]
    lines += markdown(["agent", *(f"setting {setting}" for setting in settings)], tries)
    reported = {agent: found for agent in agents if (found := of(rows, agent=agent, stage="report"))}
    if not reported:
        return lines
    ends, curves = [], []
    for agent, mine in reported.items():
        columns = [spread(np.array([row[name] for row in mine])) for name in ("drawn", "probable")]
        illegal = np.array([row["illegal"] for row in mine])
        shares = [
            f"{100 * np.median(illegal[:, part].mean(axis=1)):.1f} %" for part in (slice(LAST), slice(-LAST, None))
        ]
        end = spread(returns(mine, PARTS)[:, -LAST:].mean(axis=1))
        ends.append([agent, str(mine[0]["setting"]), str(len(mine)), end, *columns, *shares])
        curves.append([agent, *(spread(part) for part in returns(mine, 5).T)])
    heads = ["agent", "setting", "seeds", "last fifth", "then, drawn", "then, most probable"]
    heads += ["illegal, first fifth", "illegal, last fifth"]
    note = "Return of an episode: median [least, most] over seeds. Illegal actions change nothing; median share."
    fifths = [f"fifth {part}" for part in range(1, 6)]
    return [*lines, "", *markdown(heads, ends), "", note, "", *markdown(["agent", *fifths], curves)]


def draw(rows: list[Row], steps: int, file: Path) -> None:
    """Curves of reported runs: the median over seeds, and from the least to the most."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    reported = of(rows, stage="report")
    for agent in dict.fromkeys(row["agent"] for row in reported):
        values, at = returns(of(reported, agent=agent), PARTS), (np.arange(PARTS) + 0.5) * steps / PARTS
        axes.plot(at, np.median(values, axis=0), label=agent)
        axes.fill_between(at, values.min(axis=0), values.max(axis=0), alpha=0.2)
    axes.set(xlabel="environment steps", ylabel="mean return of episodes in training")
    axes.legend()
    figure.savefig(file, dpi=120)
