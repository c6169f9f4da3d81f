import json
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from commands import read_manifest as manifest_of
from commands import read_rows
from marks import slow

import ads_gym
from ads_gym.agents.residual import Residual
from ads_gym.errors import (
    AdsGymError,
    BudgetExhausted,
    DamagedFile,
    InvalidValue,
    MissingPackage,
    NotFound,
    StorageError,
    UnknownName,
)
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.runs.record import RunRecord, to_csv
from ads_gym.runs.recorder import RunWarning
from ads_gym.tasks import save_task

NESTED = [0]
for _ in range(5_000):
    NESTED = [NESTED]


def stepper(env, seed, density=0.5):
    """Ten lines of plain Python: random actions, one connection after another."""
    rng = np.random.default_rng(seed)
    while True:
        env.reset()
        over = False
        while not over:
            *_, over, _, _ = env.step(int(rng.random() < density))


def climber(env, seed):
    """Whole masks in batches, each batch around the best so far: what it asks depends on what it was told."""
    rng = np.random.default_rng(seed)
    problem = env.unwrapped.problem
    best, most = problem.topology.chain(), -np.inf
    while True:
        masks = best ^ (rng.random((8, problem.topology.size)) < 0.05)
        for mask, scored in zip(masks, problem.score(masks), strict=True):
            if scored.objective > most:
                best, most = mask, scored.objective


class Vectorised:
    """Three environments side by side."""

    num_envs = 3
    observation = "flat"

    def __init__(self, env, seed):
        self.env, self.rng = env, np.random.default_rng(seed)
        assert isinstance(env, gym.vector.VectorEnv)
        assert env.single_observation_space.shape == (96,)

    def learn(self, total_timesteps):
        self.env.reset()
        for _ in range(total_timesteps):
            self.env.step(self.rng.integers(0, 2, 3))


def unseeded(env, seed):
    stepper(env, None)


def search(tmp_path, agent=stepper, evaluations=30, **keywords):
    return ads_gym.search("planted-45", agent, evaluations, **{"run": tmp_path / "run", "progress": False} | keywords)


def rows_of(result):
    return read_rows(result.folder)


def timeless(folder):
    """The lines of history.csv, from the record, but for the seconds."""
    return [line.rsplit(",", 1)[0] for line in to_csv(read_rows(folder)).splitlines()]


def recorded(folder):
    """How many evaluations a run that another process plays has."""
    return len(read_rows(folder)) if (folder / "record.sqlite").exists() else 0


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """The folder of a run that is over."""
    return search(tmp_path_factory.mktemp("run")).folder


@pytest.fixture
def folder(tmp_path, a_run):
    """A copy of it, where `search(tmp_path)` looks."""
    return Path(shutil.copytree(a_run, tmp_path / "run"))


@pytest.mark.parametrize("agent", [stepper, climber, Vectorised, "random"])
def test_spends_exactly_its_budget_and_keeps_the_best_of_the_record(tmp_path, agent):
    with warnings.catch_warnings(action="error"):
        result = search(tmp_path, agent)
    rows = rows_of(result)
    assert (len(rows), result.evaluations, result.stopped_by) == (30, 30, "evaluations")
    assert len({row.mask for row in rows}) == 30
    best = max(rows, key=lambda row: (row.objective, -row.metrics.loss, -row.number))
    assert (result.objective, result.metrics) == (best.objective, best.metrics)
    assert result.architecture.topology.key(result.architecture.mask) == best.mask
    assert ads_gym.Architecture.read(result.folder / "best.json") == result.architecture
    names = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*") if path.suffix}
    pictures = {"pictures/best-so-far.png", "pictures/accuracy-macs.png", "pictures/adjacency.png"}
    assert {"manifest.json", "record.sqlite", "history.csv", "best.json", *pictures} <= names
    assert not [name for name in names if name.endswith((".tmp", "-wal", "-shm"))]


def test_objectives_in_the_record_are_the_problems(tmp_path):
    result = search(tmp_path, cost_weight=0.3, reward="loss")
    planted = PlantedEvaluator(result.architecture.config)
    for row in rows_of(result):
        (metrics,) = planted.evaluate(planted.topology.mask(row.mask)[None])
        assert row.metrics == metrics
        assert row.objective == -metrics.loss - 0.3 * metrics.relative_cost


