"""How a supernet was made and how good it is, as its task's file says it. No torch."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated

from pydantic import FailFast, Field

from ads_gym.nets.recipe import Recipe
from ads_gym.records import Masks, Name, Number, Share, Text, record


@record
class SpreadRow:
    """Inherited metrics of random masks of one relative cost on VALID: mean and standard deviation over the masks."""

    relative_cost: Share
    masks: Masks
    accuracy: Number
    accuracy_sd: Number
    soft_accuracy: Number
    soft_accuracy_sd: Number
    loss: Number  # nats
    loss_sd: Number


@record
class GivenWeights:
    """A file of weights that was taken instead of training."""

    weights: Name  # of the file
    digest: Name


@record
class TrainingRecord:
    """How a supernet was made."""

    recipe: Recipe | GivenWeights | None = None
    data: Text | None = None  # digest of TRAIN and VALID
    spread: Annotated[tuple[SpreadRow, ...], Field(max_length=100), FailFast()] = ()  # of its inherited accuracies
    versions: Mapping[Text, Text] = field(default_factory=dict, hash=False)
