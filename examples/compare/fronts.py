"""Fronts of accuracy against MACs: networks that were cut beside dense ones that were trained at their size."""

from pathlib import Path
from typing import Any

import numpy as np
from compare.labels import markdown, told

Row = dict[str, Any]


def network_and_seed(row: Row) -> tuple[str, str]:
    """Of a row of the task k10-3: ("k10", "3")."""
    name, _, seed = row["task"].rpartition("-")
    return name, seed


def dense_front(rows: list[Row], seed: str) -> tuple[list[Row], list[int]]:
    """The dense networks of a seed by MACs, and these."""
    dense = [row for row in rows if row["choice"] == "dense" and network_and_seed(row)[1] == seed]
    dense.sort(key=lambda row: row["macs"])
    return dense, [row["macs"] for row in dense]


def less_dense(row: Row, rows: list[Row], split: str) -> float:
    """Accuracy less that of dense networks of as many MACs and of the same seed, interpolated between two of them."""
    dense, macs = dense_front(rows, network_and_seed(row)[1])
    return row[split] - float(np.interp(row["macs"], macs, [each[split] for each in dense]))


def grouped(rows: list[Row]) -> dict[tuple[str, float, str], list[Row]]:
    """Rows by (network, limit, way), each with one row a seed; those of the least MACs first."""
    groups: dict[tuple[str, float, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["macs"]):
        groups.setdefault((network_and_seed(row)[0], row["limit"], row["way"]), []).append(row)
    return groups


def paired(rows: list[Row]) -> list[str]:
    """Markdown lines: every network, and how much better those that were cut are than dense ones of as many MACs."""
    splits = ["valid", "test"][: 1 + all("test" in row for row in rows)]
    columns = [head for split in splits for head in (split.upper(), "less dense of as many MACs (95 % interval)")]
    lines = []
    for (network, limit, way), group in grouped(rows).items():
        cells = [network, f"{limit:g}", way, str(len(group)), f"{np.mean([row['macs'] for row in group]) / 1e6:.2f}"]
        for split in splits:
            cells.append(f"{np.mean([row[split] for row in group]):.2f}")
            cells.append("" if way == "dense" else told([less_dense(row, rows, split) for row in group]))
        lines.append(cells)
    heads = ["network", "cut to", "way", "seeds", "million MACs", *columns]
    return [*markdown(heads, lines), "", "Accuracy in %, mean over seeds; differences are paired by seed."]


def draw(rows: list[Row], file: Path) -> None:
    """Accuracy (on TEST, where all of it was read) against MACs: means over seeds, and standard errors."""
    from matplotlib.figure import Figure

    split = "test" if all("test" in row for row in rows) else "valid"
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    groups = grouped(rows)
    for label, ways, networks in [
        ("dense, each trained", {"dense"}, None),
        *(
            (f"{name}, trained once, {way}", {way, "dense"}, {name})
            for name in ("k10", "k12")
            for way in ("repaired", "distilled")
        ),
    ]:
        chosen = [
            group for (name, _, way), group in groups.items() if way in ways and (networks is None or name in networks)
        ]
        values = np.array(
            [
                [np.mean([row["macs"] for row in group]) / 1e6, np.mean([row[split] for row in group])]
                for group in chosen
            ]
        )
        errors = [
            np.std([row[split] for row in group], ddof=min(1, len(group) - 1)) / len(group) ** 0.5 for group in chosen
        ]
        axes.errorbar(
            *values.T, yerr=errors, marker="o", capsize=3, label=label, color="black" if networks is None else None
        )
    axes.set(xlabel="million MACs", ylabel=f"accuracy on {split.upper()} images, %")
    axes.legend()
    figure.savefig(file, dpi=120)
