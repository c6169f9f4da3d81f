"""A problem: made once, handed to everybody."""

import pickle
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from ads_gym.architecture import DenseNetConfig
from ads_gym.errors import AdsGymError, InvalidValue, UnknownName
from ads_gym.evaluators.base import Evaluator, ForeignEvaluator, Metrics
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.evaluators.store import EvaluationStore
from ads_gym.nets.cost import CostTable
from ads_gym.problem import Problem, Scored, make_problem
from ads_gym.topology import Topology

CONFIG = DenseNetConfig((5, 5), growth=4, stem_channels=8, image_shape=(1, 8, 8))


def masks_of(count, seed=0):
    return np.random.default_rng(seed).random((count, 20)) < 0.5


class Watched:
    """Somebody's own evaluator: no base class."""

    def __init__(self, answer=None, fingerprint="mine"):
        self.config, self.topology, self.answer = CONFIG, Topology(CONFIG.blocks), answer
        if fingerprint is not False:
            self.fingerprint = fingerprint

    def evaluate(self, masks):
        metrics = PlantedEvaluator(CONFIG).evaluate(masks)
        return metrics if self.answer is None else self.answer(metrics)


class Derived(PlantedEvaluator):
    """Somebody's own evaluator, which answers with other numbers."""

    def __init__(self, **others):
        super().__init__(CONFIG)
        self.others = others

    def evaluate_checked(self, masks):
        return [replace(metrics, **self.others) for metrics in super().evaluate_checked(masks)]


def test_scores_are_metrics_and_their_objective():
    problem = make_problem("planted-20", cost_weight=0.3, reward="loss")
    scores = problem.score(masks_of(5))
    metrics = PlantedEvaluator(CONFIG).evaluate(masks_of(5))
    assert scores == [Scored(m, -m.loss - 0.3 * m.relative_cost) for m in metrics]


def test_even_is_resolved_once_and_lazily():
    class Counting(PlantedEvaluator):
        evaluated = 0

        def evaluate_checked(self, masks):
            self.evaluated += len(masks)
            return super().evaluate_checked(masks)

    evaluator = Counting(CONFIG)
    problem = make_problem("planted-20", evaluator=evaluator, cost_weight="even")
    assert evaluator.evaluated == 0
    dense, chain = problem.score([problem.topology.dense(), problem.topology.chain()])
    assert dense.objective == pytest.approx(chain.objective, abs=1e-15)
    problem.score(masks_of(3))
    assert evaluator.evaluated == 2 + 2 + 3


def test_a_reward_function_is_called_once_for_each_metrics():
    calls = []

    def reward(metrics):
        calls.append(metrics)
        return metrics.accuracy

    problem = make_problem("planted-20", reward=reward)
    for _ in range(3):
        problem.score(masks_of(4))
    assert len(calls) == len(set(calls)) <= 4


def test_projecting_drops_at_random_until_the_mask_fits_and_leaves_what_fits():
    problem = make_problem("planted-20", max_macs=0.7)
    kept = np.zeros(20, int)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        projected = problem.project(problem.topology.dense(), rng)
        assert problem.fits(projected)
        kept += projected
        problem.score(projected[None])
    assert kept.min() > 0 and kept.max() < 300  # in no order of blocks
    fitting = problem.sample(np.random.default_rng(1))
    assert problem.project(fitting, np.random.default_rng(2)) is fitting
    with pytest.raises(InvalidValue, match=r"Problem\.project"):
        problem.score(problem.topology.dense()[None])


def test_the_room_is_what_the_limit_leaves():
    for max_macs in (None, 0.7, 1):
        problem = make_problem("planted-20", max_macs=max_macs)
        cost = CostTable(CONFIG)
        limit = cost.dense_macs if max_macs is None else int(max_macs * cost.dense_macs)
        assert problem.room == limit - cost.least_macs


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        (np.zeros(20, bool), "shape"),
        (np.zeros((2, 19), bool), "20 bits"),
        (np.zeros((2, 20)), "float64"),
        (np.full((1, 20), 2), "0 and 1"),
        (None, "dtype object"),
    ],
)
def test_masks_that_cannot_be_scored(masks, says):
    with pytest.raises(InvalidValue, match=says):
        make_problem("planted-20").score(masks)


