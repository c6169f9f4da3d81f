"""Searches of some evaluations on a planted task, and who plays in them."""

import numpy as np
from commands import read_rows

import ads_gym
from ads_gym.runs.record import to_csv


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
