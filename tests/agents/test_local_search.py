"""Local search over single flips."""

import hashlib

import numpy as np
import pytest
from planted_problems import optimise, planted, problem_of

from ads_gym.agents.local_search import LocalSearch
from ads_gym.problem import make_problem

HISTORIES = {  # SHA-256 of the keys of the first 300 masks on planted-45: reward soft, even cost weight
    (None, 0): "9342953d1f8df97b",
    (None, 1): "d40865be95dafe24",
    (0.6, 0): "c287148e7fa5cc89",
    (0.6, 1): "d8aeaa21fdc16213",
}


@pytest.mark.parametrize(("limit", "seed"), HISTORIES)
def test_its_history_never_changes(limit, seed):
    evaluator = make_problem("planted-45").evaluator
    problem, counted = problem_of(evaluator, 300, reward="soft", cost_weight="even", max_macs=limit)
    optimise(LocalSearch(problem, seed=seed), problem)
    keys = [problem.topology.key(mask).hex() for mask in counted.masks]
    assert len(keys) == 300
    assert hashlib.sha256("".join(keys).encode()).hexdigest()[:16] == HISTORIES[limit, seed]


def test_it_reaches_the_top_and_never_repeats_itself():
    evaluator = planted(6, 6, 6)
    problem, counted = problem_of(evaluator, 400)
    optimise(LocalSearch(problem, seed=0), problem)
    assert any(np.array_equal(mask, evaluator.optimum) for mask in counted.masks)
    assert counted.episodes == len(counted.history) == 400


def test_where_there_is_nothing_new_it_asks_for_known_masks():
    problem, counted = problem_of(planted(3), 20)  # 8 masks
    optimise(LocalSearch(problem, seed=0), problem)
    assert (len(counted.history), counted.episodes) == (8, 400)


def test_it_takes_the_first_flip_that_improves():
    problem, _ = problem_of(planted(5, 5))
    made, best = LocalSearch(problem, seed=0, starts=1), None
    scores = []
    for _ in range(30):
        (mask,) = made.ask(1)
        if best is not None and scores[-1] < problem.topology.size:  # until the top, each is a flip from the best
            assert (mask ^ best).sum() == 1
        (score,) = problem.score(mask[None])
        made.tell(mask[None], [score])
        if best is None or score.objective > problem.score(best[None])[0].objective:
            best = mask
        scores.append(score.objective)
        if score.objective == 1:
            break
