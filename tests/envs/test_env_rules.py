"""The game that the environment's docstring describes, rule by rule, and how it meets bad input."""

import itertools
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from playing import make, play

from ads_gym.architecture import DenseNetConfig
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.errors import AdsGymError, InvalidValue, ResetNeeded, UnknownName
from ads_gym.evaluators.base import Metrics
from ads_gym.evaluators.planted import PlantedEvaluator

EVERY = list(itertools.product(["connection", "layer", "network"], ["layers", "all"], ["matrix", "flat"], [None, 0.6]))


@pytest.mark.parametrize(("decision", "scope", "observation", "max_macs"), EVERY)
def test_the_return_is_the_score_of_the_network_that_is_left(decision, scope, observation, max_macs):
    env = make(decision=decision, scope=scope, observation=observation, max_macs=max_macs, cost_weight=0.7)
    plain = env.unwrapped
    for seed in range(5):
        record = play(env, seed)
        info = record[-1][-1]
        assert info["decisions"].dtype == np.int8 and set(info["decisions"].tolist()) <= {0, 1}
        mask = plain.architecture(info["decisions"]).mask
        ((metrics, objective),) = plain.problem.score(mask[None])
        assert vars(metrics) == {name: info[name] for name in vars(metrics)}
        total = sum(step[1] for step in record[1:])
        assert total == pytest.approx(objective, abs=1e-12)
        assert total == pytest.approx(info["accuracy"] - 0.7 * info["relative_cost"], abs=1e-12)
        assert info["relative_macs"] <= (max_macs or 1)


@pytest.mark.parametrize("decision", ["connection", "layer", "network"])
def test_info_tells_what_comes_and_what_was_done(decision):
    env = make(decision=decision, max_macs=0.4, scope="all")
    topology, decided = env.unwrapped.topology, []
    record = play(env, seed=2)
    np.testing.assert_array_equal(record[0][-1]["executed"], np.full_like(record[0][-1]["executed"], -1))
    for before, after in itertools.pairwise(record):
        assert before[-1]["connection"].tolist() == topology.connections[len(decided)].tolist()
        assert before[-1]["connection"].dtype == np.int64
        assert after[-1]["executed"].dtype == np.int8
        decided += [bit for bit in after[-1]["executed"].tolist() if bit != -1]
    assert decided == record[-1][-1]["decisions"].tolist()
    assert (record[0][-1]["decisions"] == -1).all() and len(record[0][-1]["decisions"]) == topology.size
    assert record[-1][-1]["connection"].tolist() == [-1, -1, -1]
    assert record[-1][-1]["action_mask"].tolist() == [1, 0] * len(record[-1][-1]["executed"])
    assert sum(step[-1]["overruled"] for step in record) > 0


@pytest.mark.parametrize("decision", ["connection", "layer", "network"])
def test_the_three_masks_agree_and_legal_play_is_not_overruled_by_itself(decision):
    env = make(decision=decision, max_macs=0.75)
    plain = env.unwrapped
    _, info = env.reset(seed=0)
    over = False
    while not over:
        assert plain.action_masks().dtype == np.bool_
        np.testing.assert_array_equal(plain.action_masks(), info["action_mask"])
        parts = plain.sample_mask()
        np.testing.assert_array_equal(np.concatenate(parts) if isinstance(parts, tuple) else parts, info["action_mask"])
        action = env.action_space.sample(parts)
        _, _, over, _, info = env.step(action)
        if decision == "connection":
            assert info["overruled"] == 0
    np.testing.assert_array_equal(env.get_wrapper_attr("action_masks")(), info["action_mask"])
    env.action_space.sample(plain.sample_mask())


def test_cost_is_paid_at_the_step_that_keeps():
    env = make(cost_weight=0.5)
    plain = env.unwrapped
    env.reset()
    steps = [env.step(index % 2) for index in range(plain.topology.size)]
    for index, step in enumerate(steps[:-1]):
        assert step[1] == pytest.approx(-0.5 * plain.cost.relative_costs[index] * (index % 2), abs=1e-15)
        assert np.copysign(1, step[1]) == (-1 if index % 2 else 1)  # no negative zero
    last = steps[-1][-1]["accuracy"] - 0.5 * plain.cost.relative_costs[-1] * ((plain.topology.size - 1) % 2)
    assert steps[-1][1] == pytest.approx(last, abs=1e-15)


