"""Many episodes in arrays against `SyncVectorEnv` of as many single environments, bit for bit."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from playing import make

from ads_gym.architecture import DenseNetConfig
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.envs.vector import DenseNetSparsifyVectorEnv
from ads_gym.errors import AdsGymError, InvalidValue, ResetNeeded, UnknownName
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.evaluators.store import EvaluationStore, StoredEvaluator

N = 5
E = 20  # of planted-20


def both(mode="NextStep", count=N, **settings):
    """(the rival, ours)."""
    settings = {"task": "planted-20", **settings}
    sync = SyncVectorEnv([lambda: DenseNetSparsifyEnv(**settings)] * count, autoreset_mode=mode)
    return sync, DenseNetSparsifyVectorEnv(count, autoreset_mode=mode, **settings)


def assert_same(theirs, ours):
    """To the bit, dtypes and infos within infos included."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, tuple | list):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            assert_same(our, their)
    elif isinstance(theirs, np.ndarray) and theirs.dtype == object:
        assert_same(list(ours), list(theirs))
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()
    else:
        assert ours == theirs


def drawn_actions(envs, rng, keep=0.5):
    return (rng.random(envs.action_space.shape) < keep).astype(np.int64)


def restart_what_is_over(envs, over):
    return [env.reset(options={"reset_mask": over.copy()}) for env in envs] if over.any() else None


@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
@pytest.mark.parametrize("observation", ["matrix", "flat"])
@pytest.mark.parametrize(("max_macs", "cost_weight"), [(None, 0.0), (0.6, 0.3), (None, "even"), (0.75, "even")])
@pytest.mark.parametrize("scope", ["layers", "all"])
@pytest.mark.parametrize("decision", ["connection", "layer", "network"])
def test_it_plays_what_single_environments_play(decision, scope, max_macs, cost_weight, observation, mode):
    envs = sync, ours = both(
        mode, decision=decision, scope=scope, max_macs=max_macs, cost_weight=cost_weight, observation=observation
    )
    assert ours.observation_space == sync.observation_space
    assert ours.action_space == sync.action_space
    assert ours.metadata == sync.metadata
    rng = np.random.default_rng(7)
    assert_same(*(env.reset(seed=3) for env in envs))
    ends = 0
    while ends < 3 * N:
        actions = drawn_actions(ours, rng)
        results = [env.step(actions) for env in envs]
        assert_same(*results)
        assert_same(tuple(ours.call("action_masks")), sync.call("action_masks"))
        over = results[0][2]
        ends += over.sum()
        if mode == "Disabled" and (restarted := restart_what_is_over(envs, over)):
            assert_same(*restarted)


@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
@pytest.mark.parametrize("observation", ["matrix", "flat"])
@pytest.mark.parametrize("max_macs", [None, 0.7])
@pytest.mark.parametrize("decision", ["connection", "layer", "network"])
def test_given_bits_and_environments_out_of_step(decision, max_macs, observation, mode):
    envs = sync, ours = both(mode, decision=decision, max_macs=max_macs, cost_weight=0.5, observation=observation)
    rng = np.random.default_rng(11)
    [env.reset() for env in envs]
    for _ in range(4):
        decided = np.where(rng.random((N, E)) < 0.4, (rng.random((N, E)) < 0.4).astype(np.int8), np.int8(-1))
        decided[:, rng.integers(E)] = -1
        decided[2] = -1
        for row in range(N):  # one after another: an option of a `SyncVectorEnv` is for all whom it resets
            only = np.arange(N) == row
            theirs = sync.reset(options={"decided": decided[row], "reset_mask": only.copy()})
        seen, infos = ours.reset(options={"decided": decided})
        assert_same(seen, theirs[0])
        assert infos["action_mask"][-1].tolist() == theirs[1]["action_mask"][-1].tolist()
        ends = 0
        while ends < 2 * N:
            actions = drawn_actions(ours, rng, keep=0.6)
            results = [env.step(actions) for env in envs]
            assert_same(*results)
            ends += results[0][2].sum()
            if mode == "Disabled":
                restart_what_is_over(envs, results[0][2])


