"""Optuna's tree-structured Parzen estimator."""

import optuna
import pytest
from planted_problems import optimise, planted, problem_of

from ads_gym.agents.tpe import TPE

COMPLETE, FAIL = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL


def trials_of(agent, *states):
    return [(tuple(trial.params.values()), trial.value) for trial in agent._study.get_trials(states=states)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_finds_a_hidden_mask_of_16_bits(seed):
    problem, counted = problem_of(planted(5, 4, seed=seed), 120)
    optimise(TPE(problem, seed=seed), problem)
    assert max(metrics.accuracy for metrics in counted.metrics) == 1


@pytest.mark.parametrize("limit", [None, 0.5])
def test_it_learns_the_masks_that_were_scored(limit):
    """Whatever it had proposed: the projected one, and each once."""
    problem, counted = problem_of(planted(6, 6), max_macs=limit)
    agent = TPE(problem, seed=0, warmup=8)
    for _ in range(6):
        masks = agent.ask(8)
        agent.tell(masks, problem.score(masks))
    scored = [
        (tuple(mask.tolist()), metrics.accuracy) for mask, metrics in zip(counted.masks, counted.metrics, strict=True)
    ]
    assert trials_of(agent, COMPLETE) == scored
    assert (len(trials_of(agent, FAIL)) > 20) == (limit is not None)
    assert len(trials_of(agent, COMPLETE, FAIL)) == len(agent._study.trials)  # none is left open


def test_masks_that_others_scored_are_learnt():
    problem, _ = problem_of(planted(5, 5))
    masks = problem.topology.as_masks([[True] * 20, [False] * 20, [True] * 20])
    agent = TPE(problem)
    agent.tell(masks, problem.score(masks))
    assert [params for params, _ in trials_of(agent, COMPLETE)] == [(True,) * 20, (False,) * 20]


def test_masks_of_a_batch_differ_and_none_is_asked_for_twice():
    problem, _ = problem_of(planted(4, 4))
    for multivariate in (True, False):
        agent = TPE(problem, seed=0, batch_size=16, warmup=4, multivariate=multivariate)
        agent.tell(first := agent.ask(16), problem.score(first))
        asked = agent.ask(40)
        assert len(first) == 4 and len({mask.tobytes() for mask in asked}) == 40


def test_nothing_is_written_to_the_terminal(capfd):
    verbosity = optuna.logging.get_verbosity()
    problem, _ = problem_of(planted(4), 40, max_macs=0.8)
    optimise(TPE(problem), problem)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == verbosity
