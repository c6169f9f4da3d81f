"""Everybody plays on a supernet that no policy has seen, within several limits."""

from typing import Any

import numpy as np
from transfer.entrants import Make

from ads_gym.agents.pretrained.groups import Game
from ads_gym.agents.pretrained.validation import COUNTS, ROOMS, ends, score
from ads_gym.evaluators.base import Weights
from ads_gym.problem import Problem, make_problem
from ads_gym.tasks import SupernetTask

EPISODES = 20  # for each evaluation, at most: who repeats itself ends too


def scores(make: Make, task: SupernetTask, weights: Weights, seeds: int) -> list[float]:
    """Scores after 1, 8, 32 and 128 evaluations: means over limits and seeds.

    Args:
        make: of the entrant.
        task: with a table.
        weights: with which its architectures were scored.
        seeds: how many.
    """
    game, found = Game.of(task, weights), []
    free = make_problem(task, weights=weights)
    skip, least = free.cost.dense_macs - free.cost.least_macs, free.cost.least_macs
    for room in ROOMS:
        limit = None if room == 1 else (least + room * skip) / free.cost.dense_macs
        problem = make_problem(task, weights=weights, reward="soft", cost_weight="even", max_macs=limit)
        mean, best = ends(game, room)
        found += [score(play(make(problem, seed=seed), problem), mean, best) for seed in range(seeds)]
    return np.mean(found, axis=0).tolist()


def play(agent: Any, problem: Problem) -> np.ndarray:
    """The objectives of the masks that an optimiser asks for, each mask once, in their order."""
    known: set[bytes] = set()
    objectives: list[float] = []
    for _ in range(EPISODES * max(COUNTS)):
        masks = agent.ask(getattr(agent, "batch_size", 1))
        if not len(masks) or len(objectives) >= max(COUNTS):
            break
        scored = problem.score(masks)
        agent.tell(masks, scored)
        for mask, each in zip(masks, scored, strict=True):
            if mask.tobytes() not in known:
                known.add(mask.tobytes())
                objectives.append(each.objective)
    return np.array(objectives)