def test_one_row_of_given_bits_is_for_all_that_are_reset():
    envs = both("Disabled", cost_weight=1.0)
    decided = np.full(E, -1)
    decided[[0, 1, 4]] = [1, 0, 1]
    assert_same(*(env.reset(seed=[4] * N, options={"decided": decided}) for env in envs))
    actions = np.ones(N, np.int64)
    assert_same(*(env.step(actions) for env in envs))
    which = np.array([True, False, False, True, False])
    assert_same(*(env.reset(options={"decided": decided, "reset_mask": which.copy()}) for env in envs))
    assert_same(*(env.step(actions) for env in envs))


@pytest.mark.parametrize("name", ["DenseNetSparsify-v0", "DenseNetSparsifyFlat-v0"])
def test_gymnasium_makes_it(name):
    envs = gym.make_vec(name, num_envs=3, task="planted-20", cost_weight="even", autoreset_mode="SameStep")
    assert isinstance(envs, DenseNetSparsifyVectorEnv)
    assert envs.num_envs == 3
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.single_observation_space == gym.make(name, task="planted-20").observation_space
    again = gym.make_vec(gym.envs.registration.EnvSpec.from_json(envs.spec.to_json()))
    assert_same(again.reset(), envs.reset())
    assert gym.make_vec(name, num_envs=2).metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert "autoreset_mode" not in DenseNetSparsifyVectorEnv.metadata


def test_all_ends_of_a_step_are_one_call_in_environment_order():
    class Watched(PlantedEvaluator):
        calls: list = []  # noqa: RUF012

        def evaluate_checked(self, masks):
            self.calls.append(masks.copy())
            return super().evaluate_checked(masks)

    envs = DenseNetSparsifyVectorEnv(4, evaluator=Watched(DenseNetConfig((3, 3))), decision="network")
    envs.reset()
    actions = np.random.default_rng(0).integers(0, 2, (4, envs.topology.size))
    infos = envs.step(actions)[-1]
    (masks,) = Watched.calls
    np.testing.assert_array_equal(masks, actions == 1)
    np.testing.assert_array_equal(infos["decisions"], actions)


def test_a_store_and_an_evaluator_are_shared(tmp_path):
    with EvaluationStore(tmp_path / "store.sqlite") as store:
        envs = DenseNetSparsifyVectorEnv(3, task="planted-20", store=store, decision="network")
        envs.reset()
        envs.step(np.tile([[1], [0], [1]], E))
        assert len(store) == 2
        assert isinstance(envs.problem.evaluator.inner, StoredEvaluator)
    path = tmp_path / "own.sqlite"
    envs = gym.make_vec("DenseNetSparsify-v0", 2, task="planted-20", store=str(path), decision="network")
    envs.reset()
    envs.step(np.ones((2, E), bool))
    envs.close()
    with EvaluationStore(path) as store:
        assert len(store) == 1


def test_beside_gymnasium_it_has_what_a_single_environment_has():
    envs = DenseNetSparsifyVectorEnv(3, task="planted-20", cost_weight=0.5, max_macs=0.9)
    one = make(cost_weight=0.5, max_macs=0.9).unwrapped
    masks = np.random.default_rng(0).random((4, E)) < 0.3
    assert envs.problem.score(masks) == one.problem.score(masks)
    assert (envs.problem.objective.cost_weight, envs.macs_limit) == (0.5, one.macs_limit)
    assert envs.autoreset_mode is envs.metadata["autoreset_mode"]
    assert (envs.topology, envs.config, envs.cost.dense_macs) == (one.topology, one.config, one.cost.dense_macs)
    assert envs.get_attr("topology") == (one.topology,) * 3
    assert envs.call("architecture", masks[0]) == (one.architecture(masks[0]),) * 3


@pytest.mark.parametrize("decision", ["connection", "layer", "network"])
def test_masks_of_legal_actions(decision):
    envs = DenseNetSparsifyVectorEnv(3, task="planted-20", decision=decision, max_macs=0.6)
    _, infos = envs.reset()
    for _ in range(E):
        masks = envs.action_masks()
        assert masks.dtype == np.bool_
        np.testing.assert_array_equal(masks, infos["action_mask"])
        if decision == "connection":
            actions = envs.action_space.sample(envs.sample_mask())
        else:
            actions = np.array([envs.single_action_space.sample(mask) for mask in envs.sample_mask()])
        infos = envs.step(actions)[-1]
        if decision == "connection":
            assert not infos["overruled"].any()