def thrifty(metrics):
    return metrics.accuracy**2


def test_a_reward_of_ones_own(tmp_path):
    result = search(tmp_path, reward=thrifty, cost_weight=0)
    assert all(row.objective == row.metrics.accuracy**2 for row in rows_of(result))
    assert manifest_of(result.folder)["identity"]["reward"] == f"{__name__}:thrifty"
    with pytest.raises(InvalidValue, match="finite"):
        search(tmp_path / "nan", reward=lambda metrics: float("nan"), cost_weight=0)


def test_the_table_holds_what_best_must_beat(tmp_path):
    result = search(tmp_path)
    dense, chain, random, best = result.table
    assert [line.name for line in result.table] == ["dense", "chain", "random", "best"]
    assert dense.objective == pytest.approx(chain.objective)  # cost weight even
    assert (dense.relative_cost, chain.relative_cost, random.masks) == (1, 0, 30)
    assert best.relative_cost - 0.02 < random.relative_cost <= best.relative_cost
    assert (best.objective, best.accuracy) == (result.objective, result.metrics.accuracy)
    with RunRecord(result.folder / "record.sqlite") as record:
        assert len(record) == 30 + 2 + 30  # none of these counted as the agent's


def test_the_same_seed_gives_the_same_run_and_another_another(tmp_path):
    search(tmp_path / "a", climber)
    search(tmp_path / "b", climber)
    search(tmp_path / "c", climber, seed=1)
    one, same, other = (timeless(tmp_path / name / "run") for name in "abc")
    assert one == same
    assert one != other


played = []


def counted(env, seed):
    played.append(seed)
    climber(env, seed)


def test_a_run_that_is_over_gives_its_result_again_without_playing(tmp_path):
    first = search(tmp_path, counted)
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    again = search(tmp_path, counted)
    assert replace(again, stored=None) == first
    assert (again.stored.evaluations, again.stored.date) == (30, manifest_of(first.folder)["ended"])
    assert played == [0]
    assert {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()} == before


def test_a_larger_budget_extends_a_run_to_what_a_longer_one_is(tmp_path):
    search(tmp_path / "short", climber, evaluations=20)
    with warnings.catch_warnings(action="error"):
        extended = search(tmp_path / "short", climber, evaluations=40)
    whole = search(tmp_path / "long", climber, evaluations=40)
    assert timeless(extended.folder) == timeless(whole.folder)
    assert (extended.table, extended.episodes) == (whole.table, whole.episodes)
    assert manifest_of(extended.folder)["result"] == manifest_of(whole.folder)["result"]


@pytest.mark.parametrize("moment", [0, 1, 3, 5])
def test_an_interrupted_run_goes_on(tmp_path, moment, monkeypatch):
    """Its calls of the evaluator: dense and chain, four batches, the closing table."""
    whole = search(tmp_path / "whole", climber)
    evaluate = PlantedEvaluator.evaluate_checked
    left = [moment]

    def failing(self, masks):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return evaluate(self, masks)

    monkeypatch.setattr(PlantedEvaluator, "evaluate_checked", failing)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "torn", climber)
    monkeypatch.undo()
    folder = tmp_path / "torn" / "run"
    assert manifest_of(folder)["result"] is None
    recorded = timeless(folder)
    assert recorded == timeless(whole.folder)[: len(recorded)]
    assert (len(recorded) > 1) == (folder / "best.json").exists() == (moment > 1)
    again = search(tmp_path / "torn", climber)
    assert timeless(again.folder) == timeless(whole.folder)
    assert manifest_of(again.folder)["result"] == manifest_of(whole.folder)["result"]
    assert (again.folder / "best.json").read_bytes() == (whole.folder / "best.json").read_bytes()


def test_an_agents_own_error_comes_out_and_loses_nothing(tmp_path):
    def failing(env, seed):
        env.unwrapped.problem.score(np.eye(45, dtype=bool)[:7])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search(tmp_path, failing)
    assert len(timeless(tmp_path / "run")) == 1 + 7