@pytest.mark.parametrize("decision", ["connection", "layer", "network"])
@pytest.mark.parametrize("observation", ["matrix", "flat"])
def test_given_bits_are_shown_skipped_and_paid_with_the_first_reward(decision, observation):
    env = make(decision=decision, observation=observation, cost_weight=1.0)
    plain = env.unwrapped
    decided = np.full(plain.topology.size, -1, np.int8)
    decided[[0, 1, 2, 5, 19]] = [1, 1, 0, 1, 0]
    seen, info = env.reset(options={"decided": decided})
    shown = plain.topology.decisions(seen) if observation == "matrix" else np.where(seen[:20] == 0, -1, seen[:20] == 1)
    np.testing.assert_array_equal(shown, decided)
    assert info["connection"].tolist() == plain.topology.connections[3].tolist()
    rewards, over = [], False
    while not over:
        action = 0 if decision == "connection" else np.zeros(env.action_space.shape, np.int64)
        _, reward, over, _, info = env.step(action)
        rewards.append(reward)
    given_cost = plain.cost.relative_cost(decided == 1)
    assert sum(rewards) == pytest.approx(info["accuracy"] - given_cost, abs=1e-12)
    assert len(rewards) == {"connection": 15, "layer": 6, "network": 1}[decision]
    if len(rewards) > 1:
        assert rewards[0] == pytest.approx(-given_cost)
    np.testing.assert_array_equal(info["decisions"], decided == 1)
    fresh = env.reset()[1]
    assert fresh["connection"].tolist() == plain.topology.connections[0].tolist()


def test_even_makes_dense_and_chain_score_the_same():
    for seed in range(4):
        env = make(evaluator=f"planted:linear:{seed}", cost_weight="even", observation="flat")
        problem = env.unwrapped.problem
        dense, chain = problem.score([problem.topology.dense(), problem.topology.chain()])
        weight = problem.objective.cost_weight
        assert weight == dense.metrics.accuracy - chain.metrics.accuracy
        assert dense.objective == pytest.approx(chain.objective, abs=1e-15)
        seen, _ = env.reset()
        assert seen[-1] == np.float32(weight)
        assert env.observation_space.contains(seen)


def test_even_is_resolved_once():
    class Counting(PlantedEvaluator):
        counted = 0

        def evaluate_checked(self, masks):
            self.counted += len(masks)
            return super().evaluate_checked(masks)

    evaluator = Counting(DenseNetConfig((3, 3)))
    env = make(evaluator=evaluator, cost_weight="even")
    for seed in range(3):
        play(env, seed)
    assert evaluator.counted == 2 + 3


def test_a_subclass_that_overrides_evaluate_is_called_there():
    class Halved(PlantedEvaluator):
        fingerprint = "halved"

        def evaluate(self, masks):
            return [replace(metrics, accuracy=metrics.accuracy / 2) for metrics in super().evaluate(masks)]

    env = make(evaluator=Halved(DenseNetConfig((3, 3))))
    last = play(env, 0)[-1]
    assert last[-1]["accuracy"] == last[-1]["soft_accuracy"] / 2 > 0


@pytest.mark.parametrize(
    ("action", "kept"),
    [
        (1, 1),
        (np.int64(1), 1),
        (np.int8(0), 0),
        (np.array(1), 1),
        (np.array([1]), 1),
        (True, 1),
        ([0], 0),
        (np.uint8(1), 1),
    ],
)
def test_a_discrete_action_may_be_any_integer(action, kept):
    env = DenseNetSparsifyEnv(task="planted-20")
    env.reset()
    assert env.step(action)[-1]["executed"].tolist() == [kept]


@pytest.mark.parametrize(
    "action", [2, -1, 0.0, 1.0, None, "1", [0, 1], np.array([[1]]), [], [[0], [0, 1]], float("nan")]
)
def test_a_wrong_discrete_action_is_refused_and_changes_nothing(action):
    env = DenseNetSparsifyEnv(task="planted-20")
    env.reset()
    with pytest.raises(InvalidValue, match=r"one integer, 0 .drop. or 1 .keep."):
        env.step(action)
    assert env.step(1)[-1]["connection"].tolist() == env.topology.connections[1].tolist()


@pytest.mark.parametrize(
    "action", [1, [0, 1], [0, 1, 2, 0], [0.0] * 4, np.zeros((1, 4), int), [-1, 0, 0, 0], [[1], [0, 0]], None]
)
def test_a_wrong_multi_discrete_action_is_refused(action):
    env = DenseNetSparsifyEnv(task="planted-20", decision="layer")
    assert env.action_space.nvec.tolist() == [2] * 4 == [2] * (5 - 1)
    env.reset()
    with pytest.raises(InvalidValue, match="4 integers"):
        env.step(action)
    for right in ([0, 1, 1, 0], (True, False, False, False), np.ones(4, np.uint8)):
        env.step(right)


def test_steps_outside_an_episode_are_refused():
    env = DenseNetSparsifyEnv(task="planted-20", decision="network", render_mode="ansi")
    for call in (lambda: env.step([0] * 20), env.action_masks, env.sample_mask, env.render):
        with pytest.raises(ResetNeeded, match="call reset"):
            call()
    env.reset()
    env.step([1] * 20)
    env.action_masks(), env.sample_mask(), env.render()
    with pytest.raises(ResetNeeded, match="over"):
        env.step([1] * 20)
    env.reset()
    assert env.step([1] * 20)[2]
    assert issubclass(ResetNeeded, gym.error.ResetNeeded)
    assert issubclass(ResetNeeded, AdsGymError)


