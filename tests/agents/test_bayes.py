"""Bayesian optimisation, as a whole."""

import numpy as np
from planted_problems import history, optimise, planted, problem_of

from ads_gym.agents.bayes.agent import Bayes
from ads_gym.problem import Scored, make_problem


def test_it_finds_the_top_in_few_evaluations():
    problem, counted = problem_of(planted(6, 6, 6), 150)
    optimise(Bayes(problem, seed=0), problem)
    assert max(metrics.accuracy for metrics in counted.metrics) == 1


def test_it_begins_with_random_masks():
    problem = make_problem("planted-45", max_macs=0.6)
    made, rng = Bayes(problem, seed=3), np.random.default_rng(3)
    batches = []
    for _ in range(4):
        batches.append(made.ask(8))
        made.tell(batches[-1], problem.score(batches[-1]))
    np.testing.assert_array_equal(np.concatenate(batches), [problem.sample(rng) for _ in range(32)])
    assert problem.score(made.ask(8))[0].objective > max(s.objective for b in batches for s in problem.score(b))


def test_it_asks_for_no_known_mask_while_there_are_new_ones():
    problem, counted = problem_of(planted(5, 5), 200)
    made = Bayes(problem, seed=0)
    random_masks = {mask.tobytes() for mask in Bayes(problem, seed=0).ask(32)}
    optimise(made, problem)
    assert counted.episodes == 200 + 32 - len(random_masks)


def test_it_knows_the_cost_exactly():
    """Where the reward is the same everywhere, the first batch after the random masks has the cheapest one."""
    problem, _ = problem_of(planted(5, 5), cost_weight=1.0)
    made = Bayes(problem, seed=1, warmup=8)
    masks = made.ask(8)
    assert masks.any(axis=1).all()
    costs = problem.cost.relative_cost(masks)
    made.tell(masks, [Scored(None, 0.5 - cost) for cost in costs])
    assert not made.ask(8)[0].any()


def test_its_history_does_not_depend_on_the_batches_of_random_masks():
    problem, _ = problem_of(planted(5, 5))
    whole, parts = Bayes(problem, seed=0), Bayes(problem, seed=0)
    for made, sizes in ((whole, [32]), (parts, [8] * 4)):
        for size in sizes:
            masks = made.ask(size)
            made.tell(masks, problem.score(masks))
    np.testing.assert_array_equal(whole.ask(8), parts.ask(8))


def test_more_standard_deviations_explore_more():
    evaluator = planted(6, 6, 6)
    masks = {kappa: history(Bayes, evaluator, 48, options={"kappa": kappa})[32:] for kappa in (0.0, 30.0)}
    problem, _ = problem_of(evaluator)
    objective = {
        kappa: np.mean([s.objective for s in problem.score(np.array([np.frombuffer(m, np.bool_) for m in each]))])
        for kappa, each in masks.items()
    }
    assert objective[0.0] > objective[30.0]
