"""The reward as a vector: it adds up to the scalar one, and MO-Gymnasium's checks and wrappers take it."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import RecordConstructorArgs
from gymnasium.utils.env_checker import check_env, data_equivalence
from playing import make, play

import ads_gym
from ads_gym.envs.multi_objective import MultiObjective
from ads_gym.errors import InvalidValue

INSTALL = "needs pip install mo-gymnasium"
KEPT = np.array([1, 0, 1, *[-1] * 17])  # given decisions of planted-20


@pytest.mark.parametrize("given", [None, {"decided": KEPT}], ids=["nothing", "given"])
@pytest.mark.parametrize("max_macs", [None, 0.6])
@pytest.mark.parametrize("decision", ["connection", "layer", "network"])
def test_each_reward_times_the_weights_is_the_scalar_reward(decision, max_macs, given):
    settings = {"decision": decision, "max_macs": max_macs, "reward": "soft"}
    scalar, vector = make(cost_weight=0.7, **settings), MultiObjective(make(**settings))
    scalar.action_space.seed(0)
    for _ in range(3):
        scalar.reset(options=given), vector.reset(options=given)
        total, over = np.zeros(2), False
        while not over:
            action = scalar.action_space.sample()
            _, wanted, over, _, info = scalar.step(action)
            _, reward, *_ = vector.step(action)
            assert reward.shape == (2,) and reward.dtype == np.float64 and vector.reward_space.contains(reward)
            assert reward @ [1, 0.7] == pytest.approx(wanted, abs=1e-12)
            total += reward
        assert total == pytest.approx([info["soft_accuracy"], -info["relative_cost"]], abs=1e-12)
        metrics = ads_gym.Metrics(**{name: info[name].item() for name in ads_gym.Metrics.__dataclass_fields__})
        assert total @ [1, 0.7] == pytest.approx(scalar.unwrapped.problem.objective(metrics), abs=1e-12)


def test_cost_is_paid_by_the_step_that_keeps_and_worth_by_the_last():
    env = MultiObjective(make())
    env.reset(options={"decided": KEPT})
    costs = env.base.cost.relative_costs
    rewards = [env.step(index % 2)[1] for index in range(17)]
    wanted = [-costs[3 + index] * (index % 2) for index in range(17)]
    wanted[0] -= costs[[0, 2]].sum()  # those given
    assert [reward[1] for reward in rewards] == pytest.approx(wanted, abs=1e-12)
    assert [reward[0] for reward in rewards[:-1]] == [0] * 16 and rewards[-1][0] > 0


def test_the_reward_space_is_that_of_the_reward():
    assert MultiObjective(make(reward="accuracy")).reward_space.high.tolist() == [1, 0]
    assert MultiObjective(make(reward="loss")).reward_space.low.tolist() == [-np.inf, -1]
    env = MultiObjective(make())
    assert gym.make(env.spec).spec.to_json() == env.spec.to_json() and env.unwrapped is env


def test_what_it_does_not_wrap_is_refused():
    envs = gym.make_vec("DenseNetSparsify-v0", 2, task="planted-20")
    for other in (gym.make("CartPole-v1"), envs, MultiObjective(make()), None):
        with pytest.raises(InvalidValue, match=r"MultiObjective\(gym.make\('DenseNetSparsify-v0'\)\)"):
            MultiObjective(other)


@pytest.mark.slow
def test_an_agent_of_a_search_may_wrap_its_environment(tmp_path):
    def agent(env, seed):
        env = MultiObjective(env)
        while True:
            seed += 1
            assert play(env, seed)[-1][1].shape == (2,)

    result = ads_gym.search("planted-20", agent, evaluations=8, run=tmp_path / "run", progress=False)
    assert result.evaluations == 8


def mo_env(**settings):
    return MultiObjective(make(**settings))


class CopiedWeights(gym.Wrapper, RecordConstructorArgs):
    """MO-Gymnasium's LinearReward puts the same array into every info, which the checker of Gymnasium 1.4 refuses."""

    def __init__(self, env):
        RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def step(self, action):
        *outcome, info = self.env.step(action)
        return *outcome, info | {"reward_weights": info["reward_weights"].copy()}


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
@pytest.mark.parametrize("decision", ["connection", "layer"])
def test_it_passes_the_checks_of_mo_gymnasium_for_its_own_environments(decision):
    wrappers = pytest.importorskip("mo_gymnasium.wrappers", reason=INSTALL)
    env = CopiedWeights(wrappers.LinearReward(mo_env(decision=decision)))
    check_env(env, skip_render_check=True)
    plain = env.unwrapped
    assert plain.reward_dim == 2
    for seed in range(3):
        assert all(plain.reward_space.contains(step[1]) for step in play(plain, seed)[1:])
    copy = pickle.loads(pickle.dumps(env))
    assert data_equivalence(play(env, 0), play(copy, 0))


def test_wrappers_of_mo_gymnasium_work_on_it():
    wrappers = pytest.importorskip("mo_gymnasium.wrappers", reason=INSTALL)
    statistics = wrappers.MORecordEpisodeStatistics(mo_env())
    info = play(statistics, 0)[-1][-1]
    np.testing.assert_allclose(info["episode"]["r"], [info["accuracy"], -info["relative_cost"]], rtol=1e-5)
    weighted = wrappers.LinearReward(mo_env(), weight=np.array([1.0, 0.7]))
    info, rewards = play(weighted, 0)[-1][-1], [step[1] for step in play(weighted, 0)[1:]]
    assert sum(rewards) == pytest.approx(info["accuracy"] - 0.7 * info["relative_cost"])
    clipped = wrappers.MOClipReward(wrappers.MONormalizeReward(mo_env(), idx=1), idx=0, min_r=0, max_r=0.25)
    assert [step[1][0] for step in play(clipped, 0)[1:]] == [0] * 19 + [0.25]


def test_vector_environments_of_mo_gymnasium_work_with_it():
    vector = pytest.importorskip("mo_gymnasium.wrappers.vector", reason=INSTALL)
    envs = vector.MORecordEpisodeStatistics(vector.MOSyncVectorEnv([mo_env] * 3))
    envs.reset(seed=0)
    for step in range(20):
        _, rewards, over, _, infos = envs.step(np.array([0, 1, step % 2]))
    assert rewards.shape == (3, 2) and over.all()
    wanted = np.stack([infos["accuracy"], -infos["relative_cost"]], axis=1)
    np.testing.assert_allclose(infos["episode"]["r"], wanted, rtol=1e-5)
