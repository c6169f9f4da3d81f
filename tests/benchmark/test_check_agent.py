"""`ads-gym check-agent`: each mistake is found, and told with what to do; good agents pass."""

import pytest
from commands import run_here

from ads_gym.benchmark.check_agent import Outcome, check_agent
from ads_gym.errors import InvalidValue

SECONDS = 120.0
RUNS = ("a whole run", "same seed, same run", "going on", "other seed, other run", "repeated masks", "max_macs 0.7")
ALL = ("contract", *RUNS, "its own time", "planted-45", "digits-table")


def check(agent, time_limit=SECONDS):
    """Outcomes by name of the check, and the checks."""
    report = check_agent(agent, evaluations=16, time_limit=time_limit, progress=False)
    assert report.has_failed == any(each.outcome is Outcome.FAILED for each in report.checks)
    return {each.name: each for each in report.checks}


def outcomes(checks):
    return {name: str(each.outcome) for name, each in checks.items() if each.outcome is not Outcome.PASSED}


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ("strangers:Nothing", "a class without learn, or ask and tell: give"),
        ("strangers:HalfAnOptimiser", "a class without tell: give"),
        ("strangers:neither", "an agent is a class with `learn`"),
        ("strangers:honst", "Did you mean 'honest'?"),
        ("no_such_module:agent", "there is no module 'no_such_module'"),
        ("broken_module:agent", "ZeroDivisionError"),
        ("local?kicks=3", "unknown option of agent local: 'kicks'. Did you mean 'kick'?"),
    ],
)
def test_what_is_no_agent_is_told_before_anything_is_played(agent, told, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    (found,) = check(agent).values()
    assert (found.name, found.outcome) == ("contract", "failed")
    assert told in found.found and found.advice


def test_a_wrong_action_is_told_with_what_was_got(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    done = run_here(capsys, "check-agent", "strangers:wrong_action", "--evaluations", 16, "--time-limit", SECONDS)
    assert done.code == 1
    told = " ".join(done.out.split())
    assert "contract passed a function play(env, seed)" in told and "a whole run failed" in told and "got 7." in told


def test_arguments_out_of_range_are_refused():
    for wrong in ({"evaluations": 1}, {"time_limit": 0.0}, {"agent": 3}):
        with pytest.raises(InvalidValue):
            check_agent(**{"agent": "local", "progress": False} | wrong)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "time_limit", "told", "details"),
    [
        ("endless", 4.0, "is not done after time_limit = 4 seconds and 0 of 16 evaluations", ""),
        ("raising", SECONDS, "KeyError: 4", "return {}[number]"),
        ("dying", SECONDS, "ended with exit code 3 and without a word", ""),
        ("TooWide", SECONDS, "has 45 bits", ""),
        ("idle", SECONDS, "ended before a single mask was scored", ""),
    ],
)
def test_a_run_that_fails_is_told_and_is_the_last(agent, time_limit, told, details):
    checks = check(f"strangers:{agent}", time_limit)
    assert outcomes(checks) == {"a whole run": "failed"} and list(checks) == ["contract", "a whole run"]
    found = checks["a whole run"]
    assert told in found.found and found.advice and details in found.details
    assert "kept" not in found.found + found.details


@pytest.mark.slow
def test_what_does_not_repeat_itself_fails():
    checks = check("strangers:Unseeded")
    assert outcomes(checks) == {"same seed, same run": "failed", "going on": "failed"}
    assert "evaluation 1 is of another mask" in checks["same seed, same run"].found


@pytest.mark.slow
def test_what_depends_on_an_earlier_run_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert outcomes(check("strangers:Remembering"))["same seed, same run"] == "failed"


@pytest.mark.slow
def test_what_is_odd_is_a_warning():
    assert outcomes(check("strangers:Seedless")).get("other seed, other run") == "warning"
    checks = check("strangers:Forgetful")
    assert (
        checks["repeated masks"].outcome == "warning" and "masks were asked for again" in checks["repeated masks"].found
    )


@pytest.mark.slow
def test_masks_above_the_limit_fail_there_only():
    checks = check("strangers:TooMuch")
    assert {name: each for name, each in outcomes(checks).items() if each == "failed"} == {"max_macs 0.7": "failed"}
    assert "max_macs allows" in checks["max_macs 0.7"].found and "project" in checks["max_macs 0.7"].advice


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent", ["examples.optimiser:Evolution", "examples.custom_agent:gradient", "strangers:Learner", "bayes"]
)
def test_good_agents_pass(agent):
    checks = check(agent)
    assert tuple(checks) == ALL
    failed = {name: each for name, each in outcomes(checks).items() if name not in ("planted-45", "digits-table")}
    assert not failed
    assert "of 4: " in checks["planted-45"].found and "random" in checks["digits-table"].found


@pytest.mark.slow
def test_agents_that_need_features_or_the_network_play_where_there_are_some():
    checks = check("residual")
    assert "planted-45" not in checks and "failed" not in outcomes(checks).values()
    checks = check("gates?steps=2")
    assert outcomes(checks)["a whole run"] == "warning" and "failed" not in outcomes(checks).values()
