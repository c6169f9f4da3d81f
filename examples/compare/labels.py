"""Results of benchmarks: a file of rows, and a table of means over supernets."""

import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

Row = dict[str, Any]


class Results:
    """The results file: rows are stored as soon as they are known.

    Args:
        file: .json; the table goes to .md beside it.
        arguments: that rows depend on; a file of other ones is not gone on with.
        table: makes Markdown lines of the rows.
    """

    def __init__(self, file: Path, arguments: dict[str, Any], table: Callable[[list[Row]], list[str]]) -> None:
        self.file, self._table = file, table
        file.parent.mkdir(exist_ok=True)
        self.report = {"test_reads": 0, "arguments": arguments, "rows": []}
        if file.exists():
            self.report = json.loads(file.read_text())
            if self.report.get("arguments") != arguments:
                before = self.report.get("arguments", "an earlier form of this script")
                sys.exit(f"{file} is of {before}, and this is {arguments}: give another --name.")

    @property
    def rows(self) -> list[Row]:
        """One for each network."""
        return self.report["rows"]

    def has(self, **key: Any) -> bool:
        """Whether a network is there."""
        return any(row.items() >= key.items() for row in self.rows)

    def write(self, *rows: Row) -> None:
        """Add rows, and store all."""
        self.rows.extend(rows)
        self.file.write_text(json.dumps(self.report, indent=1) + "\n")
        self.file.with_suffix(".md").write_text("\n".join(self._table(self.rows)) + "\n")
        for row in rows:
            print(
                *(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
            )
        sys.stdout.flush()


def markdown(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return [lines[0], "|---" * len(heads) + "|", *lines[1:]]


def told(values: list[float]) -> str:
    """Mean and, where there are several values, its interval (95 %, Student's t)."""
    mean = f"{np.mean(values):+.2f}"
    return f"{mean} ({stats.t.ppf(0.975, len(values) - 1) * stats.sem(values):.2f})" if len(values) > 1 else mean


LEAST_LOSS = "least loss"  # of those that are not random


def chosen(rows: list[Row]) -> list[Row]:
    """Rows of the network of each supernet and limit that has the least loss on VALID when it is repaired."""
    found = []
    repaired = [row for row in rows if row["way"] == "repaired" and row["choice"] != "random"]
    for place in dict.fromkeys((row["task"], row["limit"]) for row in repaired):
        best = min((row for row in repaired if (row["task"], row["limit"]) == place), key=lambda row: row["valid_loss"])
        network = {key: best[key] for key in ("task", "limit", "choice", "number")}
        found += [row | {"choice": LEAST_LOSS} for row in rows if row.items() >= network.items()]
    return found


def table(rows: list[dict]) -> list[str]:
    """Markdown lines: for each limit, choice and way, accuracy in % on VALID (and TEST), and less the dense network's.

    Args:
        rows: of one network each: task, limit, choice, number, way, relative_macs, valid, and test where it was read.
    """
    splits = ["valid", "test"][: 1 + all("test" in row for row in rows)]
    dense = {row["task"]: row for row in rows if row["choice"] == "dense"}
    columns = [head for split in splits for head in (split.upper(), "less dense (95 % interval)")]
    lines = []
    rows = [*rows, *chosen(rows)]
    limits = sorted({row["limit"] for row in rows}, reverse=True)
    choices, ways = (list(dict.fromkeys(row[key] for row in rows)) for key in ("choice", "way"))
    for limit, way, choice in product(limits, ways, choices):
        here = [row for row in rows if (row["limit"], row["choice"], row["way"]) == (limit, choice, way)]
        if not here:
            continue
        by_task = {task: [row for row in here if row["task"] == task] for task in dense}
        count = len({row["task"] for row in here})
        cells = [f"{limit:g}", choice, way, str(count), f"{np.mean([row['relative_macs'] for row in here]):.3f}"]
        for split in splits:
            means = {task: float(np.mean([row[split] for row in found])) for task, found in by_task.items() if found}
            cells.append(f"{np.mean(list(means.values())):.2f}")
            cells.append(told([mean - dense[task][split] for task, mean in means.items()]))
        lines.append(cells)
    note = "Accuracy in %, mean over supernets; of several networks of one supernet, their mean."
    least = f"{LEAST_LOSS.capitalize()}: of the networks that are not random, repaired, the one that has it on VALID."
    return [*markdown(["limit", "choice", "way", "supernets", "MACs", *columns], lines), "", f"{note} {least}"]
