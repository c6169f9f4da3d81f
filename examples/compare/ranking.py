"""Kendall's tau between losses before and after training, for `benchmark_ranking.py`."""

import numpy as np
from compare.labels import Row, markdown
from scipy.stats import kendalltau

BEFORE = ("inherited", "repaired")


def table(rows: list[Row]) -> list[str]:
    """Markdown lines: for each task, tau of the loss before training and after so many epochs, and the mean losses."""
    after = [name for name in rows[0] if "epoch" in name]
    heads, lines = ["task", "masks", "loss", *(f"tau with that after {name}" for name in after)], []
    epochs = list(dict.fromkeys(name.rpartition(" from ")[0] for name in after))
    means = []
    for task in dict.fromkeys(row["task"] for row in rows):
        here = [row for row in rows if row["task"] == task]
        for before in BEFORE:
            cells = [told(np.array([[row[before], row[name]] for row in here])) for name in after]
            lines.append([task, str(len(here)), before, *cells])
            steps = (before, *(f"{name} from {before}" for name in epochs))
            means.append([task, before, *(f"{np.mean([row[step] for row in here]):.4f}" for step in steps)])
    return [
        *markdown(heads, lines),
        "",
        "In brackets: 95 % of 2,000 resamples of the masks.",
        "",
        *markdown(["task", "mean loss from", "at first", *(f"after {name}" for name in epochs)], means),
    ]


def told(pairs: np.ndarray) -> str:
    """Tau of pairs [n, 2], and its interval."""
    if len(pairs) < 3:
        return ""
    rng = np.random.default_rng(0)
    draws = [kendalltau(*pairs[rng.integers(0, len(pairs), len(pairs))].T).statistic for _ in range(2_000)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return f"{kendalltau(*pairs.T).statistic:.2f} [{low:.2f}, {high:.2f}]"
