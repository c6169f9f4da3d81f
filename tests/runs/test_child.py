"""Agents in processes of their own: what they get, what is recorded, and how they end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import strangers
from commands import read_manifest, read_rows, run_here
from searches import timeless

import ads_gym
from ads_gym.errors import AgentFailed, InvalidValue, TimeLimit

SECONDS = 120  # in which every agent here ends by itself, or not at all
SOON = 12  # in which some of their evaluations are done


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def search(run, agent, evaluations=30, task="planted-45", time_limit=SECONDS, **keywords):
    settings = {"run": Path(run), "time_limit": time_limit, "progress": False} | keywords
    return ads_gym.search(task, agent, evaluations, **settings)


def check_same_record(agent, **keywords):
    alone, here = search("alone", agent, **keywords), search("here", agent, time_limit=None, **keywords)
    assert timeless(alone.folder) == timeless(here.folder)
    one, other = (read_manifest(Path(folder)) for folder in ("alone", "here"))
    assert one["identity"] == other["identity"] and one["result"] == other["result"]
    return alone, here


def test_a_policy_with_a_vector_environment_plays_as_it_does_here(tmp_path):
    check_same_record(strangers.Learner)
    assert Path("alone/policy.json").read_text() == Path("here/policy.json").read_text()
    taken, others = (read_manifest(Path(folder))["agent_seconds"] for folder in ("alone", "here"))
    assert 0 < taken < 20 * others + 1  # of CPU; the start of its process is none of its own


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["honest", "Mutants", "stubborn"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"max_macs": 0.6, "reward": "strangers:spacious"}, {"scope": "all", "cost_weight": 0.3}],
    ids=["plain", "reward", "all"],
)
def test_others_play_as_they_do_here(agent, settings):
    alone, _ = check_same_record(f"strangers:{agent}", **settings)
    assert alone.stopped_by == ("episodes" if agent == "stubborn" else "evaluations")


@pytest.mark.slow
def test_ours_play_as_they_do_here():
    for number, agent in enumerate(("random", "bayes", "recurrent", "recurrent-ppo", "sb3:dqn")):
        alone, here = (search(f"{number}-{limit}", agent, 40, time_limit=limit) for limit in (SECONDS, None))
        assert timeless(alone.folder) == timeless(here.folder), agent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "options"), [("residual", {}), ("saliency", {"networks": "dense"}), ("strangers:Reader", {})]
)
def test_features_are_the_parents_and_charged(agent, options):
    alone, here = check_same_record(agent, evaluations=12, task="digits-table", agent_options=options)
    assert alone.charged == here.charged > 0


@pytest.mark.slow
def test_a_start_is_the_parents_too():
    alone, _ = check_same_record("local", evaluations=30, task="digits-table", agent_options={"start": "residual"})
    assert alone.charged > 0


def test_an_agent_finds_nothing_but_a_pipe(tmp_path):
    places = {"store": tmp_path / "apart/secret-store.sqlite", "run": tmp_path / "apart/secret-run"}
    result = search(agent=strangers.prying, evaluator="planted:pairwise:3", **places)
    assert result.evaluations == 30
    found = json.loads(Path("found.json").read_text())
    assert found["seen"] > 5_000 and len(found["texts"]) > 1_000
    assert (found["modules"], found["evaluators"]) == ([], [])
    assert found["problem"] == [None, None, "RemoteEvaluator"]
    assert set(found["objects"]) == {"RemoteEvaluator"}
    assert not [text for text in found["texts"] if "secret-" in text or "pairwise:3" in text]


def test_an_agent_that_raises_is_told_with_its_own_traceback():
    with pytest.raises(AgentFailed) as raised:
        search("run", strangers.raising)
    told = str(raised.value)
    assert "Its traceback:\nTraceback" in told and told.endswith("KeyError: 4")
    assert "in raising" in told and "return {}[number]" in told
    assert "driving.py" not in told and "in_child.py" not in told
    assert "kept in" in told and len(read_rows(Path("run"))) == 5 and Path("run/best.json").exists()


def test_a_process_that_does_not_even_begin_in_time_leaves_nothing():
    with pytest.raises(TimeLimit, match=r"time_limit = 0.05 seconds and 0 of 30 evaluations; its .* more time\.$"):
        search("run", strangers.endless, time_limit=0.05)
    assert not Path("run/manifest.json").exists()


@pytest.mark.slow
def test_time_that_is_over_is_told_and_the_run_goes_on():
    Path("sleep").touch()
    for seconds in (4, 8, 16, 32, 64):  # how long its process takes to begin depends on what else the machine does
        with pytest.raises(TimeLimit, match=r"of 30 evaluations; its process was ended: give it more time\.") as raised:
            search("run", strangers.sleeper, time_limit=seconds)
        if "seconds and 10 of 30" in str(raised.value):
            break
    assert len(read_rows(Path("run"))) == 10 and Path("run/best.json").exists()
    assert read_manifest(Path("run"))["result"] is None
    Path("sleep").unlink()
    search("run", strangers.sleeper)
    search("whole", strangers.sleeper, time_limit=None)
    assert timeless(Path("run")) == timeless(Path("whole"))


@pytest.mark.slow
@pytest.mark.parametrize("agent", [strangers.endless, strangers.deaf])
def test_an_agent_that_does_not_end_is_ended(agent):
    with pytest.raises(TimeLimit):
        search("run", agent, time_limit=SOON)


@pytest.mark.slow
def test_a_process_that_dies_is_told_with_its_exit_code():
    with pytest.raises(AgentFailed, match="ended with exit code 3 and without a word"):
        search("run", strangers.dying)
    assert len(read_rows(Path("run"))) == 5
    with pytest.raises(AgentFailed, match="SystemExit: had enough"):
        search("other", strangers.exiting)


@pytest.mark.slow
def test_our_errors_are_those_that_they_are_here():
    cases = {"TooWide": ({}, "has 45 bits"), "TooMuch": ({"max_macs": 0.6}, "max_macs allows")}
    cases["wrong_action"] = ({}, "an action is one integer")
    for name, (settings, told) in cases.items():
        messages = []
        for time_limit in (SECONDS, None):
            with pytest.raises(InvalidValue, match=told) as raised:
                search(f"{name}-{time_limit}", getattr(strangers, name), time_limit=time_limit, **settings)
            messages.append(str(raised.value))
        assert len(set(messages)) == 1


def test_what_another_process_cannot_have_is_refused():
    with pytest.raises(InvalidValue, match="agent gates learns on the trained network itself"):
        search("run", "gates", task="digits-table")
    with pytest.raises(InvalidValue, match="start 'gates' learns on the trained network itself"):
        search("run", "local", task="digits-table", agent_options={"start": "gates"})
    with pytest.raises(InvalidValue, match="is not found there: use a class or function at the top of a module"):
        search("run", lambda env, seed: None)
    for wrong in (0, -1, "soon", float("nan"), 1e300):
        with pytest.raises(InvalidValue, match="time_limit should be"):
            search("run", strangers.honest, time_limit=wrong)
    assert not Path("run").exists() or not list(Path("run").glob("*.*"))


def is_alive(process):
    """Whether a process runs, and is not only still listed."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
def test_an_agents_processes_end_with_the_search(tmp_path):
    with pytest.raises(InvalidValue, match="ended before a single network was evaluated"):
        search("run", strangers.starting_others)
    wait_for(lambda: not any(map(is_alive, Path("others").read_text().split())))
    Path("others").unlink()
    Path("sleep").touch()
    code = (
        f"import ads_gym; ads_gym.search('planted-45', 'strangers:starting_others', run='killed', time_limit={SECONDS})"
    )
    path = os.pathsep.join(sys.path)
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})
    wait_for(lambda: Path("others").exists() and Path("others").read_text())
    processes = Path("others").read_text().split()
    assert all(map(is_alive, processes))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not any(map(is_alive, processes)))


@pytest.mark.slow
def test_the_command_has_a_time_limit(capsys):
    command = ("search", "--task", "planted-45", "--evaluations", 30, "--time-limit", SECONDS)
    done = run_here(capsys, *command, "--agent", "strangers:honest")
    assert done.code == 0 and "30 evaluations" in done.out
    failed = run_here(capsys, *command, "--agent", "strangers:raising")
    assert failed.code == 2 and "\n    return {}[number]\n" in failed.err and "driving.py" not in failed.err