def test_an_agent_without_a_seed_is_told_so_and_goes_on(tmp_path):
    first = search(tmp_path, unseeded, evaluations=10)
    recorded = timeless(first.folder)
    with pytest.warns(RunWarning, match="does not repeat itself") as caught:
        second = search(tmp_path, unseeded, evaluations=15)
    assert len(caught) == 1
    assert timeless(second.folder)[:11] == recorded
    assert second.evaluations == 15
    assert manifest_of(second.folder)["differs_at"] == 1


def test_repeating_oneself_ends_at_20_episodes_an_evaluation(tmp_path):
    def stubborn(env, seed):
        stepper(env, seed, density=1.0)

    result = search(tmp_path, stubborn, evaluations=3)
    assert (result.stopped_by, result.evaluations, result.episodes) == ("episodes", 1, 60)


def test_an_agent_may_stop_early_but_not_before_it_began(tmp_path):
    def brief(env, seed):
        env.unwrapped.problem.score(np.eye(45, dtype=bool)[:7])

    result = search(tmp_path / "a", brief)
    assert (result.stopped_by, result.evaluations) == ("agent", 7)
    with pytest.raises(InvalidValue, match="before a single"):
        search(tmp_path / "b", lambda env, seed: None)


def test_every_step_and_reset_after_the_end_says_so(tmp_path):
    ends = []

    def deaf(env, seed):
        for _ in range(3):
            with pytest.raises(BudgetExhausted):
                stepper(env, seed)
            ends.append(1)

    assert search(tmp_path, deaf).stopped_by == "evaluations"
    assert len(ends) == 3


def test_a_limit_is_kept(tmp_path):
    result = search(tmp_path, max_macs=0.6)
    rows = rows_of(result)
    assert max(row.metrics.relative_macs for row in rows) <= 0.6
    assert result.table[0].relative_macs == 1  # dense is shown all the same


def test_decisions_by_layer_and_by_network(tmp_path):
    def any_action(env, seed):
        env.action_space.seed(seed)
        while True:
            env.reset()
            while not env.step(env.action_space.sample())[2]:
                pass

    for decision in ("layer", "network"):
        result = search(tmp_path / decision, any_action, decision=decision, scope="all")
        assert result.evaluations == 30
        assert len(result.architecture.mask) == 3 * 21


def test_options_reach_the_agent(tmp_path):
    result = search(tmp_path, agent_options={"density": 0.9})
    assert np.mean([row.metrics.relative_cost for row in rows_of(result)]) > 0.8
    assert manifest_of(result.folder)["identity"]["agent's options"] == {"density": 0.9}


def test_the_default_folder_tells_settings_apart_but_not_budgets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def folder(**keywords):
        return ads_gym.search("planted-20", "random", progress=False, **{"evaluations": 3} | keywords).folder

    first = folder()
    assert first.parent == tmp_path / "runs" and re.fullmatch(r"planted-20-random-s0-[0-9a-f]{8}", first.name)
    assert folder(evaluations=4) == first == folder(data_root=tmp_path)
    others = [folder(seed=1), folder(reward="loss"), folder(max_macs=0.7), folder(evaluator="planted:pairwise:1")]
    assert len({first, *others}) == 5


def test_own_evaluators(tmp_path, monkeypatch):
    (tmp_path / "my_evaluator.py").write_text(
        "from ads_gym.evaluators.planted import PlantedEvaluator\n"
        "def make(task, scope): return PlantedEvaluator(task.config, scope, 'linear', 5)\n"
    )
    monkeypatch.chdir(tmp_path)
    by_name = search(tmp_path / "a", climber, evaluator="my_evaluator:make")
    config = by_name.architecture.config
    by_object = search(tmp_path / "b", climber, evaluator=PlantedEvaluator(config, seed=5))
    assert timeless(by_name.folder) == timeless(by_object.folder)
    # Another network than the default task's: it stands in for it.
    small = PlantedEvaluator(type(config)((3, 3)))
    result = ads_gym.search(
        agent=climber, evaluations=20, evaluator=small, run=tmp_path / "c", progress=False, cost_weight=0
    )
    assert result.architecture.config.blocks == (3, 3)


