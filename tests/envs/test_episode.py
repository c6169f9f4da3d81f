"""The rules, against a slow reading of them, and at their edges."""

import numpy as np
import pytest

from ads_gym.architecture import DenseNetConfig
from ads_gym.envs.episode import Decision, Episode, Rules
from ads_gym.errors import InvalidValue
from ads_gym.nets.cost import CostTable
from ads_gym.problem import macs_limit
from ads_gym.topology import Scope

CONFIG = DenseNetConfig((4, 2, 5), growth=3, stem_channels=7, image_shape=(1, 12, 12))


def slow_episode(cost, decision, limit, given, actions):
    """What the environment's docstring says, word for word: (mask, executed of each action, overruled, spent)."""
    decided = [int(bit) for bit in given]
    macs = cost.least_macs + sum(int(m) for m, bit in zip(cost.connection_macs, given, strict=True) if bit == 1)
    paid, results = cost.least_macs, []
    for action in actions:
        free = [i for i, bit in enumerate(decided) if bit == -1]
        block, dst, _ = cost.topology.connections[free[0]]
        if decision == "connection":
            slot_of = {free[0]: 0}
        elif decision == "layer":
            slot_of = {
                i: int(c.src) for i, c in enumerate(cost.topology) if (c.block, c.dst) == (block, dst) and i in free
            }
        else:
            slot_of = {i: i for i in free}
        executed, overruled = [-1] * len(action), 0
        for index, slot in slot_of.items():
            fits = macs + int(cost.connection_macs[index]) <= limit
            executed[slot] = decided[index] = int(action[slot] and fits)
            macs += decided[index] * int(cost.connection_macs[index])
        for slot, bit in enumerate(action):
            overruled += bit == 1 and executed[slot] != 1
        results.append((executed, overruled, macs - paid))
        paid = macs
    return decided, results


@pytest.mark.parametrize("share", [None, 0.8, 0.65])
@pytest.mark.parametrize("scope", list(Scope))
@pytest.mark.parametrize("decision", list(Decision))
def test_random_episodes_follow_the_rules(decision, scope, share):
    cost = CostTable(CONFIG, scope)
    rules = Rules(cost, decision, macs_limit(cost, share))
    rng = np.random.default_rng(3)
    total_overruled = 0
    for trial in range(60):
        given = np.full(cost.topology.size, -1)
        if trial % 2:
            given = rng.choice([-1, 0, 1], cost.topology.size, p=[0.6, 0.3, 0.1])
            given[rng.integers(cost.topology.size)] = -1
            if cost.macs(given == 1) > rules.limit:
                given[given == 1] = 0
        episode = Episode(rules, rules.check_initial(given))
        actions, seen = [], []
        while episode.next_step.bits:
            actions.append(rng.integers(0, 2, rules.slots).tolist())
            result = episode.apply(actions[-1])
            seen.append((result.executed.tolist(), result.overruled, result.spent))
            total_overruled += result.overruled
        mask, expected = slow_episode(cost, decision, rules.limit, given, actions)
        assert seen == expected
        assert episode.decisions.tolist() == mask
        assert episode.macs == cost.macs(np.array(mask)) <= rules.limit
        assert (episode.decided, episode.undecided_macs) == (cost.topology.size, 0)
    assert (total_overruled > 0) == (share is not None or decision is not Decision.CONNECTION)


@pytest.mark.parametrize("decision", list(Decision))
def test_the_mask_is_what_apply_accepts_bit_by_bit(decision):
    cost = CostTable(CONFIG)
    rules = Rules(cost, decision, macs_limit(cost, 0.7))
    rng = np.random.default_rng(0)
    episode = Episode(rules)
    played = []
    while episode.next_step.bits:
        mask = episode.action_mask().reshape(-1, 2)
        assert mask[:, 0].all()
        for slot in range(rules.slots):  # alone, a KEEP is executed exactly where it is legal
            twin = Episode(rules)
            for action in played:
                twin.apply(action)
            alone = [int(other == slot) for other in range(rules.slots)]
            result = twin.apply(alone)
            assert (result.executed[slot] == 1) == bool(mask[slot, 1])
            assert result.overruled == 1 - mask[slot, 1]
        played.append(rng.integers(0, 2, rules.slots).tolist())
        episode.apply(played[-1])
    assert episode.action_mask().tolist() == [1, 0] * rules.slots


