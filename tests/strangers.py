"""Agents as strangers bring them: some play well, the others each make one mistake."""

import gc
import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np

from ads_gym.agents.base import Optimiser
from ads_gym.errors import AdsGymError


def masks_of(env, seed):
    """Random masks, one after another, played step by step."""
    rng = np.random.default_rng(seed)
    while True:
        env.reset()
        yield [env.step(bit) for bit in (rng.random(env.unwrapped.topology.size) < rng.random()).astype(np.int64)]


def honest(env, seed):
    for _ in masks_of(env, seed):
        pass


class Learner:
    """A policy that plays three environments, and can be saved."""

    num_envs = 3
    observation = "flat"

    def __init__(self, env, seed):
        self.env, self.rng, self.seen = env, np.random.default_rng(seed), 0.0

    def learn(self, total_timesteps):
        observations, _ = self.env.reset()
        for _ in range(total_timesteps):
            observations, rewards, *_ = self.env.step(self.rng.integers(0, 2, 3))
            self.seen += float(observations.sum() + rewards.sum())

    def save(self, path):
        Path(path).with_suffix(".json").write_text(json.dumps(self.seen))

    @classmethod
    def load(cls, path, env):
        raise NotImplementedError


class Mutants(Optimiser):
    """What it asks next depends on what it was told."""

    batch_size = 6

    def __init__(self, problem, *, seed=0):
        super().__init__(problem, seed=seed)
        self.best, self.most = problem.topology.chain(), -np.inf

    def ask(self, n):
        flipped = self.best ^ (self.rng.random((n, len(self.best))) < 0.1)
        return np.stack([self.problem.project(mask, self.rng) for mask in flipped])

    def tell(self, masks, scores):
        for mask, score in zip(masks, scores, strict=True):
            if score.objective > self.most:
                self.best, self.most = mask, score.objective


class Reader(Optimiser):
    """Reads features, and charges something of its own."""

    needs = "features"

    def __init__(self, problem, *, seed=0):
        super().__init__(problem, seed=seed)
        self.known = problem.feature("residual") + problem.feature("position")
        problem.charge("thinking", 2)

    def ask(self, n):
        return self.problem.project(self.rng.random(len(self.known)) < self.known, self.rng)[None]

    def tell(self, masks, scores):
        pass


def sleeper(env, seed):
    """Stops after some evaluations, for as long as there is a file that says so."""
    for number, _ in enumerate(masks_of(env, seed)):
        while number == 9 and Path("sleep").exists():
            time.sleep(0.01)


def endless(env, seed):
    """Asks nothing, and does not end."""
    while True:
        pass


def deaf(env, seed):
    """Does not hear that the budget is spent."""
    while True:
        try:
            honest(env, seed)
        except AdsGymError:
            time.sleep(0.001)


def stubborn(env, seed):
    """Plays one mask for ever."""
    while True:
        env.reset()
        while not env.step(0)[2]:
            pass


def deeper(number):
    return {}[number]


def raising(env, seed):
    for number, _ in enumerate(masks_of(env, seed)):
        if number == 4:
            deeper(number)


def dying(env, seed):
    for number, _ in enumerate(masks_of(env, seed)):
        if number == 4:
            os._exit(3)


def exiting(env, seed):
    sys.exit("had enough")


def starting_others(env, seed):
    """Starts another process, and leaves it alone."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path("others").write_text(f"{os.getpid()} {other.pid}")
    if Path("sleep").exists():
        time.sleep(600)


class TooWide(Mutants):
    def ask(self, n):
        return super().ask(n)[:, 1:]


class TooMuch(Mutants):
    """Does not heed the limit on MACs."""

    def ask(self, n):
        return np.ones((1, len(self.best)), np.bool_)


class Unseeded(Mutants):
    def __init__(self, problem, *, seed=0):
        super().__init__(problem, seed=int(time.time_ns() % 2**32))


class Seedless(Mutants):
    """The same whatever the seed."""

    def __init__(self, problem, *, seed=0):
        super().__init__(problem, seed=0)


class Forgetful(Mutants):
    """Asks for most masks twice."""

    def ask(self, n):
        return np.repeat(super().ask(n // 3), 3, axis=0)


def wrong_action(env, seed):
    env.reset()
    env.step(7)


class Nothing:
    """Neither learns nor asks."""

    def __init__(self, problem, *, seed=0):
        pass


class HalfAnOptimiser:
    """Asks, and hears nothing."""

    def __init__(self, problem, *, seed=0):
        pass

    def ask(self, n):
        raise NotImplementedError


def idle(env, seed):
    """Plays nothing."""
    env.reset()


class Remembering(Mutants):
    """Begins otherwise where it has been before."""

    def __init__(self, problem, *, seed=0):
        here = Path("remembered")
        super().__init__(problem, seed=seed + here.exists())
        here.touch()


neither = 5


def spacious(metrics):
    """A reward of a user's own."""
    return metrics.accuracy**2


def prying(env, seed):
    """Looks at everything that can be reached from what it is given, and writes down what should not be there."""
    found = {"modules": sorted(name for name in ("torch", "pytest") if name in sys.modules), "texts": [], "objects": []}
    frame, seen, waiting = sys._getframe(), {}, [env, sys.argv, *gc.get_objects()]
    while frame is not None:
        waiting.append(frame.f_locals)
        frame = frame.f_back
    waiting += gc.get_referrers(env, env.unwrapped.problem.evaluator)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, types.ModuleType | type | types.FunctionType) or thing is seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, str | Path):
            found["texts"].append(str(thing))
            continue
        kinds = {kind.__name__ for kind in type(thing).__mro__}
        if kinds & {"Module", "BaseEvaluator", "Task", "EvaluationStore", "Database", "Table", "Tensor", "RunFolder"}:
            found["objects"].append(type(thing).__name__)
        waiting += gc.get_referents(thing)
    evaluator = env.unwrapped.problem.evaluator
    found["problem"] = [env.unwrapped.problem.task, env.unwrapped.problem.network, type(evaluator).__name__]
    found["seen"], found["evaluators"] = len(seen), list(env.unwrapped.problem.evaluators)
    Path("found.json").write_text(json.dumps(found))
    honest(env, seed)