@pytest.mark.parametrize(
    ("evaluator", "says"),
    [
        (Watched(fingerprint=False), "has no fingerprint"),
        (Watched(fingerprint=None), "fingerprint of an evaluator is a string"),
        (Watched(lambda metrics: None), "gave NoneType metrics"),
        (Watched(lambda metrics: [None] * len(metrics)), "gives Metrics, got None"),
        (Watched(lambda metrics: metrics[:-1]), "asked for . masks and gave"),
        (Watched(lambda metrics: [replace(m, loss=float("nan")) for m in metrics]), "finite number, got nan"),
        (Watched(lambda metrics: [replace(m, accuracy=None) for m in metrics]), "accuracy .* valid number, got None"),
        (object(), "has no config"),
        (Derived(macs=10**30), "macs of the evaluator's metrics should be less than 9223372036854775808"),
        (PlantedEvaluator, "has no "),
        (Derived(macs=-1), "macs .* greater than or equal to 0, got -1"),
        (Derived(macs=1.5), "macs .* valid integer, got 1.5"),
        (Derived(parameters=True), "parameters .* valid integer, got True"),
        (Derived(loss=float("inf")), "loss .*, got inf"),
        (Derived(loss=1e300), "loss .* less than or equal to 10{30}, got 1e.300"),
        (Derived(accuracy="x"), "accuracy .* valid number, got 'x'"),
    ],
)
def test_an_evaluator_that_cannot_be_used_is_told(evaluator, says):
    with pytest.raises(InvalidValue, match=says):
        make_problem("planted-20", evaluator=evaluator).score(masks_of(3))
    with pytest.raises(InvalidValue, match=says):
        env = gym.make("ads_gym:DenseNetSparsify-v0", evaluator=evaluator, decision="network")
        env.reset()
        env.step(masks_of(1)[0].astype(int))
        env.unwrapped.problem.score(masks_of(3))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        *(
            (spec, r"callable as name\(task, scope\)")
            for spec in ("json:loads", "os:getpid", "builtins:int", "math:pi")
        ),
        ("builtins:repr", "callable as name"),
        ("builtins:print", "gave None, which is no Evaluator"),
        ("json:nothing", "nothing"),
        ("nowhere:x", "no module 'nowhere'"),
    ],
)
def test_a_name_that_makes_no_evaluator_is_told(spec, says):
    with pytest.raises(AdsGymError, match=says):
        make_problem("planted-20", evaluator=spec).score(masks_of(1))


def test_an_error_of_ones_own_evaluator_is_its_own(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("def make(task, scope):\n    return len(task)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TypeError, match="has no len") as caught:
        make_problem("planted-20", evaluator="broken:make").score(masks_of(1))
    assert not isinstance(caught.value, AdsGymError)


def test_an_evaluator_of_ones_own_needs_no_base_class():
    evaluator = Watched()
    assert isinstance(evaluator, Evaluator)
    problem = make_problem(evaluator=evaluator)
    assert isinstance(problem.evaluator.inner, ForeignEvaluator)
    assert problem.evaluator.fingerprint == "mine"
    assert [score.metrics for score in problem.score(masks_of(3))] == PlantedEvaluator(CONFIG).evaluate(masks_of(3))
    assert problem.task is None and problem.network is None and problem.name == "custom"


def test_metrics_may_have_more_than_is_asked_for():
    def answer(metrics):
        for each in metrics:
            object.__setattr__(each, "note", "x")
        return metrics

    (score,) = make_problem(evaluator=Watched(answer)).score(masks_of(1))
    assert not hasattr(score.metrics, "note")


def test_numbers_of_numpy_become_plain():
    def answer(metrics):
        return [Metrics(*(np.float32(value) for value in vars(m).values())) for m in metrics]

    (score,) = make_problem(evaluator=Watched(answer)).score(masks_of(1))
    assert [type(value) for value in vars(score.metrics).values()] == [float] * 3 + [int] * 2 + [float] * 2


def test_it_pickles_and_scores_the_same():
    problem = make_problem("digits", reward="soft", cost_weight="even", max_macs=0.9, device="cpu")
    masks = np.stack([problem.sample(np.random.default_rng(seed)) for seed in range(3)])
    scores = problem.score(masks)
    again: Problem = pickle.loads(pickle.dumps(problem))
    assert again.score(masks) == scores
    assert again.evaluator.fingerprint == problem.evaluator.fingerprint
    assert len(pickle.dumps(problem)) < 20_000  # neither weights nor images
    assert problem.network is not None and problem.network().config == problem.config


def test_nothing_is_read_before_the_first_evaluation():
    code = "import sys, ads_gym; ads_gym.make_problem('digits'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_store_is_used_and_closed(tmp_path):
    path = tmp_path / "store.sqlite"
    problem = make_problem("planted-20", store=path)
    problem.score(masks_of(4))
    problem.close()
    problem.score(masks_of(4))  # opens again
    problem.close()
    with EvaluationStore(path) as store:
        assert len(store) == 4


@pytest.mark.parametrize(
    ("keywords", "error", "says"),
    [
        ({"task": 3}, InvalidValue, "task should be"),
        ({"scope": "layer"}, UnknownName, "layers"),
        ({"store": 3}, InvalidValue, "store should be"),
        ({"reward": "acc"}, UnknownName, "accuracy"),
        ({"reward": "math:pi"}, InvalidValue, "should be a function"),
        ({"cost_weight": 101}, InvalidValue, "cost weight"),
        ({"max_macs": 0.01}, InvalidValue, "max_macs"),
        ({"evaluator": "planted"}, InvalidValue, "planted:KIND:SEED"),
        ({"evaluator": PlantedEvaluator(CONFIG), "scope": "all"}, InvalidValue, "scope"),
    ],
)
def test_bad_arguments(keywords, error, says):
    with pytest.raises(error, match=says):
        make_problem(**{"task": "planted-20"} | keywords).score(masks_of(1))


def test_an_environment_takes_a_problem_and_nothing_that_it_has():
    problem = make_problem("planted-20", cost_weight=0.5, max_macs=0.8)
    env = gym.make("ads_gym:DenseNetSparsify-v0", problem=problem, decision="layer", observation="flat")
    assert env.unwrapped.problem is problem
    with pytest.raises(InvalidValue, match="task, max_macs of its own"):
        gym.make("ads_gym:DenseNetSparsify-v0", problem=problem, task="digits-2", max_macs=0.5)


def test_a_store_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    problem = make_problem("planted-20", store="~/store.sqlite")
    problem.score(masks_of(1))
    problem.close()
    assert [path.name for path in tmp_path.iterdir()] == ["store.sqlite"]
