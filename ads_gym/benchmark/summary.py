"""The runs of a benchmark, task by task: scores, and when they arrived.

Shapes: S supernets, K seeds.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ads_gym.benchmark.records import Played, Results, Supernet
from ads_gym.benchmark.statistics import Comparison, Floats, arrival, compare, scores, spent_until

ALL = 2**62  # more than any budget


@dataclass(frozen=True, eq=False)
class OfTask:
    """What a benchmark says of one task."""

    task: str
    supernets: Sequence[Supernet]
    agents: dict[str, list[list[Played]]]  # [S][K] runs of each agent that has all of them
    missing: dict[str, str]  # agent -> why it is not compared

    @property
    def best_known(self) -> Floats:
        """[S]: the best objective that anybody found, or that there is."""
        found = [
            [run.best for runs in self.agents.values() for run in runs[number]] for number in range(len(self.supernets))
        ]
        known = [[] if each.optimum is None else [each.optimum] for each in self.supernets]
        return np.array(
            [
                max([*one, *other, each.random_mean])
                for one, other, each in zip(found, known, self.supernets, strict=True)
            ]
        )

    @property
    def random_means(self) -> Floats:
        """[S]."""
        return np.array([each.random_mean for each in self.supernets])

    def scores(self, agent: str, spent: int) -> Floats:
        """Scores [S, K] of an agent's runs after so much of the budget; 0 before their first evaluation."""
        within = [[best_within(run, spent) for run in runs] for runs in self.agents[agent]]
        means = self.random_means[:, None]
        return scores(np.where(np.isnan(within), means, within), self.random_means, self.best_known)

    def arrivals(self, agent: str) -> Floats:
        """What runs [S, K] had spent when 1 % of the way to the best known was left; infinite where it never was."""
        targets = [arrival(mean, best) for mean, best in zip(self.random_means, self.best_known, strict=True)]
        return np.array(
            [
                [
                    spent_until(
                        np.array([value for _, value in run.improved]), np.array([n for n, _ in run.improved]), target
                    )
                    for run in runs
                ]
                for runs, target in zip(self.agents[agent], targets, strict=True)
            ]
        )

    def compared(self) -> list[Comparison]:
        """All pairs of agents, by the scores of whole runs; none where one supernet is played once."""
        return compare({agent: self.scores(agent, ALL) for agent in self.agents})


def best_within(run: Played, spent: int) -> float:
    """The best objective of a run after so much of the budget; NaN before its first evaluation."""
    return max((value for after, value in run.improved if after <= spent), default=math.nan)


def spent_by(run: Played, target: float) -> float:
    """What a run had spent when it reached an objective; infinite if it never did."""
    spent, objectives = zip(*run.improved, strict=True)
    return spent_until(np.array(objectives), np.array(spent), target)


def by_task(results: Results) -> Iterator[OfTask]:
    """The runs of each task, in the plan's order."""
    for task in results.plan.tasks:
        supernets = [each for each in results.supernets if each.task == task]
        runs = {(each.supernet, each.agent, each.seed): each for each in results.played}
        agents, missing = {}, {}
        for agent in results.plan.agents:
            table = [[runs.get((each.name, agent, seed)) for seed in range(results.plan.seeds)] for each in supernets]
            whole = [[run for run in row if run is not None] for row in table]
            if all(len(row) == results.plan.seeds for row in whole):
                agents[agent] = whole
                continue
            names = {each.name for each in supernets}
            whys = [each for each in results.missing if each.agent == agent and each.supernet in names]
            missing[agent] = (
                "n/a" if all(each.seed is None for each in whys) else f"failed: {whys[0].why.strip().splitlines()[-1]}"
            )
        yield OfTask(task, supernets, agents, missing)
