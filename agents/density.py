"""Density agent: one logit for all connections, so that it learns how many to keep and nothing about which."""

from ads_gym.agents.bernoulli import Bernoulli


class Density(Bernoulli):
    """Learn how many to keep, not which.

    `Bernoulli` with one logit that all connections share. Its score shows what the density alone is worth.
    """

    def _logits_size(self) -> int:
        return 1
