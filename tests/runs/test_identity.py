"""A run knows what it is a run of: what begins another run, what a stored result answers for, and what is said."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import PROGRAM, read_manifest, read_rows, run_here, run_program
from marks import slow

import ads_gym
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.store import EvaluationStore
from ads_gym.objective import Objective
from ads_gym.runs.record import to_csv
from ads_gym.topology import Topology

TINY = ("--blocks", "4,2", "--growth", "2", "--stem", "4", "--epochs", "1", "--batch-size", "16", "--device", "cpu")
MINE = """
def play(env, seed):
    while True:
        env.reset()
        while not env.step({action})[2]:
            pass
        if {action} != 1:
            env.unwrapped.problem.score(env.unwrapped.topology.chain()[None])
"""


def coin(env, seed, density=0.5):
    rng = np.random.default_rng(seed)
    while True:
        env.reset()
        while not env.step(int(rng.random() < density))[2]:
            pass


class Three:
    """A vectorised policy."""

    num_envs = 3

    def __init__(self, env, seed):
        self.env, self.rng = env, np.random.default_rng(seed)

    def learn(self, total_timesteps):
        self.env.reset()
        for _ in range(total_timesteps):
            self.env.step(self.rng.integers(0, 2, 3))


def of_accuracy(metrics):
    return metrics.accuracy


def of_loss(metrics):
    return -metrics.loss


def search(agent="random", evaluations=24, **keywords):
    return ads_gym.search("planted-20", agent, evaluations, progress=False, **keywords)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty home and an empty current folder."""
    monkeypatch.setenv("ADS_GYM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def runs(place):
    return sorted((place / "runs").iterdir())


def program(*arguments, code=0):
    """Runs the program in a process of its own, where modules may have changed."""
    done = run_program(*arguments)
    assert done.code == code, done
    return done


@pytest.fixture
def run(capsys):
    """Runs it in this process."""

    def run(*arguments, code=0):
        done = run_here(capsys, *arguments)
        assert done.code == code, done
        return done

    return run


def table_of(out):
    """The lines of networks in the closing table."""
    return [line for line in out.splitlines() if line[1:6].strip() in ("dense", "chain", "best")]


def save_images(path, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    np.savez(path, images=images, labels=np.arange(60) % 2)


# Code


def test_an_edited_agent_is_another_run(place):
    """README's own loop: write mine.py, search, edit it, give the same command again."""
    command = ("search", "--task", "planted-20", "--agent", "mine:play", "--evaluations", "2")
    (place / "mine.py").write_text(MINE.format(action=1))
    first = program(*command)
    (place / "mine.py").write_text(MINE.format(action=0))
    second = program(*command)
    assert len(runs(place)) == 2 and "Stored result" not in second.out
    assert table_of(first.out)[-1] != table_of(second.out)[-1]
    (place / "mine.py").write_text(MINE.format(action=1))  # as it was: so is its run
    third = program(*command)
    assert "Stored result" in third.out and table_of(third.out) == table_of(first.out)


@pytest.mark.slow
def test_an_edited_module_that_an_agent_imports_is_another_run(place):
    (place / "helper.py").write_text("KEEP = 1\n")
    (place / "mine.py").write_text("from helper import KEEP\n" + MINE.format(action="KEEP"))
    command = ("search", "--task", "planted-20", "--agent", "mine:play", "--evaluations", "1")
    program(*command)
    (place / "helper.py").write_text("KEEP = 0\n")
    program(*command)
    assert len(runs(place)) == 2


def test_an_explicit_folder_of_other_code_is_an_error(place):
    command = ("search", "--task", "planted-20", "--agent", "mine:play", "--evaluations", "1", "--run", "r")
    (place / "mine.py").write_text(MINE.format(action=1))
    program(*command)
    before = read_manifest(place / "r")
    (place / "mine.py").write_text(MINE.format(action=0))
    done = program(*command, code=2)
    assert "other agent's code" in done.err and "--restart" in done.err and done.err.count("\n") == 1
    assert read_manifest(place / "r") == before


@pytest.mark.slow
def test_an_edited_reward_is_another_run(place):
    command = ("search", "--task", "planted-20", "--agent", "random", "--evaluations", "4", "--reward", "mine:reward")
    (place / "mine.py").write_text("def reward(metrics):\n    return metrics.accuracy\n")
    program(*command)
    (place / "mine.py").write_text("def reward(metrics):\n    return -metrics.accuracy\n")
    program(*command)
    assert len(runs(place)) == 2


def test_two_rewards_and_two_agents_have_two_folders(place):
    for keywords in ({"reward": of_accuracy}, {"reward": of_loss}, {"agent": coin}, {"agent": Three}):
        search(**keywords)
    assert len(runs(place)) == 4
    objectives = [{row.objective for row in read_rows(folder)} for folder in runs(place)]
    assert len(set(map(frozenset, objectives))) == 4


def local_function():
    def play(env, seed):
        coin(env, seed)

    return play


@pytest.mark.parametrize(
    "keywords",
    [
        {"agent": lambda env, seed: coin(env, seed, 0.4)},
        {"agent": partial(coin, density=0.2)},
        {"agent": local_function()},
        {"reward": lambda metrics: metrics.accuracy},
        {"reward": partial(max, 0.5, key=lambda value: 0)},
    ],
    ids=["lambda agent", "partial agent", "local agent", "lambda reward", "partial reward"],
)
def test_what_has_no_name_needs_a_folder(place, keywords):
    with pytest.raises(InvalidValue, match=r"run=\.\.\."):
        search(**keywords)
    assert not list(place.iterdir())
    if "agent" in keywords:
        assert search(run="r", **keywords).evaluations == 24


def test_two_partials_do_not_share_a_folder(place):
    search(partial(coin, density=0.2), run="r")
    before = [row.mask for row in read_rows(place / "r")]
    with pytest.raises(InvalidValue, match="another mask than this agent asks for"):
        search(partial(coin, density=0.8), run="r")
    assert [row.mask for row in read_rows(place / "r")] == before
    again = search(partial(coin, density=0.2), run="r")  # played again, and every evaluation answered by the record
    assert again.stored is None and [row.mask for row in read_rows(place / "r")] == before


def test_two_unnamed_rewards_do_not_share_a_folder(place):
    search(reward=lambda metrics: metrics.accuracy, run="r")
    with pytest.raises(InvalidValue, match="it is another one"):
        search(reward=lambda metrics: 2 * metrics.accuracy, run="r")


@pytest.mark.parametrize("form", [slow(str), slow(Path), lambda path: [str(path)], slow(lambda path: {"a": str(path)})])
def test_files_that_options_name_count_by_their_contents(place, form):
    (place / "start.txt").write_text("0")
    options = {"start": form(Path("start.txt"))}

    def begin():
        return search(with_start, agent_options=options).folder

    first = begin()
    (place / "start.txt").write_text("1")
    second = begin()
    assert first != second and len(runs(place)) == 2
    with pytest.raises(InvalidValue, match="other files that options name"):
        search(with_start, agent_options=options, run=first)


def with_start(env, seed, start):
    coin(env, seed)


# Weights, data, circumstances


def test_a_task_made_again_of_other_weights_or_data_is_another_run(run, place):
    save_images(place / "mine.npz")
    train = ("train-supernet", "--data", "mine.npz", *TINY, "--out", "task")
    command = ("search", "--task", "task", "--agent", "random", "--evaluations", "3", "--device", "cpu")
    run(*train)
    first = run(*command)
    run(*train, "--seed", "7", "--replace")
    second = run(*command)
    assert len(runs(place)) == 2 and table_of(first.out) != table_of(second.out)
    save_images(place / "mine.npz", seed=1)
    run(*train, "--seed", "7", "--replace")
    run(*command)
    assert len(runs(place)) == 3


def test_a_folder_of_other_weights_or_data_says_which(run, place):
    save_images(place / "mine.npz")
    train = ("train-supernet", "--data", "mine.npz", *TINY, "--out", "task")
    command = ("search", "--task", "task", "--agent", "random", "--evaluations", "3", "--device", "cpu", "--run", "r")
    run(*train)
    run(*command)
    run(*train, "--seed", "7", "--replace")
    done = run(*command, code=2)
    assert "other weights" in done.err and "other data" not in done.err
    save_images(place / "mine.npz", seed=1)
    run(*train, "--seed", "7", "--replace")
    assert "other data" in run(*command, code=2).err


@pytest.mark.usefixtures("few_random_masks")
def test_another_device_or_torch_is_named(place):
    ads_gym.search("digits", "random", 2, device="cpu", run="r", progress=False)
    path = place / "r" / "manifest.json"
    manifest = json.loads(path.read_text())
    for part, was in (("device", "cuda"), ("torch", "1.0"), ("cpu capability", "ABACUS")):
        assert part in manifest["identity"]
        path.write_text(json.dumps(manifest | {"identity": manifest["identity"] | {part: was}}))
        with pytest.raises(InvalidValue, match=f"{part} '{was}' .here '") as caught:
            ads_gym.search("digits", "random", 2, device="cpu", run="r", progress=False)
        assert "weights" not in str(caught.value) and "data" not in str(caught.value)


def test_a_moved_project_is_extended_and_retrained(run, place, monkeypatch):
    (place / "before").mkdir()
    save_images(place / "before/mine.npz")
    monkeypatch.chdir(place / "before")
    command = ("search", "--task", "task", "--agent", "random", "--device", "cpu", "--run", "r", "--evaluations")
    run("train-supernet", "--data", "mine.npz", *TINY, "--out", "task")
    run(*command, 3)
    rows = read_rows(place / "before/r")
    monkeypatch.chdir(place)
    (place / "before").rename(place / "after")
    monkeypatch.chdir(place / "after")
    assert "5 evaluations" in run(*command, 5).out
    assert read_rows(place / "after/r")[:3] == rows
    run("retrain", "r", "--epochs", "1", "--seeds", "1", "--device", "cpu")


# Budgets


@pytest.mark.parametrize("agent", ["random", "bayes", coin, slow("local"), slow("recurrent"), slow(Three)])
def test_a_smaller_budget_is_answered_from_the_first_rows(place, agent):
    search(agent, 64, run="long")
    shorter, alone = search(agent, 8, run="long"), search(agent, 8, run="short")
    assert shorter.stored is not None and shorter.stored.evaluations == 64 and alone.stored is None
    assert shorter.to_record() == alone.to_record()
    assert search(agent, 64, run="long").evaluations == 64  # which is what the folder still is


def stubborn(env, seed):
    """The same three masks again and again."""
    while True:
        for density in (0.1, 0.5, 0.9):
            rng = np.random.default_rng(3)
            env.reset()
            while not env.step(int(rng.random() < density))[2]:
                pass


@pytest.mark.parametrize("shorter", [2, slow(3), slow(4), slow(5)])
def test_a_smaller_budget_may_end_by_episodes(place, shorter):
    search(stubborn, 6, run="long")
    assert search(stubborn, shorter, run="long").to_record() == search(stubborn, shorter, run="short").to_record()


def test_a_killed_longer_run_answers_for_what_it_has(place):
    ads_gym.search("planted-20", dies, 40, run="r", progress=False, agent_options={"after": 40 * 20})
    path = place / "r" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"budget": 100, "result": None, "ended": None}))  # as a kill leaves it
    options = {"agent_options": {"after": 40 * 20}, "run": "r", "progress": False}
    shorter = ads_gym.search("planted-20", dies, 10, **options)
    assert shorter.stored is not None and shorter.evaluations == 10
    assert read_manifest(place / "r")["budget"] == 100


