"""Random masks: what any agent must beat."""

from ads_gym.agents.base import MaskAgent
from ads_gym.topology import BoolArray


class RandomAgent(MaskAgent):
    """Draws a density uniformly in 0-1, then the bits; above a limit it drops kept ones at random until it fits."""

    def propose(self, deterministic: bool) -> BoolArray:
        """A random mask bool[E]; it has no better guess."""
        return self.game.draw(self.rng)

    def learn(self, total_timesteps: int) -> "RandomAgent":
        """Plays random masks for `total_timesteps` steps, or until the budget ends."""
        steps = 0
        while steps < total_timesteps:
            steps += self.play(self.propose(deterministic=False)).steps
        return self
