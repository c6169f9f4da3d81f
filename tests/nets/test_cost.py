import numpy as np
import pytest

from ads_gym.architecture import DenseNetConfig
from ads_gym.nets.cost import CostTable, readers_macs
from ads_gym.topology import Scope


@pytest.mark.parametrize(
    ("stem", "compression", "parameters", "macs"),
    [(16, 1.0, 1_019_722, 264.8e6), (24, 1.0, 1_059_298, 282.9e6), (24, 0.5, 599_050, 205.9e6)],
)
def test_the_three_published_densenet_40(stem, compression, parameters, macs):
    table = CostTable(DenseNetConfig((12, 12, 12), 12, stem, compression=compression))
    assert table.dense_parameters == parameters
    assert table.dense_macs == pytest.approx(macs, rel=5e-4)
    assert table.topology.size == 198


@pytest.mark.parametrize(
    ("scope", "size", "parameters", "macs"), [(Scope.LAYERS, 198, 221_122, 77.8e6), (Scope.ALL, 234, 102_562, 30.8e6)]
)
def test_the_floors_of_densenet_40(scope, size, parameters, macs):
    table = CostTable(DenseNetConfig((12, 12, 12), 12, 16), scope)
    chain = table.topology.chain()
    assert (table.topology.size, int(table.parameters(chain))) == (size, parameters)
    assert float(table.macs(chain)) == pytest.approx(macs, rel=1e-3)


def test_relative_numbers_run_from_the_floor_to_one():
    table = CostTable(DenseNetConfig((3, 4), 4, 6), Scope.ALL)
    ends = np.stack([table.topology.chain(), table.topology.dense()])
    assert table.relative_cost(ends).tolist() == [0.0, 1.0]
    assert table.relative_macs(ends).tolist() == [table.least_macs / table.dense_macs, 1.0]
    assert table.relative_costs.sum() == pytest.approx(1.0)


def test_a_random_mask_comes_as_near_its_cost_as_one_connection_allows():
    table, rng = CostTable(DenseNetConfig((6, 6, 6), 4, 8)), np.random.default_rng(0)
    masks = [table.random_mask(rng, cost) for cost in np.linspace(0, 1, 50)]
    far = np.abs(table.relative_cost(np.stack(masks)) - np.linspace(0, 1, 50))
    assert far.max() <= table.relative_costs.max() / 2 + 1e-12
    assert not masks[0].any() and masks[-1].all()
    assert len({mask.tobytes() for mask in masks}) == 50


def test_what_those_behind_a_node_spend_on_reading_it():
    config = DenseNetConfig((2, 1), 3, 4, image_shape=(1, 8, 8), classes=10)
    convolution, pixels = 9 * 3, (64, 16)
    assert readers_macs(config).tolist() == [
        convolution * 3 * pixels[0] + 3 * 10 * pixels[0],  # layer 1: layer 2 and the transition
        3 * 10 * pixels[0],  # layer 2: the transition
        convolution * 10 * pixels[1] + 10 * 10,  # the transition: layer 1 and the classifier
        3 * 10,  # layer 1: the classifier
        0,
    ]
