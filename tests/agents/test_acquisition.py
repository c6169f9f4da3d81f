"""Maximising an acquisition function over masks that are new and fit."""

import numpy as np
from planted_problems import planted, problem_of

from ads_gym.agents.bayes.acquisition import maximise_acquisition


def problem(limit=None):
    return problem_of(planted(5, 5), max_macs=limit)[0]


def agreement(target):
    return lambda masks: (masks == target).mean(axis=-1)


def test_it_climbs_to_the_top_from_anywhere():
    rng = np.random.default_rng(0)
    target = rng.random(20) < 0.5
    starts = rng.random((6, 20)) < 0.5
    maxima = maximise_acquisition(problem(), agreement(target), starts, set(), rng)
    np.testing.assert_array_equal(maxima, target[None])


def test_known_masks_are_not_returned_and_the_highest_come_first():
    rng = np.random.default_rng(1)
    target = rng.random(20) < 0.5
    near = target ^ np.eye(20, dtype=bool)
    known = {target.tobytes(), *(mask.tobytes() for mask in near[:15])}
    starts = np.stack([near[18] ^ near[17] ^ target, near[19], rng.random(20) < 0.5])
    acquisition = agreement(target)
    maxima = maximise_acquisition(problem(), acquisition, starts, known, rng)
    assert not {mask.tobytes() for mask in maxima} & known
    assert (np.diff(acquisition(maxima)) <= 0).all()
    assert acquisition(maxima[:1]) == 0.95


def test_where_all_within_a_flip_are_known_nothing_is_returned():
    rng = np.random.default_rng(2)
    start = np.zeros(20, bool)
    known = {start.tobytes(), *(mask.tobytes() for mask in start ^ np.eye(20, dtype=bool))}
    assert maximise_acquisition(problem(), agreement(start), start[None], known, rng).shape == (0, 20)


def test_it_keeps_within_a_limit_and_swaps_there():
    rng = np.random.default_rng(3)
    limited = problem(0.6)
    acquisition = agreement(np.ones(20, bool))  # the more the better
    starts = np.stack([limited.project(rng.random(20) < 0.5, rng) for _ in range(8)])
    maxima = maximise_acquisition(limited, acquisition, starts, set(), rng)
    assert limited.fits(maxima).all()
    assert acquisition(maxima[:1]) > acquisition(starts).max()
    for mask in maxima:  # nothing more can be kept
        assert not limited.fits(mask | np.eye(20, dtype=bool)[~mask]).any()