@pytest.mark.usefixtures("few_random_masks")
def test_on_real_data_the_network_is_saved_with_statistics_of_its_own(tmp_path):
    import torch

    from ads_gym.data.images import network_input
    from ads_gym.data.splits import Split

    task = ads_gym.Task.load("digits")
    result = ads_gym.search(task, "random", 4, run=tmp_path / "run", progress=False)
    network = ads_gym.load(result.folder / "best.json")
    assert network.architecture == result.architecture
    valid = task.images(Split.VALID)
    with torch.no_grad():
        right = network(network_input(valid.images)).argmax(1) == valid.labels
    best = result.table[-1]
    assert best.repaired_accuracy == result.metrics.accuracy == best.accuracy
    assert float(right.float().mean()) == pytest.approx(best.repaired_accuracy, abs=1.5 / len(valid))
    # The closing table has what needs no search: the first mask of agent `residual` within the best's MACs.
    assert [line.name for line in result.table] == ["dense", "chain", "random", "residual", "best"]
    problem = ads_gym.make_problem(task, weights="repaired", max_macs=best.relative_macs)
    asked = Residual(problem).ask(1)[0]
    residual, (score,) = result.table[-2], problem.score(asked[None])
    assert residual.relative_macs == score.metrics.relative_macs <= best.relative_macs
    assert residual.accuracy == score.metrics.accuracy > residual.inherited_accuracy


@pytest.mark.usefixtures("few_random_masks")
def test_a_task_in_a_folder_can_be_found_again_from_anywhere(tmp_path, monkeypatch):
    digits = ads_gym.Task.load("digits")
    monkeypatch.chdir(tmp_path)
    save_task("mine", "mine", digits.config, digits.data, digits.state_dict())
    result = ads_gym.search("mine", "random", 2, data_root="data", progress=False)
    assert result.folder.name.startswith("mine-random-s0-")
    manifest = manifest_of(result.folder)
    assert manifest["task"] == str(tmp_path / "mine")
    assert manifest["data_root"] == str(tmp_path / "data")


# What is refused


@pytest.mark.parametrize(
    ("keywords", "error", "says"),
    [
        ({"evaluations": 0}, InvalidValue, "evaluations"),
        ({"evaluations": 2.5}, InvalidValue, "evaluations"),
        ({"seed": -1}, InvalidValue, "seed"),
        ({"seed": 2**32}, InvalidValue, "seed"),
        ({"agent": "randon"}, UnknownName, "Did you mean 'random'"),
        ({"agent_options": {"densty": 1}}, UnknownName, "Did you mean 'density'"),
        ({"cost_weight": -1}, InvalidValue, "cost weight"),
        ({"cost_weight": "evn"}, InvalidValue, "cost weight"),
        ({"reward": "softt"}, UnknownName, "soft"),
        ({"scope": "layer"}, UnknownName, "layers"),
        ({"decision": "network "}, UnknownName, "network"),
        ({"decision": ""}, UnknownName, "network"),
        *(({"agent_options": options}, InvalidValue, "agent_options") for options in (5, True, [("a", 1)], {1: 2})),
        ({"agent_options": {"density": NESTED}}, InvalidValue, "options"),
        ({"max_macs": 0.1}, InvalidValue, "max_macs|MACs"),
        ({"max_macs": float("nan")}, InvalidValue, "max_macs|MACs"),
        ({"evaluator": "planted:linea:0"}, UnknownName, "linear"),
    ],
)
def test_bad_arguments_leave_nothing_behind(tmp_path, keywords, error, says):
    with pytest.raises(error, match=says):
        search(tmp_path, **keywords)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("agent", "wrong", "right"),
    [
        ("sb3:ppo", {"n_step": 90}, {"n_steps": 90}),
        ("sb3:ppo", {"gamma": 7}, {"gamma": 1}),
        ("recurrent", {"batch_size": 1}, {"batch_size": 4}),
        ("bayes", {"warmupp": 4}, {"warmup": 4}),
    ],
)
@pytest.mark.parametrize("there", [False, slow(True)])
def test_options_that_the_agent_refuses_leave_nothing_in_the_way_of_right_ones(tmp_path, agent, wrong, right, there):
    if there:
        (tmp_path / "run").mkdir()
    with pytest.raises(AdsGymError, match=next(iter(wrong))):
        search(tmp_path, agent, 10, agent_options=wrong, cost_weight="even")
    assert [path.name for path in tmp_path.rglob("*")] == ["run"] * there
    assert search(tmp_path, agent, 10, agent_options=right).evaluations == 10


