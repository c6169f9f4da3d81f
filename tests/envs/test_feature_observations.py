"""Rows of features: in their space, ranks, and the same for single and vector environments."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as check_for_sb3

from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.envs.vector import DenseNetSparsifyVectorEnv
from ads_gym.errors import InvalidValue
from ads_gym.nets.features import Feature
from ads_gym.problem import make_problem

SETTINGS = {"task": "digits-table", "observation": "features", "cost_weight": "even", "max_macs": 0.8}
F = len(Feature)


def test_checkers_take_it():
    check_env(gym.make("ads_gym:DenseNetSparsify-v0", **SETTINGS).unwrapped, skip_render_check=True)
    check_for_sb3(gym.wrappers.FlattenObservation(DenseNetSparsifyEnv(**SETTINGS)))


@pytest.mark.parametrize("decision", ["connection", "layer"])
def test_rows_are_ranks_and_the_flat_observation(decision):
    settings = SETTINGS | {"decision": decision}
    env, flat = DenseNetSparsifyEnv(**settings), DenseNetSparsifyEnv(**settings | {"observation": "flat"})
    size, rng = env.topology.size, np.random.default_rng(0)
    known = make_problem("digits-table").features()
    assert env.observation_space.shape == (size, F + 9)
    observation, vector, over = env.reset()[0], flat.reset()[0], False
    while True:
        assert env.observation_space.contains(observation)
        room = vector[-2] * env.cost.dense_macs / (env.cost.dense_macs - env.cost.least_macs)
        numbers = [*vector[2 * size : -2], room, vector[-1]]
        np.testing.assert_allclose(observation[:, F], env.cost.relative_costs, rtol=1e-6)
        np.testing.assert_array_equal(observation[:, F + 1], vector[:size])
        np.testing.assert_array_equal(observation[:, F + 2], vector[size : 2 * size])
        np.testing.assert_allclose(observation[:, F + 3 :], np.tile(numbers, (size, 1)), atol=1e-6)
        for column in range(F):
            order = np.argsort(observation[:, column], kind="stable")
            assert (np.diff(known[order, column]) >= 0).all()
            assert observation[:, column].mean() == pytest.approx(0.5)  # of ranks from 0 to 1, ties or not
        if over:
            break
        action = (rng.random(env.rules.slots) < 0.5).astype(int)
        observation, _, over, _, _ = env.step(action)
        vector = flat.step(action)[0]


def test_single_and_vector_environments_agree():
    sync = SyncVectorEnv([lambda: DenseNetSparsifyEnv(**SETTINGS)] * 3)
    ours = DenseNetSparsifyVectorEnv(3, **SETTINGS)
    assert ours.observation_space == sync.observation_space
    rng = np.random.default_rng(0)
    theirs, mine = sync.reset()[0], ours.reset()[0]
    for _ in range(40):  # two ends
        assert theirs.tobytes() == mine.tobytes()
        actions = rng.integers(0, 2, 3)
        theirs, mine = sync.step(actions)[0], ours.step(actions)[0]


def test_a_task_without_a_trained_network_has_no_features():
    with pytest.raises(InvalidValue, match="trained network"):
        DenseNetSparsifyEnv(task="planted-20", observation="features")
