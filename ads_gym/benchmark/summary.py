"""The runs of a benchmark, task by task: scores, and when they arrived.

Shapes: S supernets, K seeds.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ads_gym.benchmark.records import Missing, Played, Results, Supernet
from ads_gym.benchmark.statistics import Comparison, Floats, arrival, compare, scores, spent_until

ALL = 2**62  # more than any budget


@dataclass(frozen=True, eq=False)
class OfTask:
    """What a benchmark says of one task."""

    task: str
    supernets: Sequence[Supernet]
    played: Sequence[Played]  # all runs, those of agents that have not all of them too
    agents: dict[str, list[list[Played]]]  # [S][K] runs of each agent that has all of them
    missing: dict[str, str]  # agent -> why it is not compared

    @property
    def best_known(self) -> Floats:
        """[S]: the best objective that anybody found, or that there is."""
        known = {each.name: [each.random_mean] for each in self.supernets}
        for each in self.supernets:
            known[each.name] += [] if each.optimum is None else [each.optimum]
        for run in self.played:
            known[run.supernet].append(run.best)
        return np.array([max(known[each.name]) for each in self.supernets])

    @property
    def random_means(self) -> Floats:
        """[S]."""
        return np.array([each.random_mean for each in self.supernets])

    @property
    def not_ranked(self) -> str | None:
        """Why nothing can be ranked, in a sentence; None where something can."""
        above = self.best_known > self.random_means
        flat = [each.name for each, better in zip(self.supernets, above, strict=True) if not better]
        if flat or not self.supernets:
            told = f"on {', '.join(flat)} nobody found anything better than random masks are on average"
            return f"Nothing is ranked: {told if flat else 'no supernet was played on'}."
        return None

    def score_of(self, run: Played) -> float:
        """The score of a whole run."""
        place = [each.name for each in self.supernets].index(run.supernet)
        mean, best = self.random_means[[place]], self.best_known[[place]]
        return float(scores(np.array([[run.best]]), mean, best)[0, 0])

    def scores(self, agent: str, spent: int) -> Floats:
        """Scores [S, K] of an agent's runs after so much of the budget; 0 before their first evaluation."""
        within = [[best_within(run, spent) for run in runs] for runs in self.agents[agent]]
        means = self.random_means[:, None]
        return scores(np.where(np.isnan(within), means, within), self.random_means, self.best_known)

    def arrivals(self, agent: str) -> Floats:
        """What runs [S, K] had spent when 1 % of the way to the best known was left; infinite where it never was."""
        targets = [arrival(mean, best) for mean, best in zip(self.random_means, self.best_known, strict=True)]
        return np.array(
            [[spent_by(run, target) for run in runs] for runs, target in zip(self.agents[agent], targets, strict=True)]
        )

    def compared(self) -> list[Comparison]:
        """All pairs of agents, by the scores of whole runs.

        Raises:
            InvalidValue: too few supernets to tell any two agents apart.
        """
        return compare({agent: self.scores(agent, ALL) for agent in self.agents})


def best_within(run: Played, spent: int) -> float:
    """The best objective of a run after so much of the budget; NaN before its first evaluation."""
    return max((value for after, value in run.improved if after <= spent), default=math.nan)


def spent_by(run: Played, target: float) -> float:
    """What a run had spent when it reached an objective; infinite if it never did."""
    spent, objectives = zip(*run.improved, strict=True)
    return spent_until(np.array(objectives), np.array(spent), target)


def last_line(missing: Missing) -> str:
    """What went wrong, without the traceback."""
    return (missing.why.strip().splitlines() or ["nobody knows why"])[-1]


def by_task(results: Results) -> Iterator[OfTask]:
    """The runs of each task, in the plan's order."""
    for task in results.plan.tasks:
        supernets = [each for each in results.supernets if each.task == task]
        names = {each.name for each in supernets}
        played = [each for each in results.played if each.supernet in names]
        runs = {(each.supernet, each.agent, each.seed): each for each in played}
        agents, missing = {}, {}
        for agent in results.plan.agents:
            table = [[runs.get((each.name, agent, seed)) for seed in range(results.plan.seeds)] for each in supernets]
            whole = [[run for run in row if run is not None] for row in table]
            if all(len(row) == results.plan.seeds for row in whole):
                agents[agent] = whole
                continue
            whys = [each for each in results.missing if each.agent == agent and each.supernet in names]
            failed = [each for each in whys if each.seed is not None]
            missing[agent] = f"failed: {last_line(failed[0])}" if failed else "n/a"
        yield OfTask(task, supernets, played, agents, missing)