def dies(env, seed, after):
    coin(env, seed)


# Stored results are said to be stored, and can be played again


def test_a_stored_result_says_so_and_restart_plays_it_again(run, place):
    command = ("search", "--task", "planted-20", "--agent", "random", "--evaluations", "20")
    first = run(*command)
    assert "Stored result" not in first.out
    again = run(*command)
    line, *rest = again.out.splitlines()
    assert re.fullmatch(r"Stored result of 20\d\d-\d\d-\d\dT[\d:]+[+-][\d:]+, 20 evaluations, in \S+\. .*", line)
    assert rest == first.out.splitlines()
    shorter = run(*command[:-1], "10").out.splitlines()[0]
    assert "20 evaluations, of which the first 10 are shown" in shorter
    (folder,) = runs(place)
    history = (folder / "history.csv").read_text()
    restarted = run(*command, "--restart")
    assert restarted.out == first.out
    assert [path.name for path in runs(place)] == [folder.name, f"{folder.name}-before-1"]
    assert (place / "runs" / f"{folder.name}-before-1" / "history.csv").read_text() == history
    run(*command, "--restart")
    assert len(runs(place)) == 3


def test_restart_takes_the_place_of_another_run(place):
    search(evaluations=10, run="r")
    assert search(evaluations=10, run="r", seed=5, restart=True).stored is None
    assert read_manifest(place / "r")["identity"]["seed"] == 5
    assert read_manifest(place / "r-before-1")["identity"]["seed"] == 0


