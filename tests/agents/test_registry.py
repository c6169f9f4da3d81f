"""Finding agents, and their kinds."""

import functools

import numpy as np
import pytest

from ads_gym.agents.registry import Kind, LoadedAgent, agent_names, find_agent, parse_options
from ads_gym.errors import InvalidValue, MissingPackage, NotFound, UnknownName


class Learner:
    num_envs = 3
    observation = "flat"

    def __init__(self, env, *, seed=0, rate=0.5):
        self.made_with = (env, seed, rate)

    def learn(self, total_timesteps): ...


class Asker:
    num_envs = 3  # which an optimiser has no use for

    def __init__(self, problem, *, seed, width=3):
        self.made_with = (problem, seed, width)

    def ask(self, n): ...

    def tell(self, masks, scores): ...


class Both(Asker):
    def learn(self, total_timesteps): ...


class AskOnly:
    def ask(self, n): ...


def play(env, seed, *, steps=3): ...


@pytest.mark.parametrize(
    ("agent", "kind", "num_envs", "observation"),
    [
        (Learner, Kind.POLICY, 3, "flat"),
        (functools.partial(Learner, rate=0.1), Kind.POLICY, 3, "flat"),
        (Asker, Kind.OPTIMISER, None, None),
        (functools.partial(Asker, width=9), Kind.OPTIMISER, None, None),
        (Both, Kind.POLICY, 3, None),
        (AskOnly, Kind.FUNCTION, None, None),
        (play, Kind.FUNCTION, None, None),
        (functools.partial(play, steps=9), Kind.FUNCTION, None, None),
        (lambda env, seed: None, Kind.FUNCTION, None, None),
    ],
)
def test_kinds(agent, kind, num_envs, observation):
    found = find_agent(agent)
    assert isinstance(found, LoadedAgent)
    assert (found.make, found.kind, found.num_envs, found.observation) == (agent, kind, num_envs, observation)


def test_policies_and_optimisers_are_built_with_seed_and_options():
    assert find_agent(Learner).build("env", 7, {"rate": 0.1}).made_with == ("env", 7, 0.1)
    assert find_agent(Asker).build("problem", 7, {}).made_with == ("problem", 7, 3)
    assert find_agent(functools.partial(Asker, width=9)).build("problem", 1, {}).made_with == ("problem", 1, 9)
    assert find_agent(Learner).name == f"{__name__}:Learner"


def test_by_module_and_name(tmp_path, monkeypatch):
    (tmp_path / "my_agents.py").write_text("def wander(env, seed): ...\nclass Chooser:\n    ask = tell = print\n")
    monkeypatch.chdir(tmp_path)
    assert find_agent("my_agents:wander").kind is Kind.FUNCTION
    assert (find_agent("my_agents:Chooser").name, find_agent("my_agents:Chooser").kind) == (
        "my_agents:Chooser",
        Kind.OPTIMISER,
    )


def test_ours_are_found_by_name():
    kinds = {name: find_agent(name).kind for name in agent_names()}
    optimisers = ["bayes", "bernoulli", "density", "evolution", "gates", "local", "magnitude", "nsga2"]
    optimisers += ["patterns", "pretrained", "random", "residual", "saliency", "tpe"]
    assert sorted(name for name, kind in kinds.items() if kind is Kind.OPTIMISER) == optimisers
    assert {name for name, kind in kinds.items() if kind is Kind.POLICY} == {"recurrent", "recurrent-ppo"}
    assert (find_agent("recurrent").num_envs, find_agent("recurrent").observation) == (8, "matrix")


def test_the_old_name_is_answered_with_its_successors():
    with pytest.raises(UnknownName, match=r"'reinforce'.* recurrent .* bayes "):
        find_agent("reinforce")


def test_anyones_are_found_by_name(tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text("def play(env, seed): pass\n")
    (tmp_path / "elsewhere-1.dist-info").mkdir()
    (tmp_path / "elsewhere-1.dist-info" / "METADATA").write_text("Name: elsewhere\nVersion: 1\n")
    (tmp_path / "elsewhere-1.dist-info" / "entry_points.txt").write_text(
        "[ads_gym.agents]\nwanderer = elsewhere:play\nbroken = elsewhere:nothing\nrandom = elsewhere:play\n"
        "reinforce = elsewhere:play\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("wanderer", "reinforce"):
        assert find_agent(name).make.__module__ == "elsewhere"
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
        assert (agent.name, agent.kind) == (f"sb3:{name}", Kind.FUNCTION)
        assert (agent.num_envs, agent.observation) == (8, "flat")
        agent.check_options({"learning_rate": 1e-3})


@pytest.mark.parametrize(
    ("agent", "error", "says"),
    [
        ("recurent", UnknownName, "Did you mean 'recurrent'"),
        ("no_such_module:agent", NotFound, "no_such_module"),
        ("math:pie", UnknownName, "pi"),
        ("math:pi", InvalidValue, "play"),
        (3, InvalidValue, "play"),
        ([], InvalidValue, "play"),
        (Asker(None, seed=0), InvalidValue, "a class with `ask` and `tell`"),
    ],
)
def test_what_is_no_agent(agent, error, says):
    with pytest.raises(error, match=says):
        find_agent(agent)


def test_the_number_of_environments():
    def many(env, seed): ...

    many.num_envs = np.int64(4)
    assert type(find_agent(many).num_envs) is int
    for wrong in (0, 2.0, True, "8"):
        many.num_envs = wrong
        with pytest.raises(InvalidValue, match="num_envs"):
            find_agent(many)


def test_options_are_checked_by_name():
    def needs(env, seed, must): ...

    def takes_all(env, seed, **options): ...

    find_agent(takes_all).check_options({"anything": 1})
    for agent, right, wrong in ((Learner, "rate", "raet"), (Asker, "width", "widht")):
        find_agent(agent).check_options({right: 0.1})
        with pytest.raises(UnknownName, match=f"Did you mean '{right}'"):
            find_agent(agent).check_options({wrong: 0.1})
        with pytest.raises(UnknownName, match="unknown option"):
            find_agent(agent).check_options({"seed": 1})
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