def test_it_renders_each(capsys):
    for mode in ("ansi", "rgb_array"):
        envs = both(render_mode=mode, count=2)
        for env in envs:
            env.reset()
            env.step([0, 1])
        assert_same(*(env.render() for env in envs))
    envs = DenseNetSparsifyVectorEnv(2, task="planted-20", render_mode="human")
    envs.reset()
    envs.step([0, 1])
    assert capsys.readouterr().out.count("decided 1 of") == 2
    with pytest.warns(UserWarning, match="render_mode"):
        assert DenseNetSparsifyVectorEnv(2, task="planted-20").reset() and both(count=2)[1].reset()
        quiet = both(count=2)[1]
        quiet.reset()
        assert quiet.render() == (None, None)


@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
def test_nothing_handed_out_is_used_again(mode):
    envs = [both(mode, observation="flat", decision="layer", max_macs=0.8)[1] for _ in range(2)]
    results = [env.reset() for env in envs]
    rng = np.random.default_rng(0)

    def spoil(value):
        if isinstance(value, dict):
            [spoil(each) for each in value.values()]
        elif isinstance(value, np.ndarray):
            value[...] = 1

    for _ in range(16):
        [spoil(value) for value in results[0]]
        actions = drawn_actions(envs[0], rng)
        results = [env.step(actions) for env in envs]
        assert_same(*results)
        if mode == "Disabled":
            restart_what_is_over(envs, results[0][2].copy())


def test_steps_outside_episodes_are_refused():
    envs = DenseNetSparsifyVectorEnv(2, task="planted-20", decision="network", autoreset_mode="Disabled")
    actions = np.zeros((2, E), np.int64)
    calls = [lambda: envs.step(actions), envs.action_masks, envs.sample_mask, envs.render]
    for call in [*calls, lambda: envs.reset(options={"reset_mask": np.array([True, False])})]:
        with pytest.raises(ResetNeeded, match="call reset"):
            call()
    envs.reset()
    envs.step(actions)
    envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match=r"environments \[1\] are over"):
        envs.step(actions)
    envs.reset(options={"reset_mask": np.array([False, True])})
    assert envs.step(actions)[2].all()


@pytest.mark.parametrize(
    ("decision", "actions"),
    [
        ("connection", 1),
        ("connection", [0, 1]),
        ("connection", [0, 1, 2]),
        ("connection", [0, -1, 1]),
        ("connection", [0.0, 1.0, 1.0]),
        ("connection", [[0], [1], [1]]),
        ("connection", [[0], [1], [1, 0]]),
        ("connection", None),
        ("connection", "011"),
        ("layer", [0, 1, 1]),
        ("layer", [[0, 1, 2, 0]] * 3),
        ("layer", np.zeros((3, 4))),
        ("layer", np.zeros((3, 5), int)),
        ("network", np.zeros((2, 20), int)),
    ],
)
def test_wrong_actions_are_refused_and_change_nothing(decision, actions):
    envs, twin = (DenseNetSparsifyVectorEnv(3, task="planted-20", decision=decision) for _ in range(2))
    envs.reset()
    twin.reset()
    with pytest.raises(InvalidValue, match=r"0 .drop. or 1 .keep."):
        envs.step(actions)
    right = np.ones(envs.action_space.shape, np.uint8)
    assert_same(envs.step(right), twin.step(right.astype(bool)))


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"decidde": 1}, UnknownName, "Did you mean 'decided'"),
        ({"reset_mask": [True, False, True]}, InvalidValue, "bool array"),
        ({"reset_mask": np.array([True, False])}, InvalidValue, "bool array"),
        ({"reset_mask": np.array([1, 0, 0])}, InvalidValue, "bool array"),
        ({"reset_mask": np.zeros(3, bool)}, InvalidValue, "resets nothing"),
        ({"decided": np.full((2, E), -1)}, InvalidValue, "shape"),
        ({"decided": np.full((3, 1, E), -1)}, InvalidValue, "shape"),
        ({"decided": np.full((3, E - 1), -1)}, InvalidValue, "entries"),
        ({"decided": np.zeros((3, E), int)}, InvalidValue, "nothing to decide"),
        ({"decided": np.array([[-1] * E, [-1] * E, [1] * (E - 1) + [-1]])}, InvalidValue, "MACs"),
        ({"decided": "nonsense"}, InvalidValue, "integers"),
    ],
)
def test_resets_that_cannot_be(options, error, says):
    envs, twin = (DenseNetSparsifyVectorEnv(3, task="planted-20", max_macs=0.6) for _ in range(2))
    for env in (envs, twin):
        env.reset()
        env.step([1, 0, 1])
    with pytest.raises(error, match=says):
        envs.reset(options=options)
    assert_same(envs.step([1, 1, 1]), twin.step([1, 1, 1]))


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"num_envs": True}, "num_envs"),
        ({"num_envs": "many"}, "num_envs"),
        ({"autoreset_mode": "Samestep"}, "Did you mean 'SameStep'"),
        ({"autoreset_mode": None}, "autoreset mode"),
        ({"decision": "connections"}, "Did you mean 'connection'"),
        ({"max_macs": 3}, "max_macs"),
    ],
)
def test_wrong_arguments(keywords, says):
    with pytest.raises(AdsGymError, match=says):
        DenseNetSparsifyVectorEnv(**{"num_envs": 2, "task": "planted-20", **keywords})


