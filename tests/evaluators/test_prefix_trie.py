import numpy as np
import pytest
from networks import KINDS

from ads_gym.evaluators.prefix_trie import shared_out
from ads_gym.nets.cost import CostTable, readers_macs
from ads_gym.nets.densenet import kept_sources
from ads_gym.topology import Scope


def plans_of(config, masks):
    return sorted(kept_sources(config, mask, Scope.LAYERS) for mask in masks)


def nodes_macs(plans, macs):
    """Of the nodes that a walk makes beyond those of its first mask, counted one by one."""
    nodes = {tuple(plan[: depth + 1]) for plan in plans for depth in range(len(plan))}
    return sum(int(macs[len(node) - 1]) for node in nodes) - int(macs.sum())


@pytest.mark.parametrize("config", KINDS, ids=str)
@pytest.mark.parametrize("walks", [1, 2, 3, 7, 100])
def test_shares_hold_every_mask_once_and_equal_work(config, walks):
    topology, macs, rng = CostTable(config).topology, readers_macs(config), np.random.default_rng(walks)
    near = np.repeat(rng.random((1, topology.size)) < 0.5, 40, axis=0)
    near[np.arange(40), rng.integers(0, topology.size, 40)] ^= True
    far = rng.random((40, topology.size)) < 0.5
    for masks in (near, far, np.concatenate([far[:5], near])):
        plans = plans_of(config, masks)
        shares = shared_out(plans, macs, walks)
        assert len(shares) <= walks
        assert [plan for share in shares for plan in plans[share]] == plans
        assert max(nodes_macs(plans[share], macs) for share in shares) <= nodes_macs(plans, macs) / walks


@pytest.mark.parametrize("masks", [1, 5])
def test_masks_that_are_all_equal_are_one_share(masks):
    config = KINDS[0]
    plans = plans_of(config, [CostTable(config).topology.dense()] * masks)
    assert shared_out(plans, readers_macs(config), 4) == [slice(0, masks)]