# One record


def untimed(folder):
    return [(row.number, row.mask, row.metrics, row.objective, row.episode) for row in read_rows(folder)]


def test_history_is_written_from_the_record(place):
    result = search(Three, 40)
    text = (result.folder / "history.csv").read_text()
    rows = read_rows(result.folder)
    assert text == to_csv(rows)
    for line, row in zip(csv.DictReader(text.splitlines()), rows, strict=True):
        assert (int(line["number"]), float(line["objective"])) == (row.number, row.objective)
    (result.folder / "history.csv").write_text("1,2,3")  # nobody reads it
    assert "41" in (search(Three, 41).folder / "history.csv").read_text()
    assert untimed(result.folder)[:40] == [(r.number, r.mask, r.metrics, r.objective, r.episode) for r in rows]


@pytest.mark.slow
@pytest.mark.usefixtures("few_random_masks")
def test_a_run_on_a_shared_store_has_all_in_its_own_record(place):
    alone = search("random", 30, run="alone")
    ads_gym.search("digits", "random", 4, device="cpu", store="shared.sqlite", run="first", progress=False)
    second = ads_gym.search("digits", "random", 4, device="cpu", store="shared.sqlite", run="second", progress=False)
    assert untimed(place / "first") == untimed(place / "second")
    with EvaluationStore("shared.sqlite") as store:
        assert len(store) >= 6  # with dense and chain
    (place / "shared.sqlite").unlink()
    stored = ads_gym.search("digits", "random", 4, device="cpu", run="second", progress=False)
    assert stored.stored is not None and stored.to_record() == second.to_record()
    assert ads_gym.search("digits", "random", 5, device="cpu", run="second", progress=False).evaluations == 5
    assert untimed(alone.folder)


