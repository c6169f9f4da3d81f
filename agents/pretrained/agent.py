"""A policy that has seen other networks: it knows which connections are worth keeping before the first evaluation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import InstanceOf

from ads_gym.agents.base import Floats, Needs, Optimiser, objectives_of
from ads_gym.agents.pretrained.groups import MIN_STD
from ads_gym.agents.pretrained.network import PolicyNetwork, states
from ads_gym.agents.pretrained.rows import Rows, read_observation, rows_of
from ads_gym.agents.pretrained.sampling import Sampler
from ads_gym.agents.pretrained.saving import read_pretrained
from ads_gym.agents.pretrained.training import RATES, SCALE, judge
from ads_gym.problem import Problem, Scored
from ads_gym.records import Masks, Seed, Text, checked
from ads_gym.topology import UNDECIDED, BoolArray

ELITES = 5  # best masks that are imitated
STEPS = 4  # of Adam on each batch


class Pretrained(Optimiser):
    """Play a policy that was trained on other networks.

    The first mask is the most probable one; the others are drawn, none twice (but for rounding errors at a limit). It
    reads ranks of features only, so the network may have any shape: see observation "features".

    Args:
        problem: what is searched; of a task with a trained network.
        seed: of the draws.
        policy: path of a policy that `ads-gym train-policy` wrote; None: the one that ships.
        learn: whether it goes on learning from the scores of this search.

    Raises:
        InvalidValue: a task without a trained network.
        NotFound, DamagedFile: no such policy.
    """

    needs = Needs.FEATURES
    batch_size = 8

    @checked
    def __init__(
        self, problem: InstanceOf[Problem], *, seed: Seed = 0, policy: Text | None = None, learn: bool = False
    ) -> None:
        super().__init__(problem, seed=seed)
        written, self.network = read_pretrained(policy)
        self._rows = rows_of(problem, written.settings.inputs, seed)
        self._sampler = Sampler(self.network, self._rows, seed)
        self._adam = torch.optim.Adam(self.network.parameters(), RATES[self.network.kind]) if learn else None
        self._best: list[tuple[float, BoolArray]] = []

    @checked
    def ask(self, n: Masks) -> BoolArray:
        """Return the next masks, bool [at most n, E]."""
        masks = self._sampler.ask(n)
        fits = self.problem.fits(masks)
        for row in np.flatnonzero(~fits):  # by a rounding error of costs in float32
            masks[row] = self.problem.project(masks[row], self.rng)
        return masks

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Learn from the scores of masks bool [n, E], if it was asked to."""
        masks, objectives = objectives_of(self.problem, masks, scores)
        if self._adam is None or not len(masks):
            return
        pairs = zip(objectives.tolist(), masks, strict=True)
        self._best = sorted([*self._best, *pairs], key=lambda pair: -pair[0])[:ELITES]
        for _ in range(STEPS):
            self._adam.zero_grad()
            self._loss(masks, objectives).backward()  # type: ignore[no-untyped-call]
            self._adam.step()
        self._sampler.forget()

    @torch.no_grad()
    def predict(
        self,
        observation: NDArray[Any],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.int64], None]:
        """Return actions for observations "features" [n, E, 16], of any network, or for a single one.

        Args:
            observation: of environments with decision "connection".
            state, episode_start: not used: every observation holds all decisions.
            deterministic: take the more probable action instead of drawing one.

        Raises:
            InvalidValue: another observation.
        """
        array = np.asarray(observation)
        rows, decisions = read_observation(array if array.ndim > 2 else array[None])
        return (actions_of(self.network, rows, decisions, self.rng, deterministic).reshape(array.shape[:-2]), None)

    def _loss(self, masks: BoolArray, objectives: Floats) -> torch.Tensor:
        """Of the last masks, by their objectives, and of the best ones, which are imitated."""
        best = np.stack([mask for _, mask in self._best])
        rows = self._rows.repeat(len(masks) + len(best))
        explores = torch.ones(len(rows.room), dtype=torch.bool)
        log_probabilities, _ = judge(self.network, rows, explores, torch.from_numpy(np.concatenate([masks, best])))
        worth = torch.from_numpy(objectives - objectives.mean()).float() / max(float(objectives.std()), MIN_STD)
        gain = SCALE * (worth * log_probabilities[: len(masks)]).mean()
        return -gain - SCALE * log_probabilities[len(masks) :].mean()


def actions_of(
    network: PolicyNetwork, rows: Rows, decisions: NDArray[np.int8], rng: np.random.Generator, deterministic: bool
) -> NDArray[np.int64]:
    """Return actions int64 [n] for the first undecided connection of each episode; 0 where there is none.

    Args:
        network: the policy.
        rows: of n episodes.
        decisions: int8 [n, E], -1 undecided.
        rng: of the draws.
        deterministic: see `Pretrained.predict`.
    """
    is_open = decisions == UNDECIDED
    place, number = is_open.argmax(axis=1), np.arange(len(decisions))
    numbers, legal = states(rows, torch.from_numpy(decisions == 1))
    explores = torch.full((len(decisions),), not deterministic)
    logits, _ = network.decide(network.encode(rows, explores), numbers)
    chance = torch.sigmoid(logits).numpy()[number, place]
    threshold = np.full(len(decisions), 0.5) if deterministic else rng.random(len(decisions))
    keep = (chance > threshold) & legal.numpy()[number, place] & is_open.any(axis=1)
    return np.asarray(keep, np.int64)
