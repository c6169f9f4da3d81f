"""Local search over single flips."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from marks import slow
from planted_problems import Counted, optimise, planted, problem_of

from ads_gym.agents.local_search import LocalSearch
from ads_gym.problem import make_problem

HISTORIES = {  # SHA-256 of the keys of the first masks (300 on planted-45, 64 on digits): reward soft, even cost weight
    ("planted-45", None, 0): "9342953d1f8df97b",
    ("planted-45", None, 1): "d40865be95dafe24",
    ("planted-45", 0.6, 0): "c287148e7fa5cc89",
    ("planted-45", 0.6, 1): "d8aeaa21fdc16213",
    ("digits", None, 0): "ae3160aae2b8c78c",
    ("digits", 0.6, 1): "8180c99aa4190bc1",
}


@pytest.mark.parametrize(("task", "limit", "seed"), [slow(*key) if key[0] == "digits" else key for key in HISTORIES])
def test_its_history_never_changes(task, limit, seed):
    problem = make_problem(task, reward="soft", cost_weight="even", max_macs=limit, device="cpu")
    counted = Counted(problem.evaluator, 64 if task == "digits" else 300)
    problem = replace(problem, evaluator=counted)
    optimise(LocalSearch(problem, seed=seed), problem)
    problem.close()
    keys = [problem.topology.key(mask).hex() for mask in counted.masks]
    assert len(keys) == counted.budget
    assert hashlib.sha256("".join(keys).encode()).hexdigest()[:16] == HISTORIES[task, limit, seed]


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
    made = LocalSearch(problem, seed=0, starts=1)
    (best,) = made.ask(1)
    (top,) = problem.score(best[None])
    made.tell(best[None], [top])
    taken = 0
    while top.objective < 1:  # agreement has no other local optimum
        (mask,) = made.ask(1)
        assert (mask ^ best).sum() == 1
        (score,) = problem.score(mask[None])
        made.tell(mask[None], [score])
        if score.objective > top.objective:
            best, top, taken = mask, score, taken + 1
    assert taken > 3