def test_two_searches_at_once(place):
    code = (
        "import sys, time, ads_gym\n"
        "def slow(env, seed):\n"
        "    env.reset()\n"
        "    open('began', 'w').close()\n"
        "    time.sleep(60)\n"
        "ads_gym.search('planted-20', slow, 5, run='r', progress=False)\n"
    )
    (place / "slow.py").write_text(code)
    first = subprocess.Popen([sys.executable, "slow.py"], cwd=place)
    try:
        while not (place / "began").exists():
            assert first.poll() is None
        command = ("search", "--task", "planted-20", "--agent", "random", "--evaluations", "5", "--run", "r")
        done = program(*command, "--restart", code=2)
        assert "another" in done.err and "r" in done.err and done.err.count("\n") == 1
    finally:
        first.kill()
        first.wait()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda manifest: manifest | {"version": 1}, "version 1"),
        (lambda manifest: manifest | {"version": 99}, "version 99"),
        (lambda manifest: {"format": "something else"}, "ads-gym run"),
    ],
)
def test_a_folder_of_an_old_version_is_refused_with_a_sentence(run, place, spoil, says):
    run("search", "--task", "planted-20", "--agent", "random", "--evaluations", "5", "--run", "r")
    path = place / "r" / "manifest.json"
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    before = path.read_bytes()
    done = run("search", "--task", "planted-20", "--agent", "random", "--evaluations", "5", "--run", "r", code=2)
    assert says in done.err and done.err.count("\n") == 1
    assert path.read_bytes() == before
    run("search", "--task", "planted-20", "--agent", "random", "--evaluations", "5", "--run", "r", "--restart")


