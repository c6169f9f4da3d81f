import functools

import pytest

from ads_gym.agents.registry import agent_names, find_agent, parse_options
from ads_gym.errors import InvalidValue, MissingPackage, NotFound, UnknownName


class Learner:
    num_envs = 3
    observation = "flat"
    calls: list = []  # noqa: RUF012

    def __init__(self, env, seed=0, rate=0.5):
        self.calls.append((env, seed, rate))

    def learn(self, total_timesteps):
        self.calls.append(total_timesteps)


def play(env, seed, *, steps=3):
    env.append((seed, steps))


def test_a_class_with_learn_is_built_and_then_learns():
    agent = find_agent(Learner)
    assert (agent.num_envs, agent.observation, agent.learns) == (3, "flat", True)
    assert agent.name == f"{__name__}:Learner"
    Learner.calls.clear()
    agent.run("env", 7, {"rate": 0.1}, 99)
    assert Learner.calls == [("env", 7, 0.1), 99]


def test_any_other_callable_plays():
    agent = find_agent(play)
    assert (agent.num_envs, agent.observation, agent.learns) == (None, None, False)
    agent.run(env := [], 7, {"steps": 5}, 99)
    assert env == [(7, 5)]
    find_agent(functools.partial(play, steps=9)).run(env, 1, {}, 99)
    assert env[1:] == [(1, 9)]


def test_by_module_and_name(tmp_path, monkeypatch):
    (tmp_path / "my_agents.py").write_text("def wander(env, seed):\n    env.append(seed)\n")
    monkeypatch.chdir(tmp_path)
    agent = find_agent("my_agents:wander")
    agent.run(env := [], 4, {}, 1)
    assert (agent.name, env) == ("my_agents:wander", [4])


def test_ours_are_found_by_name_as_anyones():
    assert {"random", "density", "bernoulli", "reinforce"} <= set(agent_names())
    agent = find_agent("random")
    assert (agent.name, agent.learns) == ("random", True)


def test_anyones_are_found_by_name(tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text("def play(env, seed): pass\n")
    (tmp_path / "elsewhere-1.dist-info").mkdir()
    (tmp_path / "elsewhere-1.dist-info" / "METADATA").write_text("Name: elsewhere\nVersion: 1\n")
    (tmp_path / "elsewhere-1.dist-info" / "entry_points.txt").write_text(
        "[ads_gym.agents]\nwanderer = elsewhere:play\nbroken = elsewhere:nothing\nrandom = elsewhere:play\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert find_agent("wanderer").make.__module__ == "elsewhere"
    with pytest.raises(MissingPackage, match="broken"):
        find_agent("broken")
    with pytest.raises(InvalidValue, match="more than once"):
        find_agent("random")


def test_a_registered_name_with_a_colon_comes_before_a_module(tmp_path, monkeypatch):
    for package in ("family", "faraway"):
        (tmp_path / f"{package}.py").write_text("def play(env, seed): pass\ndef other(env, seed): pass\n")
    (tmp_path / "faraway-1.dist-info").mkdir()
    (tmp_path / "faraway-1.dist-info" / "METADATA").write_text("Name: faraway\nVersion: 1\n")
    (tmp_path / "faraway-1.dist-info" / "entry_points.txt").write_text(
        "[ads_gym.agents]\nfamily:play = faraway:other\nkin:play = faraway:play\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    agent = find_agent("family:play")
    assert (agent.name, agent.make.__module__, agent.make.__name__) == ("family:play", "faraway", "other")
    assert find_agent("family:other").make.__module__ == "family"
    with pytest.raises(UnknownName, match="Did you mean 'kin:play'"):
        find_agent("kin:plya")


def test_stable_baselines3s_are_found_by_name():
    for name in ("ppo", "recurrent", "maskable"):
        agent = find_agent(f"sb3:{name}")
        assert (agent.name, agent.num_envs, agent.observation, agent.learns) == (f"sb3:{name}", 8, "flat", False)
        agent.check_options({"learning_rate": 1e-3})


@pytest.mark.parametrize(
    ("agent", "error", "says"),
    [
        ("reinforse", UnknownName, "Did you mean 'reinforce'"),
        ("no_such_module:agent", NotFound, "no_such_module"),
        ("math:pie", UnknownName, "pi"),
        ("math:pi", InvalidValue, "play"),
        (3, InvalidValue, "play"),
        ([], InvalidValue, "play"),
    ],
)
def test_what_cannot_play(agent, error, says):
    with pytest.raises(error, match=says):
        find_agent(agent)


def test_a_senseless_number_of_environments():
    def many(env, seed): ...

    many.num_envs = 0
    with pytest.raises(InvalidValue, match="num_envs"):
        find_agent(many)


def test_options_are_checked_before_anything_is_paid():
    def needs(env, seed, must): ...

    def takes_all(env, seed, **options): ...

    find_agent(Learner).check_options({"rate": 0.1})
    find_agent(takes_all).check_options({"anything": 1})
    with pytest.raises(UnknownName, match="Did you mean 'rate'"):
        find_agent(Learner).check_options({"raet": 0.1})
    with pytest.raises(UnknownName, match="unknown option"):
        find_agent(Learner).check_options({"seed": 1})
    with pytest.raises(InvalidValue, match="must"):
        find_agent(needs).check_options({})


def test_options_from_the_command_line():
    given = ["rate=0.5", "steps=3", "name=fast", "on=true", "none=null", "sizes=[1, 2]", "learn-rate=1e-3", "text="]
    assert parse_options(given) == {
        "rate": 0.5,
        "steps": 3,
        "name": "fast",
        "on": True,
        "none": None,
        "sizes": [1, 2],
        "learn_rate": 1e-3,
        "text": "",
    }
    for wrong in (["rate"], ["=3"], ["a b=3"], ["rate=1", "rate=2"]):
        with pytest.raises(InvalidValue):
            parse_options(wrong)
