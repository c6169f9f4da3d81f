"""What `search` refuses, and what it leaves then."""

import json
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from commands import read_manifest as manifest_of
from marks import slow
from searches import climber, recorded, search, stepper, timeless

import ads_gym
from ads_gym.errors import (
    AdsGymError,
    DamagedFile,
    InvalidValue,
    MissingPackage,
    NotFound,
    StorageError,
    UnknownName,
)
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.runs.recorder import RunWarning

NESTED = [0]
for _ in range(5_000):
    NESTED = [NESTED]


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


@pytest.mark.parametrize(
    ("agent", "module", "package"),
    [
        ("sb3:maskable", "sb3_contrib", "sb3-contrib"),
        ("tpe", "optuna", "optuna"),
        ("nsga2", "pymoo.algorithms.moo.nsga2", "pymoo"),
    ],
)
def test_a_missing_package_leaves_nothing_behind(tmp_path, monkeypatch, agent, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackage, match=f"pip install {package}$"):
        search(tmp_path, agent)
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
