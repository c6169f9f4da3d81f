"""The benchmark as it is used: tables, the same after a kill, and what is told where something is wrong."""

import contextlib
import csv
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import run_here

from ads_gym.agents.registry import agent_names, find_agent
from ads_gym.benchmark.page import write
from ads_gym.benchmark.places import FILE, plain, supernet_names
from ads_gym.benchmark.records import PLAN as PLAN_FORMAT
from ads_gym.benchmark.records import RESULTS, Plan
from ads_gym.benchmark.runner import benchmark
from ads_gym.benchmark.statistics import DEFINITION
from ads_gym.benchmark.summary import by_task
from ads_gym.benchmark.tables import markdown
from ads_gym.errors import InvalidValue, UnknownName
from ads_gym.evaluators.table import every_mask
from ads_gym.problem import make_problem

PLAN = Plan(("planted-20", "digits-table"), ("local", "magnitude"), 0, 2, 30)
STARTING = ["bayes", "bernoulli", "density", "evolution", "local", "nsga2", "recurrent", "tpe"]  # where the plan says
AGENT = """
import time
import numpy as np
def slow(env, seed):
    rng = np.random.default_rng(seed)
    while True:
        env.reset()
        over = False
        while not over:
            over = env.step(int(rng.random() < 0.5))[2]
        time.sleep(0.02)
def broken(env, seed):
    env.reset()
    raise RuntimeError("an agent's own mistake " + "x" * 10_000)
def leaves(env, seed):
    raise SystemExit("bye")
def dies(env, seed):
    import os
    os._exit(3)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    return folder, benchmark(PLAN, folder, workers=2, progress=False)


def timeless(results):
    """But for times."""
    played = tuple(replace(each, agent_seconds=0.0) for each in results.played)
    supernets = tuple(replace(each, evaluation_seconds=0.0) for each in results.supernets)
    return replace(results, began="-", ended="-", played=played, supernets=supernets)


def test_every_agent_on_every_supernet_with_every_seed(made):
    folder, results = made
    runs = [(each.supernet, each.agent, each.seed) for each in results.played]
    expected = [(task, agent, seed) for task in PLAN.tasks for agent in PLAN.agents for seed in (0, 1)]
    assert runs == [run for run in expected if run[:2] != ("planted-20", "magnitude")]
    assert [(each.supernet, each.agent, each.seed) for each in results.missing] == [("planted-20", "magnitude", None)]
    assert RESULTS.read(folder / FILE) == results and results.definition == DEFINITION
    assert [each.is_copied for each in results.supernets] == [False, True]
    for each in results.played:
        values = [value for _, value in each.improved]
        assert each.evaluations == (30 if each.agent != "magnitude" else 17) and values == sorted(set(values))
        assert each.agent_seconds > 0


def test_scores_are_of_random_masks_and_the_exact_optimum(made):
    _, results = made
    planted, table = by_task(results)
    problem = make_problem("digits-table", weights="repaired", reward="soft", cost_weight="even")
    objectives = np.array([each.objective for each in problem.score(every_mask(16))])
    assert table.supernets[0].optimum == objectives.max() == table.best_known[0]
    rng = np.random.default_rng(0)
    drawn = problem.score(np.stack([problem.sample(rng) for _ in range(256)]))
    assert table.supernets[0].random_mean == pytest.approx(np.mean([each.objective for each in drawn]))
    best = np.array([[run.best for run in runs] for runs in table.agents["local"]])
    mean = table.random_means[0]
    assert table.scores("local", 30) == pytest.approx((best - mean) / (objectives.max() - mean))
    assert planted.missing == {"magnitude": "n/a"} and planted.supernets[0].optimum is None
    assert set(table.agents) == set(PLAN.agents)


def test_who_is_never_there_is_infinitely_late(made):
    _, results = made
    table = [*by_task(results)][1]
    assert np.isinf(table.arrivals("magnitude")).all()
    first = table.scores("local", 1)
    assert (first <= table.scores("local", 30)).all()


def test_what_is_charged_counts(made, tmp_path):
    results = benchmark(Plan(("digits-table",), ("saliency", "random"), 0, 1, 20), tmp_path, progress=False)
    saliency = results.played[0]
    assert saliency.charged > 0 and saliency.improved[0][0] == saliency.charged + 1
    (part,) = by_task(results)
    assert part.scores("saliency", saliency.charged) == 0  # nothing is evaluated yet


def test_tables(made, tmp_path):
    _, results = made
    text = markdown(results)
    assert "| magnitude | features | n/a |" in text and "the exact optimum" in text and "Too little to tell" in text
    paths = write(results, tmp_path)
    with paths[2].open() as file:
        assert len(list(csv.DictReader(file))) == len(results.played)
    assert paths[3].read_bytes().startswith(b"\x89PNG")
    html = paths[4].read_text()
    assert "<td>n/a</td>" in html and "data:image/png" in html and "<script" not in html


def test_the_same_call_shows_it_again_and_another_is_refused(made):
    folder, results = made
    assert timeless(benchmark(PLAN, folder, progress=False)) == timeless(results)
    with pytest.raises(InvalidValue, match="another plan"):
        benchmark(replace(PLAN, evaluations=31), folder, progress=False)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"agents": ("randm",)}, UnknownName, "Did you mean 'random'"),
        ({"agents": ("random", "random")}, InvalidValue, "named twice"),
        ({"agents": ("evolution?populatoin=3",)}, UnknownName, "Did you mean 'population'"),
        ({"agents": ("evolution?population",)}, InvalidValue, "key=value"),
        ({"agents": ("recurrent?elite=3",)}, UnknownName, "Did you mean 'elites'"),
        ({"tasks": ("planted-21",)}, UnknownName, "planted-20"),
        ({"weights": "repared"}, UnknownName, "repaired"),
        ({"reward": "sof"}, UnknownName, "Did you mean 'soft'"),
        ({"cost_weight": "evn"}, InvalidValue, "'even'"),
        ({"start": "residul"}, UnknownName, "Did you mean 'residual'"),
        ({"tasks": ("digits-table", "digits-table")}, InvalidValue, "named twice"),
        ({"tasks": ("digits-table@2", "digits-table"), "supernets": 2}, InvalidValue, "named twice"),
        ({"tasks": ("digits-table@99",), "max_macs": 0.01}, InvalidValue, "limit on relative MACs"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_played(tmp_path, change, error, says):
    with pytest.raises(error, match=says):
        benchmark(replace(PLAN, **change), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_start_is_of_agents_that_have_one_and_tasks_that_have_features(tmp_path):
    plan = Plan(("planted-20", "digits-table"), ("local", "random"), 0, 1, 12, start="magnitude")
    results = benchmark(plan, tmp_path, progress=False)
    assert [(each.supernet, each.agent) for each in results.missing] == [("planted-20", "local")]
    assert "none to start at" in results.missing[0].why
    assert {(each.supernet, each.agent) for each in results.played} == {
        ("planted-20", "random"),
        ("digits-table", "local"),
        ("digits-table", "random"),
    }
    assert [name for name in agent_names() if find_agent(name).has_option("start")] == STARTING


def test_agents_with_options_are_others(tmp_path):
    agents = ("evolution?population=4&flips=2", "evolution?population=8", "evolution")
    results = benchmark(Plan(("planted-20",), agents, 0, 1, 24), tmp_path, progress=False)
    assert tuple(each.agent for each in results.played) == agents and not results.missing
    assert len({each.improved for each in results.played}) == 3


def test_no_workers_is_an_error(tmp_path):
    with pytest.raises(InvalidValue, match="workers"):
        benchmark(PLAN, tmp_path, workers=0, progress=False)


def test_names_of_files_are_as_different_as_names():
    names = ["digits@1", "/a/b c", "/a/b-c", "a/b", "A" * 300, "A" * 301, ".", "..", "..a"]
    assert plain("digits@1") == "digits@1" and len({plain(name) for name in names}) == len(names)
    assert all(len(plain(name)) <= 100 and "/" not in plain(name) and plain(name)[0] != "." for name in names)


def test_a_result_that_nobody_betters_is_told(made):
    _, results = made
    flat = replace(
        results, supernets=tuple(replace(each, random_mean=99.0, optimum=None) for each in results.supernets)
    )
    assert "Nothing is ranked" in markdown(flat) and "digits-table" in markdown(flat)


def test_runs_of_agents_that_failed_once_count_as_known(made):
    _, results = made
    best = max(results.played, key=lambda run: run.best if run.supernet == "planted-20" else -9)
    fewer = replace(results, played=tuple(run for run in results.played if run.agent != best.agent or run is best))
    part = next(iter(by_task(fewer)))
    assert best.agent not in part.agents and part.best_known[0] == best.best and part.score_of(best) == 1


def test_the_time_of_evaluations_is_not_that_of_looking_up(made, tmp_path):
    folder, results = made
    again = benchmark(PLAN, folder, progress=False)
    for first, second in zip(results.supernets, again.supernets, strict=True):
        assert second.evaluation_seconds > first.evaluation_seconds / 20


def test_a_definition_that_changes_has_another_version():
    digest = hashlib.sha256(json.dumps(DEFINITION, sort_keys=True).encode()).hexdigest()
    assert {1: "5107385f3b7231d3"}[DEFINITION["version"]] == digest[:16]


@pytest.mark.parametrize("change", [{"seeds": 0}, {"evaluations": 0}, {"agents": ()}, {"tasks": ()}])
def test_a_plan_of_nothing(change):
    with pytest.raises(InvalidValue):
        replace(PLAN, **change)


def test_a_plan_in_a_file(tmp_path, capsys):
    plan = replace(PLAN, tasks=("planted-20",), agents=("random",), seeds=1, evaluations=3)
    PLAN_FORMAT.write(tmp_path / "plan.json", plan)
    done = run_here(capsys, "benchmark", "--plan", tmp_path / "plan.json", "--out", tmp_path / "out")
    assert done.code == 0 and RESULTS.read(tmp_path / "out" / FILE).plan == plan
    both = run_here(capsys, "benchmark", "--plan", tmp_path / "plan.json", "--seeds", 3, "--out", tmp_path / "other")
    assert both.code == 2 and "--plan says seeds already" in both.err


def test_supernets_of_a_task():
    assert supernet_names("digits", 3) == ["digits@1", "digits@2", "digits@3"]
    assert supernet_names("digits@7", 3) == ["digits@7"] and supernet_names("planted-20", 3) == ["planted-20"]
    assert supernet_names("digits", 0) == ["digits"]


def test_an_agents_own_mistake_leaves_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mistaken.py").write_text(AGENT)
    options = ("--tasks", "planted-20", "--supernets", 0, "--seeds", 1, "--evaluations", 10, "--out", "out")
    agents = "random,mistaken:broken,mistaken:leaves,mistaken:dies"
    done = run_here(capsys, "benchmark", *options, "--agents", agents, "--workers", 2)
    assert (
        done.code == 1 and "| mistaken:broken | nothing | failed: RuntimeError: an agent's own mistake xxx" in done.out
    )
    assert "| mistaken:leaves | nothing | failed: SystemExit: bye |" in done.out
    assert "| mistaken:dies | nothing | failed: the process of agent mistaken:dies ended with exit code 3" in done.out
    assert "| random | " in done.out and str(tmp_path / "out/results.md") in done.out


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(tmp_path):
    (tmp_path / "mistaken.py").write_text(AGENT)
    command = [sys.executable, "-m", "ads_gym", "benchmark", "--tasks", "planted-20,digits-table", "--supernets", "0"]
    command += ["--seeds", "2", "--evaluations", "40", "--agents", "local,evolution,mistaken:slow", "--workers", "2"]
    options = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    began = time.perf_counter()
    subprocess.run([*command, "--out", "whole"], check=True, **options)
    took, rng = time.perf_counter() - began, np.random.default_rng(0)
    for _ in range(5):
        process = subprocess.Popen([*command, "--out", "killed"], start_new_session=True, **options)
        time.sleep(rng.uniform(0.2, 0.9) * took)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*command, "--out", "killed"], check=True, **options)
    whole, killed = (RESULTS.read(tmp_path / name / FILE) for name in ("whole", "killed"))
    assert timeless(whole) == timeless(killed) and math.isfinite(whole.played[0].best)
    assert json.loads((tmp_path / "killed/plan.json").read_text())["format"] == "ads-gym benchmark plan"


def working(folder):
    """Processes that have a file of a folder open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(folder) in str(each.readlink()) for each in (process / "fd").iterdir()):
                found.append(int(process.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, by):
    (tmp_path / "mistaken.py").write_text(AGENT)
    command = [
        sys.executable,
        "-m",
        "ads_gym",
        "benchmark",
        "--tasks",
        "planted-20",
        "--supernets",
        "0",
        "--seeds",
        "4",
    ]
    command += ["--evaluations", "300", "--agents", "mistaken:slow", "--workers", "2", "--out", "out"]
    options = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **options)
    runs = tmp_path / "out/runs"
    while not [*runs.glob("*/*/*/record.sqlite")]:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(by)
    process.wait()
    began = time.perf_counter()
    while working(runs):
        assert time.perf_counter() - began < 20
        time.sleep(0.1)
    subprocess.run(command, check=True, **options)  # exits with 1 where a run failed


@pytest.mark.slow
def test_supernets_are_trained_when_they_are_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("ADS_GYM_HOME", str(tmp_path / "home"))
    plan = Plan(("digits",), ("random",), 2, 1, 5, weights="inherited")
    results = benchmark(plan, tmp_path / "out", progress=False)
    assert [each.name for each in results.supernets] == ["digits@1", "digits@2"]
    assert results.supernets[0].random_mean != results.supernets[1].random_mean
