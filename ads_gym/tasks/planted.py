"""Planted tasks: a hidden mask to find. No images, no weights, no torch; the optimum is known."""

from dataclasses import dataclass
from pathlib import Path

from ads_gym.architecture import DenseNetConfig
from ads_gym.evaluators.base import BaseEvaluator, Weights
from ads_gym.evaluators.planted import Kind, PlantedEvaluator
from ads_gym.tasks.base import Task
from ads_gym.topology import Scope

PLANTED = {  # name -> layers in each block, and kind
    "planted-20": ((5, 5), Kind.LINEAR),
    "planted-45": ((6, 6, 6), Kind.LINEAR),
    "planted-198": ((12, 12, 12), Kind.LINEAR),
    "rugged-45": ((6, 6, 6), Kind.RUGGED),
}


@dataclass(frozen=True)
class PlantedTask(Task):
    """A hidden mask on the skip connections of a config.

    Args:
        name: for people and folders.
        config: only its costs are used.
        kind, seed: see `PlantedEvaluator`.
    """

    name: str
    config: DenseNetConfig
    kind: Kind = Kind.LINEAR
    seed: int = 0

    @classmethod
    def find(cls, name: str | Path, data_root: Path | str | None = None) -> "PlantedTask | None":
        """Return one of `PLANTED`."""
        if not isinstance(name, str) or name not in PLANTED:
            return None
        blocks, kind = PLANTED[name]
        return cls(name, DenseNetConfig(blocks, growth=4, stem_channels=8, image_shape=(1, 8, 8)), kind)

    def evaluator(
        self,
        scope: Scope | str = Scope.LAYERS,
        device: str = "auto",
        weights: Weights | str = Weights.INHERITED,
    ) -> BaseEvaluator:
        """Return the evaluator of agreement with the hidden mask; `device` is not used."""
        if Weights(weights) is Weights.REPAIRED:
            raise self._has_no_network()
        return PlantedEvaluator(self.config, scope, self.kind, self.seed)
