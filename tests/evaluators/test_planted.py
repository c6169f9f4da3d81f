import subprocess
import sys
import time

import numpy as np
import pytest

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.errors import InvalidValue, UnknownName
from ads_gym.evaluators.base import Evaluator
from ads_gym.evaluators.planted import CONTEXT_BITS, Kind, PlantedEvaluator
from ads_gym.evaluators.table import every_mask
from ads_gym.nets.cost import architecture_cost

SMALL = DenseNetConfig((6, 6, 6))


def random_masks(evaluator, count, seed=0):
    return np.random.default_rng(seed).random((count, evaluator.topology.size)) < 0.5


@pytest.mark.parametrize("scope", ["layers", "all"])
@pytest.mark.parametrize("kind", list(Kind))
def test_the_optimum_alone_agrees_wholly(kind, scope):
    evaluator = PlantedEvaluator(SMALL, scope, kind, seed=3)
    assert isinstance(evaluator, Evaluator)
    best = evaluator.evaluate(evaluator.optimum[None])[0]
    assert (best.accuracy, best.soft_accuracy, best.loss) == (1.0, 1.0, 0.0)
    others = evaluator.evaluate(random_masks(evaluator, 200))
    assert max(metrics.accuracy for metrics in others) < 0.85
    assert all(metrics.loss == 1 - metrics.accuracy for metrics in others)


def test_the_best_and_the_worst_of_a_rugged_landscape_are_those_of_brute_force():
    evaluator = PlantedEvaluator(DenseNetConfig((4, 4)), kind="rugged", seed=2)
    agreement = np.array([metrics.accuracy for metrics in evaluator.evaluate(every_mask(12))])
    assert (agreement.min(), agreement.max()) == (0, 1) and (agreement == 1).sum() == 1
    assert np.array_equal(every_mask(12)[agreement.argmax()], evaluator.optimum)


def test_a_rugged_landscape_has_many_local_optima():
    evaluator = PlantedEvaluator(DenseNetConfig((4, 4)), kind="rugged", seed=2)
    agreement = np.array([metrics.accuracy for metrics in evaluator.evaluate(every_mask(12))])
    rows = np.arange(1 << 12)
    is_top = np.all([agreement > agreement[rows ^ (1 << bit)] for bit in range(12)], axis=0)
    assert is_top.sum() > 20
    assert PlantedEvaluator(DenseNetConfig((2,)), kind="rugged").optimum.shape == (1,)


def test_every_bit_of_a_linear_mask_counts_alike():
    evaluator = PlantedEvaluator(SMALL, kind="linear", seed=1)
    flipped = evaluator.optimum ^ np.eye(evaluator.topology.size, dtype=bool)
    assert {metrics.accuracy for metrics in evaluator.evaluate(flipped)} == {44 / 45}


def test_pairwise_bits_depend_on_earlier_ones():
    evaluator = PlantedEvaluator(SMALL, kind="pairwise", seed=1)
    masks = random_masks(evaluator, 100)
    right = evaluator.right_bits(masks)
    assert (right[:, ::2] == right[0, ::2]).all()  # these depend on nothing
    assert all(0 < share < 1 for share in right[:, 1::2].mean(axis=0))  # these do
    for bit in range(1, evaluator.topology.size, 2):  # and on nothing that comes later
        later = masks.copy()
        later[:, bit:] ^= True
        assert (evaluator.right_bits(later)[:, bit] == right[:, bit]).all()


def test_given_bits_are_free_of_credit_and_decide_the_rest():
    evaluator = PlantedEvaluator(DenseNetConfig((5, 5)), kind="given", seed=5)
    hidden = evaluator.optimum[CONTEXT_BITS:]  # its given bits are 0
    for given in np.ndindex(2, 2, 2):
        right = np.r_[given, hidden ^ [bool(given[i % CONTEXT_BITS]) for i in range(CONTEXT_BITS, 20)]].astype(bool)
        assert evaluator.evaluate(right[None])[0].accuracy == 1.0
    blind = evaluator.optimum.copy()
    blind[:CONTEXT_BITS] ^= True
    assert evaluator.evaluate(blind[None])[0].accuracy == 0.0


def test_costs_are_the_real_ones():
    evaluator = PlantedEvaluator(SMALL, "all", "linear")
    for mask, metrics in zip(masks := random_masks(evaluator, 5), evaluator.evaluate(masks), strict=True):
        assert (metrics.macs, metrics.parameters) == architecture_cost(Architecture(SMALL, mask, "all"))


@pytest.mark.parametrize("kind", list(Kind))
def test_a_mask_is_scored_alone_as_among_others(kind):
    evaluator = PlantedEvaluator(SMALL, kind=kind)
    masks = random_masks(evaluator, 64)
    together = evaluator.evaluate(masks)
    assert together == [evaluator.evaluate(mask[None])[0] for mask in masks]
    assert together[::-1] == evaluator.evaluate(masks[::-1])


def test_fingerprints_differ_where_metrics_do():
    evaluators = [
        PlantedEvaluator(SMALL),
        PlantedEvaluator(SMALL, seed=1),
        PlantedEvaluator(SMALL, kind="given"),
        PlantedEvaluator(SMALL, "all"),
        PlantedEvaluator(DenseNetConfig((6, 6, 6), growth=4)),
    ]
    assert len({evaluator.fingerprint for evaluator in evaluators}) == len(evaluators)
    assert PlantedEvaluator(SMALL).fingerprint == evaluators[0].fingerprint


def test_a_mask_takes_under_50_microseconds():
    evaluator = PlantedEvaluator(DenseNetConfig((12, 12, 12)), kind="pairwise")
    masks = random_masks(evaluator, 64)
    fastest = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        evaluator.evaluate(masks)
        fastest = min(fastest, (time.perf_counter() - start) / len(masks))
    assert fastest < 50e-6


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"kind": "linaer"}, UnknownName, "linear"),
        ({"scope": "layer"}, UnknownName, "layers"),
        ({"seed": -1}, InvalidValue, "seed"),
        ({"seed": 1.5}, InvalidValue, "seed"),
        ({"config": DenseNetConfig((3,)), "kind": "given"}, InvalidValue, "more than 3"),
    ],
)
def test_bad_arguments(arguments, error, says):
    with pytest.raises(error, match=says):
        PlantedEvaluator(**{"config": SMALL} | arguments)


def test_bad_masks():
    with pytest.raises(InvalidValue, match="45 bits"):
        PlantedEvaluator(SMALL).evaluate(np.zeros((2, 44), bool))


def test_needs_no_torch():
    code = "import sys, ads_gym.evaluators.planted; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