# Values and paths


def test_numpy_numbers_are_numbers(place):
    result = search("density", np.int64(4), seed=np.int64(2), agent_options={"batch_size": np.int32(2)})
    assert result.evaluations == 4
    assert search("density", 4, seed=2, agent_options={"batch_size": 2}).stored is not None


@pytest.mark.slow
@pytest.mark.usefixtures("few_random_masks")
def test_a_tilde_is_home(place):
    (place / "me").mkdir()
    search(evaluations=3, run="~/run")
    ads_gym.search("digits", "random", 2, device="cpu", run="r", store="~/store.sqlite", progress=False)
    command = ("search", "--task", "planted-20", "--agent", "random", "--evaluations", "3", "--run=~/program")
    done = subprocess.run([PROGRAM, *command], cwd=place, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"program", "run", "store.sqlite"} <= {path.name for path in (place / "me").iterdir()}
    assert not (place / "~").exists()


# One mask, one check


@pytest.mark.parametrize("agent", ["random", "local", "bayes", "density"])
def test_a_mask_of_an_optimiser_is_checked_once_and_scored_once(place, monkeypatch, agent):
    """No environment is made, and each mask is checked once and its objective computed once."""
    calls = Counter()

    def counted(kind, name, amount=lambda *args: 1):
        plain = getattr(kind, name)

        def call(self, *args, **keywords):
            calls[name] += amount(*args)
            return plain(self, *args, **keywords)

        monkeypatch.setattr(kind, name, call)

    counted(Topology, "check_masks", lambda masks: len(np.atleast_2d(masks)))
    counted(Objective, "_reward")
    counted(DenseNetSparsifyEnv, "__init__", lambda *args: 1)
    result = search(agent, 40)
    assert result.episodes >= 40 and calls["__init__"] == 0
    of_the_table = sum(line.masks for line in result.table)
    of_pictures = 1 + of_the_table
    assert result.episodes <= calls["check_masks"] <= result.episodes + 2 * of_pictures
    assert calls["_reward"] <= 40 + of_the_table + 2


def test_a_set_aside_folder_can_be_read(place):
    search(evaluations=5, run="r")
    shutil.copytree(place / "r", place / "copy")
    search(evaluations=5, run="r", restart=True)
    assert search(evaluations=5, run="r-before-1").to_record() == search(evaluations=5, run="copy").to_record()


# What a reviewer broke


def killed_while(place, condition, *command):
    """Starts the program, kills it as soon as `condition()` holds, and returns whether it did."""
    process = subprocess.Popen([PROGRAM, *map(str, command)], cwd=place, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not condition():
            pass
        return process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["r/*", "r/.record*", "r/record*", "r/manifest.json"])
def test_a_kill_while_a_run_begins_is_no_obstacle(place, pattern):
    command = ("search", "--task", "planted-20", "--agent", "random", "--evaluations", "5", "--run", "r")
    killed_while(place, lambda: any(place.glob(pattern)), *command)
    assert "5 evaluations" in program(*command).out


