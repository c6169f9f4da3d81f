"""Tables of the benchmark: scores, and who is ahead of whom."""

from collections.abc import Mapping

import numpy as np

from ads_gym.agents.pretrained.validation import COUNTS
from ads_gym.benchmark.statistics import FEWEST, interval

Rows = Mapping[str, np.ndarray]  # [S supernets, counts], by entrant


def table(rows: Rows) -> list[str]:
    """Mean scores, in Markdown."""
    heads = " | ".join(f"after {count}" for count in COUNTS)
    lines = [f"| entrant | {heads} |", "|---" * (1 + len(COUNTS)) + "|"]
    return lines + [
        f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in found.mean(axis=0)) + " |" for name, found in rows.items()
    ]


def differences(rows: Rows, one: str, others: tuple[str, ...]) -> list[str]:
    """By how much one is ahead of others on the same supernets, with 95 % intervals, in Markdown."""
    lines = [
        f"| {one} less | " + " | ".join(f"after {count}" for count in COUNTS) + " |",
        "|---" * (1 + len(COUNTS)) + "|",
    ]
    for other in others:
        cells = []
        for place in range(len(COUNTS)):
            column = (rows[one] - rows[other])[:, place : place + 1]
            if len(column) < FEWEST:
                cells.append(f"{column.mean():+.3f}")
                continue
            found = interval(column, lambda values: values.mean(axis=-1))
            cells.append(f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})")
        lines.append(f"| {other} | " + " | ".join(cells) + " |")
    return lines


def ships(rows: Rows, one: str, others: tuple[str, ...], counts: tuple[int, ...] = (8, 32)) -> bool:
    """Whether the interval of every difference is above 0 after so many evaluations: the rule that was fixed before."""
    places = [COUNTS.index(count) for count in counts]
    return all(
        interval((rows[one] - rows[other])[:, place : place + 1], lambda values: values.mean(axis=-1)).low > 0
        for other in others
        for place in places
    )