def test_long_options_and_fingerprints_are_taken(tmp_path):
    def play(env, seed, init, name):
        stepper(env, seed)

    class Own(PlantedEvaluator):
        fingerprint = "x" * 5_000

    options = {"init": list(range(20_000)), "name": "y" * 5_000}
    evaluator = Own(ads_gym.make_problem("planted-45").config)
    assert search(tmp_path, play, 5, agent_options=options, evaluator=evaluator).evaluations == 5


def test_a_missing_package_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(MissingPackage, match="pip install sb3-contrib"):
        search(tmp_path, "sb3:maskable")
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_or_not_ours_stays_when_an_agent_fails(tmp_path):
    def failing(env, seed, masks):
        (tmp_path / "run" / "notes").touch()
        if masks:
            env.unwrapped.problem.score(np.eye(45, dtype=bool)[:masks])
        raise InvalidValue("no more")

    with pytest.raises(InvalidValue, match="no more"):
        search(tmp_path, failing, agent_options={"masks": 0})
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes"]
    (tmp_path / "run" / "notes").unlink()
    for _ in range(2):  # the second time it is no folder that this search began
        with pytest.raises(InvalidValue, match="no more"):
            search(tmp_path, failing, agent_options={"masks": 7})
        assert len(timeless(tmp_path / "run")) == 1 + 7


def test_a_folder_that_another_search_began_stays(tmp_path):
    def broken(env, seed):
        raise [KeyboardInterrupt, ZeroDivisionError, InvalidValue("wrong")][len(list(tmp_path.glob("again*")))]

    with pytest.raises(KeyboardInterrupt):  # the same call goes on
        search(tmp_path, broken)
    for error in (ZeroDivisionError, InvalidValue):
        (tmp_path / f"again{error.__name__}").touch()
        with pytest.raises(error):
            search(tmp_path, broken)
        assert manifest_of(tmp_path / "run")["result"] is None


def test_an_error_before_the_first_evaluation_leaves_nothing(tmp_path):
    """What is mended then is other code, and would not fit the folder."""

    def broken(env, seed):
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        search(tmp_path, broken)
    assert not (tmp_path / "run").exists()


def test_unknown_tasks():
    with pytest.raises(UnknownName, match="planted-45"):
        ads_gym.search("planted-46", "random")
    with pytest.raises(NotFound):
        ads_gym.search("./nowhere", "random")


@pytest.mark.parametrize(
    ("other", "names"),
    [
        ({"seed": 3}, "seed 0 .here 3."),
        ({"agent": climber}, "agent"),
        ({"reward": "loss"}, "reward 'soft' .here 'loss'."),
        ({"agent_options": {"density": 0.5}}, "agent's options"),
        ({"evaluator": "planted:linear:1"}, "evaluator"),
    ],
)
def test_a_folder_of_other_settings_is_refused_and_unchanged(tmp_path, folder, other, names):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InvalidValue, match=names):
        search(tmp_path, evaluations=50, **other)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    with pytest.raises(InvalidValue, match=r"thesis\.tex"):
        search(tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        search(tmp_path, run=tmp_path / "file")


def test_a_kill_before_the_run_began_is_no_obstacle(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".ads-gym-0123456789abcdef.tmp").write_text('{"form')
    assert search(tmp_path).evaluations == 30


def test_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        search(tmp_path, run=tmp_path / "file" / "run")
    (tmp_path / "run" / "record.sqlite").mkdir(parents=True)
    with pytest.raises(InvalidValue, match="record"):
        search(tmp_path)


def test_settings_that_json_cannot_hold(tmp_path):
    for value in (object(), float("nan")):
        with pytest.raises(InvalidValue, match="options of an agent"):
            search(tmp_path, agent_options={"density": value})
    assert list(tmp_path.iterdir()) == []


def test_another_evaluator_under_the_same_name_is_refused(tmp_path, folder):
    manifest = manifest_of(folder)
    (folder / "manifest.json").write_text(
        json.dumps(manifest | {"identity": manifest["identity"] | {"evaluator": "0"}})
    )
    with pytest.raises(InvalidValue, match="other evaluator"):
        search(tmp_path, evaluations=40)


@pytest.mark.parametrize(("name", "value"), [("numpy", "1.0"), ("machine", "abacus"), ("ads-gym", "0.0.1")])
def test_other_circumstances_are_told_and_the_run_goes_on(tmp_path, folder, name, value):
    manifest = manifest_of(folder)
    manifest["circumstances"][name] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.warns(RunWarning, match=f"{name} .* and not {value}") as caught:
        result = search(tmp_path, evaluations=40)
    assert (len(caught), result.evaluations) == (1, 40)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("manifest.json", b"{", "no manifest"),
        ("manifest.json", b"\xff\xfe", "no manifest"),
        ("manifest.json", b"[" * 100_000, "no manifest"),
        ("manifest.json", b'{"format": "other"}', "lacks"),
        ("manifest.json", b'{"format": "ads-gym run", "version": 4}', "upgrade"),
        ("manifest.json", b'{"format": "ads-gym run", "version": 3}', "identity is missing"),
        ("manifest.json", b'{"format": "ads-gym run", "version": 1}', "older ads-gym"),
        ("record.sqlite", b"nonsense", "no record of a run"),
    ],
)
def test_damaged_files_are_told(tmp_path, folder, name, content, says):
    (folder / name).write_bytes(content)
    with pytest.raises(DamagedFile, match=says) as caught:
        search(tmp_path, evaluations=40)
    assert "\n" not in str(caught.value)
    assert (folder / name).read_bytes() == content