@pytest.mark.slow
@pytest.mark.usefixtures("few_random_masks")
def test_weights_never_lie_beside_another_architecture(place, monkeypatch):
    """While a run is extended, best.json may change long before the weights are made anew."""
    options = {"device": "cpu", "run": "r", "progress": False}
    ads_gym.search("digits", "random", 2, **options)
    first = ads_gym.load("r/best").architecture
    monkeypatch.setattr("ads_gym.runs.runner.close_run", lambda run: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ads_gym.search("digits", "random", 60, **options)
    assert ads_gym.Architecture.read("r/best.json") != first
    with pytest.raises(FileNotFoundError, match="best"):
        ads_gym.load("r/best")
    monkeypatch.undo()


@pytest.mark.slow
def test_code_that_was_edited_after_its_import_is_told(place):
    """In one process, as in a notebook: the code in memory is not what the file says."""
    (place / "mine.py").write_text(MINE.format(action=1))
    edited = MINE.format(action=0)
    code = (
        "import ads_gym, pathlib, mine\n"
        "ads_gym.search('planted-20', mine.play, 1, progress=False)\n"
        f"pathlib.Path('mine.py').write_text({edited!r})\n"
        "try: ads_gym.search('planted-20', mine.play, 1, progress=False)\n"
        "except ads_gym.AdsGymError as error: print(error)\n"
        "import importlib\n"
        "importlib.reload(mine)\n"
        "ads_gym.search('planted-20', mine.play, 1, progress=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=place, check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "mine.py was changed after it was imported" in done.stdout, done
    assert len(runs(place)) == 2


@pytest.mark.slow
def test_code_in_a_package_that_runs_as_a_program_counts(place):
    (place / "pk").mkdir()
    (place / "pk/__init__.py").touch()
    (place / "pk/script.py").write_text(
        "import ads_gym\nfrom .helper import ACTION\n"
        + MINE.format(action="ACTION")
        + "ads_gym.search('planted-20', play, 1, progress=False)\n"
    )
    for action in (0, 1):
        (place / "pk/helper.py").write_text(f"ACTION = {action}\n")
        subprocess.run([sys.executable, "-m", "pk.script"], cwd=place, check=True)
    assert len(runs(place)) == 2


@pytest.mark.slow
def test_a_module_named_like_one_of_pythons_counts(place):
    (place / "mine.py").write_text("from profile import ACTION\n" + MINE.format(action="ACTION"))
    for action in (0, 1):
        (place / "profile.py").write_text(f"ACTION = {action}\n")
        code = "import sys; sys.path.insert(0, '.'); from ads_gym.cli import main; main()"
        command = ("search", "--task", "planted-20", "--agent", "mine:play", "--evaluations", "1")
        subprocess.run([sys.executable, "-c", code, *command], cwd=place, check=True, stdout=subprocess.DEVNULL)
    assert len(runs(place)) == 2


@pytest.mark.slow
def test_code_that_an_option_names_counts(place):
    for value in (0.1, 0.9):
        (place / "hooks.py").write_text(f"def density():\n    return {value}\n")
        code = (
            "import numpy as np, ads_gym, hooks\n"
            "ads_gym.search('planted-20', 'mine:play', 4, progress=False, agent_options={'density': [hooks.density]})\n"
        )
        (place / "mine.py").write_text(
            "import numpy as np\n"
            "def play(env, seed, density):\n"
            "    rng = np.random.default_rng(seed)\n"
            "    while True:\n"
            "        env.reset()\n"
            "        while not env.step(int(rng.random() < density[0]()))[2]:\n"
            "            pass\n"
        )
        subprocess.run([sys.executable, "-c", code], cwd=place, check=True)
    assert len(runs(place)) == 2


def test_a_saved_policy_that_an_option_names_counts(place):
    (place / "policy.safetensors").write_bytes(b"1")
    first = search(with_start, agent_options={"start": "policy"}).folder
    (place / "policy.safetensors").write_bytes(b"2")
    assert search(with_start, agent_options={"start": "policy"}).folder != first


def test_code_is_the_same_wherever_it_lies(place):
    (place / "lib").mkdir()
    (place / "lib/shared.py").write_text("ACTION = 1\n")
    (place / "aa").mkdir()
    (place / "aa/mine.py").write_text("from shared import ACTION\n" + MINE.format(action="ACTION"))
    command = ("search", "--task", "planted-20", "--agent", "mine:play", "--evaluations", "1", "--run", "r")
    environment = {**os.environ, "PYTHONPATH": str(place / "lib")}
    run_program(*command, cwd=place / "aa", env=environment)
    (place / "aa").rename(place / "zz")
    done = run_program(*command, cwd=place / "zz", env=environment)
    assert done.code == 0 and "Stored result" in done.out, done


class Annealed:
    """Keeps more the longer it learns, as a schedule over total_timesteps does."""

    def __init__(self, env, seed):
        self.env, self.rng = env, np.random.default_rng(seed)

    def learn(self, total_timesteps):
        for done in range(total_timesteps):
            if done % 20 == 0:
                self.env.reset()
            self.env.step(int(self.rng.random() < 0.2 + 0.8 * min(1, 1e3 * done / total_timesteps)))


def test_no_schedule_depends_on_the_budget(place):
    search(Annealed, 40, run="long")
    assert search(Annealed, 8, run="long").to_record() == search(Annealed, 8, run="short").to_record()
    assert search(Annealed, 40, run="short").to_record() == search(Annealed, 40, run="long").to_record()


def test_an_option_of_one_is_not_true(place):
    search(with_start, agent_options={"start": True}, run="r")
    with pytest.raises(InvalidValue, match="agent's options"):
        search(with_start, agent_options={"start": 1}, run="r")


def unseeded(env, seed, start=None):
    coin(env, None)


def test_a_smaller_budget_of_an_agent_that_does_not_repeat_itself(place):
    search(unseeded, 8, run="r")
    with pytest.warns(UserWarning, match="does not repeat itself"):
        search(unseeded, 12, run="r")
    assert search(unseeded, 4, run="r").evaluations == 4


def test_an_optimiser_may_score_while_it_is_made(place):
    assert search(ScoresFirst, 5).evaluations == 5


class ScoresFirst:
    def __init__(self, problem, seed):
        problem.score(np.eye(problem.topology.size, dtype=bool))

    def ask(self, n):
        raise AssertionError

    def tell(self, masks, scores):
        raise AssertionError


GRADIENT = torch.zeros(1, 20, requires_grad=True)


@pytest.mark.parametrize("asked", [None, 7, {1, 2}, [[True], [True, False]], "mask", GRADIENT])
def test_what_is_no_masks_is_told(place, asked):
    class Wrong:
        def __init__(self, problem, seed):
            pass

        def ask(self, n):
            return asked

        def tell(self, masks, scores):
            pass

    with pytest.raises(InvalidValue, match="mask"):
        search(Wrong, run="r")
    assert not (place / "r").exists()


def test_restart_with_wrong_options_leaves_the_old_run(place):
    search("density", 5, run="r")
    for option in ({"learning_rat": 1}, {"learning_rate": "fast"}):
        with pytest.raises(ads_gym.AdsGymError, match="learning_rat"):
            search("density", 5, run="r", restart=True, agent_options=option)
        assert [path.name for path in place.iterdir()] == ["r"] and len(read_rows(place / "r")) == 5


def test_an_agent_that_changes_the_folder_stays_in_its_run(place):
    (place / "elsewhere").mkdir()
    assert search(wanders, 5).folder.parent == place / "runs"
    os.chdir(place)
    assert not list((place / "elsewhere").iterdir())


def wanders(env, seed):
    os.chdir("elsewhere")
    coin(env, seed)


def test_retraining_is_of_what_was_searched(run, place):
    save_images(place / "mine.npz")
    train = ("train-supernet", "--data", "mine.npz", *TINY, "--out", "task")
    run(*train)
    run("search", "--task", "task", "--agent", "random", "--evaluations", "3", "--device", "cpu", "--run", "r")
    retrain = ("retrain", "r", "--epochs", "1", "--seeds", "1", "--device", "cpu")
    run(*train, "--seed", "7", "--replace")
    run(*retrain)  # from scratch, on the same images
    assert "the weights of task" in run(*retrain, "--inherit", code=2).err
    save_images(place / "mine.npz", seed=1)
    run(*train, "--seed", "7", "--replace")
    assert "the data of task" in run(*retrain, code=2).err


@pytest.mark.parametrize("error", [AttributeError, ZeroDivisionError, OverflowError, TypeError])
def test_a_reward_that_fails_is_one_sentence(place, error):
    def reward(metrics):
        raise error("what it says")

    with pytest.raises(InvalidValue, match=f"{error.__name__}: what it says"):
        search(reward=reward, run="r")
