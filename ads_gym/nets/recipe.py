"""How a network is trained, as a record: what a task file says, and what `ads_gym.nets.training` does. No torch."""

from typing import Annotated, Any

from pydantic import Field

from ads_gym.errors import InvalidValue
from ads_gym.limits import MAX_BATCH_SIZE, MAX_EPOCHS, MAX_MASKS_PER_STEP, MAX_SHIFT, MAX_STEPS
from ads_gym.records import Seed, Share, record, to_values
from ads_gym.topology import Scope, ScopeName


@record
class ConnectionDropout:
    """How a supernet is trained to do without connections: each step, some random masks instead of the whole network.

    Args:
        low, high: relative cost of the masks, drawn uniformly; 0 to 1.
        masks_per_step: their gradients are summed.
        whole_share: share of the steps that train the whole network, 0 to 1.
        scope: which skip connections are dropped.
    """

    low: Share = 0.5
    high: Share = 1.0
    masks_per_step: Annotated[int, Field(ge=1, le=MAX_MASKS_PER_STEP)] = 2
    whole_share: Share = 0.25
    scope: ScopeName = Scope.LAYERS

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise InvalidValue(f"a cost range is two numbers 0 <= LOW <= HIGH <= 1, got {self.low} {self.high}.")


@record
class Recipe:
    """SGD with Nesterov momentum 0.9; the learning rate rises for 5 % of the steps and falls on a cosine to zero.

    Args:
        epochs: passes over TRAIN.
        batch_size: images a step.
        learning_rate: its peak.
        weight_decay: on every parameter.
        shift: pixels; each image is moved by up to so many in both directions, at random.
        flip: whether each image is mirrored with probability one half.
        dropout: of connections, for a supernet; None trains the plain network.
        seed: of weights, order, augmentation and masks.
    """

    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = 40
    batch_size: Annotated[int, Field(ge=2, le=MAX_BATCH_SIZE)] = 64
    learning_rate: Annotated[float, Field(gt=0, le=1e30)] = 0.1
    weight_decay: Annotated[float, Field(ge=0, le=1e30)] = 5e-4
    shift: Annotated[int, Field(ge=0, le=MAX_SHIFT)] = 1
    flip: bool = False
    dropout: ConnectionDropout | None = None
    seed: Seed = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return to_values(self)


@record
class Distillation:
    """How a sparse network is trained to give what the dense one gives: Adam, whose rate falls on a cosine to zero.

    Args:
        steps: of Adam; 0: none.
        batch_size: images a step, at most as many as there are.
        learning_rate: at the beginning.
        shift: pixels; each image is moved by up to so many in both directions, at random.
        flip: whether each image is mirrored with probability one half.
        seed: of order and augmentation.
    """

    steps: Annotated[int, Field(ge=0, le=MAX_STEPS)] = 1000
    batch_size: Annotated[int, Field(ge=2, le=MAX_BATCH_SIZE)] = 64
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    shift: Annotated[int, Field(ge=0, le=MAX_SHIFT)] = 0
    flip: bool = False
    seed: Seed = 0
