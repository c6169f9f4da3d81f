"""Masks of a policy, none twice: the most probable first, then drawn ones."""

import numpy as np
import torch

from ads_gym.agents.pretrained.network import PolicyNetwork, play
from ads_gym.agents.pretrained.rows import Rows
from ads_gym.topology import BoolArray

DRAWN = 64  # masks at once
HOTTER = 1.25  # the temperature rises by this where all that was drawn is known
HOTTEST = 64.0  # so hot all is as likely as not: what is not found now hardly is


class Sampler:
    """Draws masks of one network.

    Args:
        network: the policy.
        rows: of the network that it decides, n = 1.
        seed: of the draws.
    """

    def __init__(self, network: PolicyNetwork, rows: Rows, seed: int) -> None:
        self._network, self._rows = network, rows
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._known: set[bytes] = set()
        self._waiting: list[BoolArray] = []
        self._temperature = 1.0
        self._has_begun = False

    def ask(self, count: int) -> BoolArray:
        """Return the next masks, bool [at most `count`, E]; fewer where no others are found."""
        if not self._has_begun:
            self._has_begun = True
            self._keep(play(self._network, self._rows, torch.zeros(1, dtype=torch.bool), None).numpy())
        while len(self._waiting) < count and self._temperature < HOTTEST:
            rows, explores = self._rows.repeat(DRAWN), torch.ones(DRAWN, dtype=torch.bool)
            drawn = play(self._network, rows, explores, self._generator, self._temperature).numpy()
            if not self._keep(drawn):
                self._temperature *= HOTTER
        asked, self._waiting = self._waiting[:count], self._waiting[count:]
        return np.stack(asked) if asked else np.empty((0, self._rows.costs.shape[1]), np.bool_)

    def forget(self) -> None:
        """Drop what was drawn and not asked for: the policy has changed."""
        self._known -= {mask.tobytes() for mask in self._waiting}
        self._waiting = []

    def _keep(self, masks: BoolArray) -> int:
        """Remember masks that are new, and return how many were."""
        before = len(self._known)
        for mask in masks:
            if mask.tobytes() not in self._known:
                self._known.add(mask.tobytes())
                self._waiting.append(mask)
        return len(self._known) - before