def test_a_layer_without_sources_or_with_all_given_is_no_turn():
    cost = CostTable(CONFIG)
    rules = Rules(cost, Decision.LAYER)
    assert rules.slots == 4  # layer 5 of the last block reads nodes 0..3 beside its predecessor
    assert len(rules.all_steps) - 1 == 3 + 1 + 4  # layers 2..L of each block
    given = np.full(cost.topology.size, -1)
    given[:2] = [1, 0]  # block 0: all of layer 2, the first source of layer 3
    episode = Episode(rules, rules.check_initial(given))
    assert episode.next_step.bits == ((1, 2),)
    assert episode.action_mask().tolist() == [1, 0, 1, 1, 1, 0, 1, 0]
    result = episode.apply([1, 1, 1, 0])
    assert result.executed.tolist() == [-1, 1, -1, -1]
    assert result.overruled == 2
    assert result.spent == cost.connection_macs[0] + cost.connection_macs[2]  # the given one is paid for first


def test_one_action_spends_the_limit_in_order():
    cost = CostTable(CONFIG)
    two = cost.least_macs + int(cost.connection_macs[:2].sum())
    rules = Rules(cost, Decision.NETWORK, two)
    assert rules.slots == cost.topology.size
    result = Episode(rules).apply([1] * rules.slots)
    cheaper_fit = [0] * (rules.slots - 2)
    assert result.executed.tolist() == [1, 1, *cheaper_fit]
    assert result.overruled == rules.slots - 2
    assert Episode(rules).action_mask().reshape(-1, 2)[:, 1].all()  # each fits by itself


@pytest.mark.parametrize("kept", [0, 3, 7, 12])
def test_the_relative_macs_of_a_network_as_limit_admit_exactly_that_network(kept):
    for growth in range(1, 12):
        cost = CostTable(DenseNetConfig((4, 4), growth=growth, stem_channels=5, image_shape=(1, 9, 9)))
        mask = np.arange(cost.topology.size) < kept
        limit = macs_limit(cost, float(cost.relative_macs(mask)))
        assert limit == cost.macs(mask)
        assert macs_limit(cost, np.float64(cost.relative_macs(mask))) == limit


def test_the_limit_of_one_is_the_dense_network_and_none_is_no_limit():
    cost = CostTable(CONFIG)
    assert macs_limit(cost, 1) == cost.dense_macs
    assert macs_limit(cost, None) is None
    assert Rules(cost, Decision.CONNECTION, None).limit == cost.dense_macs


@pytest.mark.parametrize("share", [0, -0.5, 0.1, 1.0001, 60, float("nan"), float("inf"), True, "half", [0.5]])
def test_an_impossible_limit_is_refused_with_the_least_that_works(share):
    cost = CostTable(CONFIG)
    with pytest.raises(InvalidValue, match="relative MACs") as refused:
        macs_limit(cost, share)
    least = float(str(refused.value).split("from ")[1].split(" ")[0])
    assert least - 1e-4 <= cost.least_macs / cost.dense_macs <= least
    assert cost.least_macs <= macs_limit(cost, least) < cost.least_macs + cost.connection_macs.max()


def test_given_bits_that_no_episode_can_start_from():
    cost = CostTable(CONFIG)
    size = cost.topology.size
    rules = Rules(cost, Decision.CONNECTION, macs_limit(cost, 0.6))
    nearly_all = np.ones(size, np.int8)
    nearly_all[-1] = -1
    for decided, complaint in [
        (np.zeros(size, np.int8), "nothing to decide"),
        (nearly_all, "MACs"),
        (np.full(size - 1, -1), "entries"),
        (np.full((2, size), -1), "one row"),
        (np.full(size, 2), "-1 .free., 0 and 1"),
        (np.full(size, -1.0), "integers"),
        (np.zeros(size, bool), "integers"),
        ("nonsense", "integers"),
        (None, "integers"),
    ]:
        with pytest.raises(InvalidValue, match=complaint):
            rules.check_initial(decided)


def test_given_bits_are_copied():
    rules = Rules(CostTable(CONFIG), Decision.NETWORK)
    given = np.full(rules.topology.size, -1, np.int8)
    Episode(rules, rules.check_initial(given)).apply([1] * rules.slots)
    assert (given == -1).all()
