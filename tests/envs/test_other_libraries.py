"""The environment in other libraries: Gymnasium's wrappers, torchrl, tianshou.

Neither torchrl nor tianshou is installed with the tests, for they are large: `pip install torchrl tianshou`.
"""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import NumpyToTorch
from gymnasium.wrappers.vector import NumpyToTorch as VectorNumpyToTorch

import ads_gym  # noqa: F401 - registers the environments

TASK = "planted-20"  # 20 decisions
LAST = {"accuracy", "soft_accuracy", "loss", "macs", "parameters", "relative_macs", "relative_cost"}


@pytest.mark.parametrize("decision", ["connection", "layer", "network"])
def test_infos_are_numpy_numbers_and_arrays_of_one_form(decision):
    """What libraries count on that copy infos into arrays made from the first one."""
    env = gym.make("DenseNetSparsify-v0", task=TASK, decision=decision)
    _, first = env.reset(seed=0)
    env.action_space.seed(0)
    over = False
    while not over:
        _, _, over, _, info = env.step(env.action_space.sample())
        assert set(info) - set(first) == (LAST if over else set())
        for key, value in info.items():
            assert isinstance(value, np.ndarray | np.float64 | np.int64)
            if key in first:
                assert (value.dtype, value.shape) == (first[key].dtype, first[key].shape)


def test_numpy_to_torch():
    env = NumpyToTorch(gym.make("DenseNetSparsify-v0", task=TASK))
    observation, info = env.reset()
    assert observation.dtype == torch.int8 and info["decisions"].tolist() == [-1] * 20
    for step in range(20):
        _, reward, over, _, info = env.step(torch.tensor(step % 2))
    assert over and reward == pytest.approx(float(info["accuracy"]))
    assert info["decisions"].tolist() == [0, 1] * 10


@pytest.mark.parametrize(
    "mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED]
)  # an array of objects is SAME_STEP's
def test_vector_numpy_to_torch(mode):
    envs = VectorNumpyToTorch(gym.make_vec("DenseNetSparsify-v0", 3, task=TASK, autoreset_mode=mode))
    assert envs.reset()[1]["decisions"].shape == (3, 20)
    for _ in range(20):
        _, rewards, over, _, infos = envs.step(torch.ones(3, dtype=torch.int64))
    assert over.all()
    assert infos["decisions"].tolist() == [[1] * 20] * 3
    torch.testing.assert_close(rewards, infos["accuracy"], check_dtype=False)


def test_torchrl_registers_all_infos():
    wrappers = pytest.importorskip("torchrl.envs.libs.gym")
    env = wrappers.GymWrapper(gym.make("DenseNetSparsify-v0", task=TASK)).auto_register_info_dict()
    rollout = env.rollout(50)
    assert rollout.batch_size == torch.Size([20])
    for key in ("decisions", "overruled", "connection", "executed", "action_mask"):
        assert key in rollout["next"].keys()  # noqa: SIM118 - a TensorDict
    assert not (rollout["next"]["decisions"][-1] == -1).any()


def test_tianshou_fills_a_buffer_with_infos():
    data = pytest.importorskip("tianshou.data")
    env = gym.make("DenseNetSparsifyFlat-v0", task=TASK)
    buffer = data.ReplayBuffer(size=60)
    observation, _ = env.reset()
    env.action_space.seed(0)
    for _ in range(50):
        action = env.action_space.sample()
        following, reward, over, truncated, info = env.step(action)
        step = {"obs": observation, "act": action, "rew": reward, "obs_next": following, "info": info}
        buffer.add(data.Batch(terminated=over, truncated=truncated, **step))
        observation = env.reset()[0] if over else following
    assert buffer.info.decisions.shape == (60, 20)
    assert np.flatnonzero(buffer.info.accuracy).tolist() == [19, 39]
