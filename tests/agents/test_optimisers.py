"""What all optimisers of ours do: random, density, bernoulli, local, evolution, bayes, tpe, nsga2."""

import subprocess
import sys

import numpy as np
import pytest
from marks import slow
from planted_problems import history, optimise, planted, problem_of

from ads_gym.agents.base import Optimiser
from ads_gym.agents.bayes.agent import Bayes
from ads_gym.agents.bernoulli import Bernoulli
from ads_gym.agents.density import Density
from ads_gym.agents.evolution import Evolution
from ads_gym.agents.local_search import LocalSearch
from ads_gym.agents.nsga2 import NSGA2
from ads_gym.agents.random_search import RandomSearch
from ads_gym.agents.registry import Kind, find_agent
from ads_gym.agents.tpe import TPE
from ads_gym.errors import InvalidValue
from ads_gym.problem import make_problem

OPTIMISERS = [RandomSearch, Density, Bernoulli, LocalSearch, Evolution, Bayes, TPE, NSGA2]
NAMES = ["random", "density", "bernoulli", "local", "evolution", "bayes", "tpe", "nsga2"]


def test_they_are_registered():
    assert [find_agent(name).make for name in NAMES] == OPTIMISERS
    assert {find_agent(name).kind for name in NAMES} == {Kind.OPTIMISER}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("n", [1, 5, 40])
def test_it_asks_for_at_most_n_masks_that_fit(optimiser, n):
    problem, _ = problem_of(planted(6, 6, 6), max_macs=0.5, cost_weight=0.1)
    made = optimiser(problem, seed=0)
    for _ in range(12 if n < 40 else 3):
        masks = made.ask(n)
        assert masks.dtype == np.bool_ and masks.shape[1:] == (45,) and 1 <= len(masks) <= n
        made.tell(masks, problem.score(masks))  # which raises above the limit


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_it_spends_its_budget_within_the_limit(optimiser):
    problem, counted = problem_of(planted(6, 6), 60, max_macs=0.7, cost_weight=0.1)
    optimise(optimiser(problem, seed=1), problem)
    assert len(counted.history) == 60
    assert max(metrics.relative_macs for metrics in counted.metrics) <= 0.7


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_the_seed_decides(optimiser):
    first, again, other = (history(optimiser, planted(5, 5), 80, seed=seed) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_longer_search_begins_like_a_shorter_one(optimiser):
    short, long = (history(optimiser, planted(5, 5), budget) for budget in (50, 120))
    assert len(short) == 50 < len(long) and long[:50] == short


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_where_all_masks_are_known_the_search_ends(optimiser):
    assert len(history(optimiser, planted(3), 20)) <= 8


@pytest.mark.parametrize(
    ("optimiser", "better"),
    [(Bernoulli, 0.75), (LocalSearch, 0.9), (Evolution, 0.85), (Bayes, 0.95), slow(TPE, 0.85), (NSGA2, 0.75)],
)
def test_it_is_better_than_random(optimiser, better):
    best = {}
    for each in (optimiser, RandomSearch):
        problem, counted = problem_of(planted(6, 6, 6), 300)
        optimise(each(problem, seed=0), problem)
        best[each] = max(metrics.accuracy for metrics in counted.metrics)
    assert best[optimiser] > better and best[optimiser] > best[RandomSearch]


@pytest.mark.parametrize("optimiser", [Bernoulli, LocalSearch, Evolution, Bayes])
def test_no_whole_mask_is_right_where_decisions_are_given_at_random(optimiser):
    """A mask's first three bits are replaced by random ones before it is scored: the rest cannot follow them."""
    evaluator = planted(4, kind="given")
    problem, _ = problem_of(evaluator)
    rng = np.random.default_rng(0)

    def score(masks):
        given = masks.copy()
        given[:, :3] = rng.integers(0, 2, (len(masks), 3))
        return problem.score(given)

    made = optimiser(problem, seed=0)
    for _ in range(100):
        masks = made.ask(made.batch_size)
        made.tell(masks, score(masks))
    final = np.concatenate([made.ask(made.batch_size) for _ in range(50)]) if optimiser is not LocalSearch else None
    if optimiser is LocalSearch:
        final = np.repeat(made._best[None], 400, axis=0)
    assert np.mean([each.objective for each in score(final)]) < 0.7


@pytest.mark.parametrize(
    ("optimiser", "options"),
    [
        (LocalSearch, {"starts": 0}),
        (LocalSearch, {"kick": 0}),
        (Bernoulli, {"batch_size": 1}),
        (Bernoulli, {"n_epochs": 1.5}),
        (Bernoulli, {"clip_range": float("nan")}),
        (Density, {"learning_rate": 0}),
        (Density, {"learning_rate": "fast"}),
        (Bayes, {"warmup": 0}),
        (Bayes, {"starts": True}),
        (Bayes, {"kappa": -1}),
        (TPE, {"candidates": 0}),
        (TPE, {"multivariate": 1}),
        (NSGA2, {"population": 1}),
        (NSGA2, {"crossover": 1.5}),
        (NSGA2, {"flips": 0}),
    ],
)
def test_options_out_of_range_are_refused(optimiser, options):
    ((name, value),) = options.items()
    with pytest.raises(InvalidValue, match=f"{name} should be .*got {value!r}"):
        optimiser(make_problem("planted-20"), **options)


def test_the_base_class_is_not_complete():
    with pytest.raises(TypeError, match="abstract"):
        Optimiser(make_problem("planted-20"))


def test_random_search_draws_from_the_problem():
    problem = make_problem("planted-45", max_macs=0.6)
    rng = np.random.default_rng(5)
    drawn = RandomSearch(problem, seed=5).ask(20)
    np.testing.assert_array_equal(drawn, [problem.sample(rng) for _ in range(20)])


@pytest.mark.parametrize("limit", [None, 0.6])
def test_they_need_no_torch(limit):
    """In a process that cannot import it."""
    code = f"""
import sys
sys.modules["torch"] = None
from ads_gym.agents.registry import find_agent
from ads_gym.problem import make_problem

problem = make_problem("planted-45", reward="soft", cost_weight="even", max_macs={limit})
for name in {NAMES}:
    optimiser = find_agent(name).build(problem, 0, {{}})
    for _ in range(12):
        masks = optimiser.ask(optimiser.batch_size)
        optimiser.tell(masks, problem.score(masks))
    print(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == NAMES, done.stderr