@pytest.mark.parametrize("evaluations", [30, 29, 5])
@pytest.mark.parametrize("spoilt", [{"evaluations": "x"}, {"episodes": None}, {"stopped_by": "x"}, {"table": 5}])
def test_a_damaged_result_is_told(tmp_path, folder, spoilt, evaluations):
    manifest = manifest_of(folder)
    manifest["result"] |= spoilt
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedFile, match=rf"manifest.*{'x' if 'stopped_by' in spoilt else next(iter(spoilt))}"):
        search(tmp_path, evaluations=evaluations)
    assert len(timeless(folder)) == 31  # with a header: nothing is lost


def test_a_full_disk_loses_nothing(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=False).returncode:
        pytest.skip("this user may not mount file systems")
    try:
        (small / "ballast").write_bytes(bytes(700_000))
        with pytest.raises(StorageError):
            search(small, climber, evaluations=5000)
        recorded = len(timeless(small / "run"))
        assert recorded > 50
        (small / "ballast").unlink()
        with warnings.catch_warnings(action="error"):
            assert search(small, climber, evaluations=recorded + 50).evaluations == recorded + 50
    finally:
        subprocess.run(["umount", small], check=True)


def test_ctrl_c_leaves_a_folder_that_the_same_call_goes_on_with(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\nfrom ads_gym.evaluators.planted import PlantedEvaluator\n"
        "class Slow(PlantedEvaluator):\n    def evaluate_checked(self, masks):\n"
        "        time.sleep(0.02)\n        return super().evaluate_checked(masks)\n"
        "def make(task, scope): return Slow(task.config, scope)\n"
    )
    code = "import ads_gym; ads_gym.search('planted-45', 'random', 60, evaluator='slow:make', run='run')"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while recorded(tmp_path / "run") <= 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in process.communicate(timeout=30)[1]
    assert 10 < len(timeless(tmp_path / "run")) < 60
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
    whole = ads_gym.search("planted-45", "random", 60, run=tmp_path / "whole", progress=False)
    assert timeless(tmp_path / "run") == timeless(whole.folder)


def test_a_planted_run_needs_no_torch(tmp_path):
    code = (
        "import sys, ads_gym\n"
        "sys.modules['torch'] = None  # importing it fails\n"
        "def stepper(env, seed):\n"
        "    while True:\n"
        "        env.reset()\n"
        "        while not env.step(env.action_space.sample())[2]:\n"
        "            pass\n"
        "for agent in (stepper, 'random', 'density', 'bernoulli', 'local', 'bayes'):\n"
        "    print(ads_gym.search('planted-45', agent, 60, progress=False, run=str(agent)[:9]).evaluations)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "60\n" * 6, done.stderr


def test_errors_have_one_base(tmp_path):
    with pytest.raises(AdsGymError):
        search(tmp_path, evaluations=-5)
