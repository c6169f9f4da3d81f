"""Progress of steps where stderr is no terminal: lines now and then, and what is left once that can be told."""

import pytest

from ads_gym.runs import step_lines
from ads_gym.runs.step_lines import StepLines


def test_lines_come_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(step_lines.time, "perf_counter", lambda: next(clock))
    with StepLines(shown=True).long("repairing", "layers") as step:
        for done in range(1, 10):
            step.update(done, 100, loss=0.5 if done > 5 else None)
    assert capsys.readouterr().err.splitlines() == [
        "repairing  3/100 layers",  # after 30 seconds; of the first few, nothing can be told
        "repairing  6/100 layers  loss 0.5000  15:40 left",
        "repairing  9/100 layers  loss 0.5000  15:10 left",
    ]


@pytest.mark.parametrize("shown", [False, True])
def test_what_is_quick_and_what_is_not_to_be_shown_says_nothing(capsys, monkeypatch, shown):
    monkeypatch.setattr(step_lines, "SECONDS_BETWEEN_LINES", 30.0 if shown else 0.0)
    lines = StepLines(shown)
    with lines.long("repairing", "layers") as step:
        for done in range(1, 4):
            step.update(done, 3)
    lines.say("over")
    assert capsys.readouterr().err == ("over\n" if shown else "")
