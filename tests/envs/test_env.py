"""The environment as libraries see it: both checkers, repetition, specs, vector environments, imports, stores."""

import itertools
import pickle
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_checker import data_equivalence as same
from gymnasium.wrappers import FlattenObservation
from playing import make, play
from stable_baselines3.common.env_checker import check_env as check_for_sb3

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.spec import DataSpec
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.evaluators.store import EvaluationStore, StoredEvaluator
from ads_gym.tasks import save_task

EVERY = list(itertools.product(["connection", "layer", "network"], ["layers", "all"], ["matrix", "flat"], [None, 0.6]))
KEYS = {"action_mask", "decisions", "connection", "executed", "overruled"}
LAST_KEYS = {
    "accuracy",
    "soft_accuracy",
    "loss",
    "macs",
    "parameters",
    "relative_macs",
    "relative_cost",
}
SERIALISABLE = [
    {"id": "DenseNetSparsify-v0", "task": "planted-20"},
    {"id": "DenseNetSparsifyFlat-v0", "task": "planted-45", "decision": "layer", "cost_weight": "even"},
    {"id": "ads_gym:DenseNetSparsify-v0", "task": "planted-20", "evaluator": "planted:pairwise:7", "max_macs": 0.7},
]
EPISODE = """
import gymnasium
env = gymnasium.make("DenseNetSparsify-v0", task="planted-45", render_mode="ansi", cost_weight="even")
observation, info = env.reset(seed=0)
over = False
while not over:
    observation, reward, over, truncated, info = env.step(env.action_space.sample(info["action_mask"]))
env.render()
"""
LIST_MODULES = """
import sys
print(*sys.modules)
"""


@pytest.mark.parametrize(("decision", "scope", "observation", "max_macs"), EVERY)
def test_both_checkers_without_a_warning(decision, scope, observation, max_macs, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make(decision=decision, scope=scope, observation=observation, max_macs=max_macs)
        check_env(env.unwrapped)
        check_for_sb3(env.unwrapped if observation == "flat" else FlattenObservation(env.unwrapped))
    assert "decided 0 of" in capsys.readouterr().out  # render_mode="human" was tried too


@pytest.mark.parametrize(("decision", "scope", "observation", "max_macs"), EVERY)
def test_full_episodes_repeat_to_the_bit_whatever_is_stored(decision, scope, observation, max_macs, tmp_path):
    settings = {"decision": decision, "scope": scope, "observation": observation, "max_macs": max_macs}
    with EvaluationStore(tmp_path / "store.sqlite") as store:
        env = make(store=store, cost_weight=0.3, **settings)
        assert len(store) == 0
        first = play(env, seed=5)
        assert len(store) == 1
        second = play(make(store=store, cost_weight=0.3, **settings), seed=5)
        assert len(store) == 1
    assert same(first, second)
    unstored = play(make(cost_weight=0.3, **settings), seed=5)
    assert same(first, unstored)
    assert [type(step[1]) for step in first[1:]] == [float] * (len(first) - 1)
    for step in first:
        assert env.observation_space.contains(step[0])
        assert set(step[-1]) == (KEYS | LAST_KEYS if step is first[-1] else KEYS)


def test_nothing_handed_out_is_used_again():
    env = DenseNetSparsifyEnv(task="planted-20", decision="layer", max_macs=0.8)
    twin = DenseNetSparsifyEnv(task="planted-20", decision="layer", max_macs=0.8)
    results, twins = [env.reset()], [twin.reset()]
    for _ in range(8):
        for array in [results[-1][0], *(value for value in results[-1][-1].values() if isinstance(value, np.ndarray))]:
            array[...] = 1
        results.append(env.step([1, 0, 1, 0]))
        twins.append(twin.step([1, 0, 1, 0]))
        assert same(results[-1], twins[-1])
    assert results[-1][2]


def test_an_evaluator_object_brings_its_network():
    evaluator = PlantedEvaluator(DenseNetConfig((3, 4)), "all", seed=3)
    env = make(evaluator=evaluator, scope="all")
    assert env.unwrapped.topology == evaluator.topology
    assert env.unwrapped.problem.evaluator.inner is evaluator
    (best,) = env.unwrapped.problem.score(evaluator.optimum[None])
    assert best.objective == 1
    with pytest.raises(InvalidValue, match="scope"):
        make(evaluator=evaluator, scope="layers")
    with pytest.raises(InvalidValue, match="planted-45"):
        make(task=make("planted-45").unwrapped.problem.task, evaluator=evaluator, scope="all")


def test_stores_by_path_by_object_and_none(tmp_path):
    path = tmp_path / "store.sqlite"
    env = make(store=str(path), decision="network")
    assert not path.exists()  # the constructor opens nothing
    env.reset()
    assert not path.exists()
    env.step(np.ones(20, np.int64))
    assert isinstance(env.unwrapped.problem.evaluator.inner, StoredEvaluator)
    env.close()
    env.close()
    with EvaluationStore(path) as store:
        assert len(store) == 1
        other = make(store=store, decision="network")
        play(other, seed=1)
        other.close()
        assert len(store) == 2  # somebody else's store stays open
    play(env, seed=2)  # and ours opens again
    env.close()
    with EvaluationStore(path) as store:
        assert len(store) == 3
    assert isinstance(make().unwrapped.problem.evaluator.inner, PlantedEvaluator)


@pytest.mark.parametrize("settings", SERIALISABLE)
def test_the_spec_rebuilds_the_environment(settings):
    env = gym.make(**settings)
    first = play(env, seed=3)
    rebuilt = [
        env.spec.make(),
        gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json())),
        pickle.loads(pickle.dumps(env.spec)).make(),
    ]
    for other in rebuilt:
        assert other.observation_space == env.observation_space
        assert other.action_space == env.action_space
        assert same(play(other, seed=3), first)


