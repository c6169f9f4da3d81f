"""Tables that compare agents over seeds."""

import numpy as np


def curve(row: dict, evaluations: int) -> list[float]:
    """The best objective after 1, 2, ... evaluations."""
    return [max(value for n, value in row["improved"] if n <= done) for done in range(1, evaluations + 1)]


def difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Mean of paired differences [seeds] and its interval."""
    draws = np.random.default_rng(0).integers(0, len(ours), (10_000, len(ours)))
    low, high = np.percentile((ours - theirs)[draws].mean(axis=1), [2.5, 97.5])
    return f"{(ours - theirs).mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def table(
    rows: list[dict], agents: list[str], references: list[str], evaluations: int, baseline: str | None
) -> list[str]:
    """Markdown lines.

    Args:
        rows: of `benchmark_agents.play`.
        agents: a line each.
        references: what each is compared with, a column each.
        evaluations: of each run.
        baseline: whose mean is the lower end of the way to the best known; None: no such column.
    """
    curves = {a: np.array([curve(row, evaluations) for row in rows if row["agent"] == a]) for a in agents}
    known = max(best.max() for best in curves.values())
    target = known - 0.01 * (known - curves[baseline][:, -1].mean()) if baseline else known
    heads = ["agent", "1/4", "1/2", "all (sd)", *(f"ahead of {name}" for name in references)]
    heads += ["to the best known"] if baseline else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for agent, best in curves.items():
        quarter, half, end = (best[:, max(1, evaluations // n) - 1] for n in (4, 2, 1))
        reached = np.where(end >= target, (best >= target).argmax(axis=1) + 1, np.inf)
        ahead = [difference(end, curves[name][:, -1]) if name != agent else "-" for name in references]
        took = f"{np.median(reached):.0f} ({np.isfinite(reached).sum()} of {len(reached)})".replace("inf", "never")
        means = f"{quarter.mean():.4f} | {half.mean():.4f} | {end.mean():.4f} ({end.std(ddof=1):.4f})"
        lines.append(f"| {' | '.join([agent, means, *ahead, *([took] if baseline else [])])} |")
    return [*lines, "", f"Best known {known:.4f}; reached means {target:.4f} or more."] if baseline else lines