def test_whole_masks_are_checked_before_they_are_paid_for():
    env = DenseNetSparsifyEnv(task="planted-20", max_macs=0.7)
    assert env.problem.score(np.zeros((0, 20), bool)) == []
    chain = env.problem.score(env.topology.chain()[None])
    assert [type(score.metrics) for score in chain] == [Metrics]
    for masks, complaint in [
        (env.topology.chain(), "shape"),
        (np.zeros((2, 19), bool), "20 bits"),
        (np.zeros((2, 20)), "dtype float64"),
        (np.full((1, 20), 2), "0 and 1"),
        ([env.topology.chain(), env.topology.dense()], "mask 1 needs"),
    ]:
        with pytest.raises(InvalidValue, match=complaint):
            env.problem.score(masks)


def test_rewards_by_name_and_by_function():
    masks = np.random.default_rng(0).integers(0, 2, (3, 20)).astype(bool)
    for reward, value in [
        ("accuracy", lambda m: m.accuracy),
        ("soft", lambda m: m.soft_accuracy),
        ("loss", lambda m: -m.loss),
        (lambda m: m.macs / 1e6, lambda m: m.macs / 1e6),
        ("math:sin", None),
    ]:
        env = DenseNetSparsifyEnv(task="planted-20", reward=reward, decision="network")
        if value:
            for score in env.problem.score(masks):
                assert score.objective == value(score.metrics)
        else:
            with pytest.raises(InvalidValue, match="must take metrics and return a number"):
                env.problem.score(masks)


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), None, "good"])
def test_a_reward_that_is_no_number_is_refused(answer):
    env = DenseNetSparsifyEnv(task="planted-20", reward=lambda metrics: answer, decision="network")
    env.reset()
    with pytest.raises(InvalidValue, match="number"):
        env.step([0] * 20)


def test_an_even_weight_beyond_all_weights_is_refused():
    env = DenseNetSparsifyEnv(task="planted-20", reward=lambda m: 1e4 * m.relative_cost, cost_weight="even")
    with pytest.raises(InvalidValue, match="scale the reward"):
        env.reset()


@pytest.mark.parametrize(
    ("settings", "kind", "complaint"),
    [
        ({"task": "planted-54"}, UnknownName, "planted-45"),
        ({"task": 45}, InvalidValue, "task should be"),
        ({"scope": "layer"}, UnknownName, "'layers'"),
        ({"decision": "conection"}, UnknownName, "'connection'"),
        ({"observation": "matrices"}, UnknownName, "'matrix'"),
        ({"reward": "acuracy"}, UnknownName, "'accuracy'"),
        ({"reward": 3}, InvalidValue, "reward should be"),
        ({"render_mode": "rgb"}, UnknownName, "'rgb_array'"),
        ({"cost_weight": -0.1}, InvalidValue, "from 0 to 100"),
        ({"cost_weight": "evn"}, InvalidValue, "'even'"),
        ({"cost_weight": float("nan")}, InvalidValue, "cost_weight should be a finite number"),
        ({"max_macs": 0.01}, InvalidValue, "relative MACs"),
        ({"max_macs": 60}, InvalidValue, "relative MACs"),
        ({"evaluator": object()}, InvalidValue, "an evaluator is"),
        ({"store": 3}, InvalidValue, "store should be"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings, kind, complaint):
    with pytest.raises(kind, match=complaint) as refused:
        DenseNetSparsifyEnv(**{"task": "planted-20", **settings})
    assert isinstance(refused.value, AdsGymError)
    assert isinstance(refused.value, ValueError)


def test_wrong_reset_options_are_refused():
    env = DenseNetSparsifyEnv(task="planted-20", max_macs=0.7)
    with pytest.raises(UnknownName, match="'decided'"):
        env.reset(options={"decide": np.full(20, -1)})
    for decided in (np.zeros(20, int), np.full(21, -1), np.r_[np.ones(19, int), -1], None):
        with pytest.raises(InvalidValue):
            env.reset(options={"decided": decided})
    env.reset(options={})


def test_pictures_in_every_mode(capsys):
    env = make(render_mode="ansi", max_macs=0.75)
    env.reset()
    env.step(1)
    assert "decided 1 of 20, kept 1; next: block 1, layer 3 reads 0" in env.render()
    assert "of at most 0.75" in env.render()
    pixels = make(render_mode="rgb_array")
    pixels.reset()
    frame = pixels.render()
    assert frame.dtype == np.uint8
    assert (frame == (255, 165, 0)).all(axis=2).any()  # what comes next is orange
    human = make(render_mode="human")
    human.reset()
    human.step(0)
    assert "decided 1 of 20, kept 0" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="render_mode"):
        assert DenseNetSparsifyEnv(task="planted-20").render() is None