def test_seeds_are_checked():
    envs = DenseNetSparsifyVectorEnv(2, task="planted-20")
    envs.reset(seed=5)
    drawn = envs.np_random.random()
    envs.reset(seed=[5, 9])
    assert envs.np_random.random() == drawn == np.random.default_rng(5).random()
    with pytest.raises(InvalidValue, match="seeds"):
        envs.reset(seed=[1, 2, 3])


class Failing(PlantedEvaluator):
    """Raises `error` as often as it is set."""

    error: BaseException | None = None

    def evaluate_checked(self, masks):
        if self.error is not None:
            raise self.error
        return super().evaluate_checked(masks)


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
def test_an_evaluation_that_fails_is_no_end_and_asks_for_a_reset(mode, error):
    evaluator = Failing(DenseNetConfig((3, 3)))
    settings = {"evaluator": evaluator, "cost_weight": 0.5, "decision": "network", "autoreset_mode": mode}
    envs, twin = (DenseNetSparsifyVectorEnv(2, **settings) for _ in range(2))
    envs.reset()
    actions = np.ones((2, envs.topology.size), np.int64)
    evaluator.error = error
    with pytest.raises(type(error)):
        envs.step(actions)
    evaluator.error = None
    for which in ([True, False], [False, True]):
        with pytest.raises(ResetNeeded, match="not scored"):
            envs.step(actions)
        envs.reset(options={"reset_mask": np.array(which)})
    twin.reset()
    for _ in range(2):
        assert_same(*(env.step(actions) for env in (envs, twin)))
        if mode == "Disabled":
            assert_same(*(env.reset() for env in (envs, twin)))


def test_an_evaluation_that_fails_in_a_step_that_resets_others_spoils_nothing_of_theirs():
    evaluator = Failing(DenseNetConfig((3,)))
    envs = DenseNetSparsifyVectorEnv(2, evaluator=evaluator)
    assert envs.topology.size == 3
    envs.reset(options={"decided": np.array([[1, 1, -1], [1, -1, -1]])})
    assert envs.step([1, 1])[2].tolist() == [True, False]
    evaluator.error = OSError("no space")
    with pytest.raises(OSError, match="no space"):  # environment 0 is reset, the end of 1 is not scored
        envs.step([1, 1])
    evaluator.error = None
    envs.reset(options={"reset_mask": np.array([False, True])})
    assert envs.step([1, 1])[-1]["executed"].tolist() == [[1], [1]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": 1.5},
        {"seed": -1},
        {"seed": "ab"},
        {"seed": [-1, 2]},
        {"seed": [1]},
        {"options": 5},
        {"options": ["decided"]},
        {"options": {"decided": [[1], [1, 2]]}},
    ],
    ids=str,
)
def test_seeds_and_options_that_are_none(wrong):
    envs = gym.make_vec("DenseNetSparsify-v0", 2, task="planted-20")
    with pytest.raises(InvalidValue):
        envs.reset(**wrong)
    if "options" in wrong:
        with pytest.raises(InvalidValue):
            gym.make("DenseNetSparsify-v0", task="planted-20", disable_env_checker=True).reset(**wrong)
    for seed in (3, np.int64(3), [1, 2], (None, 2), np.array([1, 2])):
        envs.reset(seed=seed)