def test_the_flat_id_shows_vectors():
    assert gym.make("DenseNetSparsifyFlat-v0", task="planted-20").observation_space.shape == (46,)
    assert make().observation_space.shape == (2, 7, 7)


def test_synchronous_vector_envs_play_what_single_ones_play():
    settings = {"task": "planted-20", "max_macs": 0.7, "cost_weight": 0.2}
    many = gym.make_vec("DenseNetSparsify-v0", num_envs=3, vectorization_mode="sync", **settings)
    singles = [make(**settings) for _ in range(3)]
    seen, infos = many.reset(seed=1)
    for single in singles:
        single.reset(seed=1)
    actions = np.random.default_rng(0).integers(0, 2, (20, 3))
    for row in actions:
        seen, rewards, over, _, infos = many.step(row)
        for index, single in enumerate(singles):
            alone = single.step(row[index])
            assert same(seen[index], alone[0])
            assert rewards[index] == alone[1]
            assert same(infos["action_mask"][index], alone[-1]["action_mask"])
    assert over.all()
    assert infos["accuracy"][2] == alone[-1]["accuracy"]


@pytest.mark.parametrize("rest", ["", EPISODE], ids=["import", "episode"])
def test_no_torch_is_imported(rest):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import ads_gym\n" + rest + LIST_MODULES],
        capture_output=True,
        text=True,
        check=True,
    )
    timed = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "ads_gym" in timed
    imported = timed | set(done.stdout.split())  # importlib's own imports are not timed
    assert ("ads_gym.envs.env" in imported) == bool(rest)
    assert not {name for name in imported if name.partition(".")[0] in ("torch", "torchvision", "stable_baselines3")}


@pytest.fixture(scope="module")
def real_task(tmp_path_factory):
    """A task of real digits with a network that has learnt nothing, in a folder."""
    import torch

    from ads_gym.nets.densenet import DenseNet

    torch.manual_seed(0)
    config = DenseNetConfig((3, 2), growth=2, stem_channels=3, image_shape=(1, 8, 8))
    data = DataSpec("digits", train=None, valid=500, test=None, calibration=100)
    folder = tmp_path_factory.mktemp("task")
    save_task(folder, "small", config, data, DenseNet(config).state_dict())
    return str(folder)


def test_real_networks_are_played_and_no_evaluation_is_paid_twice(real_task, tmp_path):
    settings = {"decision": "layer", "cost_weight": "even", "reward": "loss", "device": "cpu"}
    env = make(real_task, **settings)
    first = play(env, seed=4)
    assert isinstance(env.unwrapped.problem.evaluator.inner, StoredEvaluator)
    problem = env.unwrapped.problem
    dense, chain = problem.score([[1] * 4, [0] * 4])
    assert problem.objective.cost_weight == chain.metrics.loss - dense.metrics.loss
    assert len(problem.evaluator.inner.store) == 3
    for _ in range(2):  # from an empty store, then from a full one
        other = make(real_task, store=str(tmp_path / "store.sqlite"), **settings)
        assert same(play(other, seed=4), first)
        other.close()


@pytest.mark.slow
def test_spawned_vector_envs_run_after_a_convolution_in_the_parent(real_task):
    import torch

    torch.nn.functional.conv2d(torch.ones(64, 16, 32, 32), torch.ones(16, 16, 3, 3))
    settings = {"task": real_task, "decision": "network", "reward": "loss", "device": "cpu"}
    envs = gym.make_vec(
        "ads_gym:DenseNetSparsify-v0",
        num_envs=2,
        vectorization_mode="async",
        vector_kwargs={"context": "spawn"},
        **settings,
    )
    try:
        envs.reset(seed=0)
        actions = np.array([[1, 0, 1, 1], [0, 0, 0, 1]])
        _, rewards, over, _, infos = envs.step(actions)
    finally:
        envs.close()
    assert over.all()
    scored = make(**settings).unwrapped.problem.score(actions)
    assert rewards.tolist() == pytest.approx([-score.metrics.loss for score in scored], rel=1e-6)
    np.testing.assert_array_equal(infos["executed"], actions)
