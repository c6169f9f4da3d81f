import numpy as np
import pytest
from networks import KINDS

from ads_gym.evaluators.prefix_trie import split_by_work
from ads_gym.nets.cost import CostTable, readers_macs
from ads_gym.nets.densenet import kept_sources
from ads_gym.topology import Scope


def keys_of(config, masks):
    return sorted(kept_sources(config, mask, Scope.LAYERS) for mask in masks)


def nodes_macs(keys, macs):
    """Of the nodes that a traversal computes beyond those of its first mask, counted one by one."""
    nodes = {tuple(key[: depth + 1]) for key in keys for depth in range(len(key))}
    return sum(int(macs[len(node) - 1]) for node in nodes) - int(macs.sum())


@pytest.mark.parametrize("config", KINDS, ids=str)
@pytest.mark.parametrize("parts", [1, 2, 3, 7, 100])
def test_slices_hold_every_mask_once_and_equal_work(config, parts):
    topology, macs, rng = CostTable(config).topology, readers_macs(config), np.random.default_rng(parts)
    near = np.repeat(rng.random((1, topology.size)) < 0.5, 40, axis=0)
    near[np.arange(40), rng.integers(0, topology.size, 40)] ^= True
    far = rng.random((40, topology.size)) < 0.5
    for masks in (near, far, np.concatenate([far[:5], near])):
        keys = keys_of(config, masks)
        slices = split_by_work(keys, macs, parts)
        assert len(slices) <= parts
        assert [key for part in slices for key in keys[part]] == keys
        assert max(nodes_macs(keys[part], macs) for part in slices) <= nodes_macs(keys, macs) / parts


@pytest.mark.parametrize("masks", [1, 5])
def test_masks_that_are_all_equal_stay_together(masks):
    config = KINDS[0]
    keys = keys_of(config, [CostTable(config).topology.dense()] * masks)
    assert split_by_work(keys, readers_macs(config), 4) == [slice(0, masks)]
