"""How PPO steps environments of all kinds: where masks come from, ends of episodes, what it refuses."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from recalls import MODES, Recall, Told, recalls

from ads_gym.agents.recurrent_ppo.agent import RecurrentPPO
from ads_gym.errors import InvalidValue

SMALL = {"hidden_size": 8, "n_steps": 8}


class Bandit(gym.Env):
    """One step an episode: action 1 is right. Everything it has can be replaced."""

    def __init__(self, observations=None, actions=None, masks=None):
        self.observation_space = observations or spaces.Box(0, 1, (1,), np.float32)
        self.action_space, self.info = actions or spaces.Discrete(2), {} if masks is None else {"action_mask": masks}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), self.info

    def step(self, action):
        return self.observation_space.sample(), float(np.all(action == 1)), True, False, self.info


class Broken(Recall):
    def action_masks(self):
        return self.misspelt


def is_finite(agent):
    return all(torch.isfinite(weight).all() for weight in agent.policy.parameters())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env", [Recall, Told])
def test_only_what_is_legal_is_done(env, mode):
    """The environments fail at an illegal action: with masks by a method and in `info`, alone, in vectors, wrapped."""
    assert RecurrentPPO(env(), **SMALL).learn(16).num_timesteps == 16
    for parts in (None, 2):
        RecurrentPPO(recalls(2, mode, env=env, parts=parts, length=5, cut=3), **SMALL).learn(32)
    RecurrentPPO(RecordEpisodeStatistics(recalls(2, mode, env=env)), **SMALL).learn(32)


@pytest.mark.parametrize("env", [Bandit, Told])
def test_workers_are_not_asked_for_masks_that_they_do_not_have(env):
    envs = recalls(2, AutoresetMode.NEXT_STEP, AsyncVectorEnv, env)
    try:
        assert RecurrentPPO(envs, **SMALL).learn(16).num_timesteps >= 12
    finally:
        envs.close()


def test_an_error_of_a_mask_is_not_hidden():
    with pytest.raises(AttributeError, match="misspelt"):
        RecurrentPPO(recalls(2, env=Broken), **SMALL).learn(1)
    with pytest.raises(InvalidValue, match="only environments"):
        RecurrentPPO(SyncVectorEnv([Recall, Told]), **SMALL).learn(1)


@pytest.mark.parametrize("mode", MODES)
def test_episodes_of_one_step(mode):
    agent = RecurrentPPO(recalls(8, mode, env=Bandit), **SMALL, learning_rate=0.02).learn(600)
    assert agent.predict(np.zeros((1, 1)), deterministic=True)[0] == 1 and is_finite(agent)


def test_nothing_is_learned_from_steps_that_only_reset():
    agent = RecurrentPPO(recalls(2, AutoresetMode.NEXT_STEP, env=Bandit), n_steps=1).learn(6)
    assert agent.num_timesteps == 6 and is_finite(agent)


def test_masks_in_which_nothing_is_legal():
    """As of an episode that has ended: no action is told from another."""
    agent = RecurrentPPO(recalls(2, env=Bandit, masks=np.zeros(2, np.int8)), **SMALL, learning_rate=0.02).learn(300)
    assert is_finite(agent)
    masks = np.array([[0, 0], [1, 0]])
    assert agent.predict(np.zeros((2, 1)), deterministic=True, action_masks=masks)[0].tolist() == [1, 0]


def test_masks_of_another_size():
    for masks in (np.ones(3, np.int8), (np.ones(2), np.ones(2))):
        with pytest.raises(InvalidValue, match="1 x 2 actions"):
            RecurrentPPO(Bandit(masks=masks)).learn(1)
    with pytest.raises(InvalidValue, match="3 x 2 actions"):
        RecurrentPPO(Bandit()).predict(np.zeros((3, 1)), action_masks=np.ones((2, 2)))


def test_parts_of_a_mask_as_gymnasium_samples_by():
    actions, masks = spaces.MultiDiscrete([2, 3]), (np.array([0, 1], np.int8), np.array([0, 1, 0], np.int8))
    agent = RecurrentPPO(Bandit(actions=actions, masks=masks), **SMALL)
    played, _ = agent._rollout.play(8)
    assert (played.actions == 1).all()


def test_environments_that_write_to_the_same_array():
    """With `copy=False` observations are those of the last step."""
    agents = [
        RecurrentPPO(SyncVectorEnv([Recall] * 2, copy=copy), **SMALL).learn(32).policy.state_dict()
        for copy in (True, False)
    ]
    assert all(torch.equal(agents[0][name], agents[1][name]) for name in agents[0])


NUMBER, NUMBERS = spaces.Discrete(3), spaces.Box(0, 1, (2, 2), np.float32)


@pytest.mark.parametrize(
    "observations",
    [NUMBER, spaces.MultiBinary(3), spaces.Tuple([NUMBER, NUMBERS]), spaces.Dict(a=NUMBERS, b=NUMBER)],
)
def test_observations_that_are_numbers(observations):
    envs = recalls(2, env=Bandit, observations=observations)
    agent = RecurrentPPO(envs, **SMALL).learn(32)
    assert agent.predict(envs.reset()[0])[0].shape == (2,)
    assert agent.predict(observations.sample())[0].shape == ()


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"observations": spaces.Sequence(NUMBERS)}, "fixed number of numbers"),
        ({"observations": spaces.Dict(a=spaces.Graph(NUMBERS, None))}, "fixed number of numbers"),
        ({"actions": spaces.Box(-1, 1, (2,))}, "Discrete or MultiDiscrete"),
        ({"actions": spaces.Tuple([NUMBER, NUMBER])}, "Discrete or MultiDiscrete"),
        ({"actions": spaces.Discrete(2, start=1)}, "Discrete or MultiDiscrete"),
    ],
)
def test_what_it_cannot_read_or_do(keywords, says):
    with pytest.raises(InvalidValue, match=says):
        RecurrentPPO(Bandit(**keywords))
