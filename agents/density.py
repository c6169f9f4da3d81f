"""One logit for all connections: how many to keep, and nothing about which."""

from ads_gym.agents.bernoulli import Bernoulli


class Density(Bernoulli):
    """`Bernoulli` with one number to learn: the control that says what the density alone is worth."""

    def _shape(self) -> tuple[int]:
        """(1,): one logit."""
        return (1,)
