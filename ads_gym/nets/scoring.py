"""Accuracy, soft accuracy (mean probability of the true class) and loss of logits, or of a network on images."""

from typing import Annotated, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.images import ImageSet, network_input
from ads_gym.errors import InvalidValue
from ads_gym.limits import MAX_IMAGES
from ads_gym.nets.layout import in_chunks, memory_format
from ads_gym.nets.sparse import SparseDenseNet
from ads_gym.records import checked
from ads_gym.torch_state import isolated


class Score(NamedTuple):
    """Metrics of a network on a set of images."""

    accuracy: float  # share of images classified right, 0 to 1
    soft_accuracy: float  # mean probability of the true class, 0 to 1
    loss: float  # mean cross-entropy, nats


@checked
def score_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """float64 [3]: accuracy, soft accuracy and loss of logits [n, classes] for labels int64 [n], on their device."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype != torch.int64 or not len(labels):
        raise InvalidValue(
            f"logits are [n, classes] and labels int64 [n], got {list(logits.shape)} and {labels.dtype} "
            f"{list(labels.shape)}."
        )
    log_probabilities = logits.double().log_softmax(dim=1)
    true_class = log_probabilities.gather(1, labels[:, None])
    right = (logits.argmax(dim=1) == labels).double().mean()
    return torch.stack([right, true_class.exp().mean(), -true_class.mean()])


def check_images(images: ImageSet, config: DenseNetConfig) -> None:
    """Check that a network of this config can classify images.

    Raises:
        InvalidValue: no images, images of another shape, or labels of classes that it lacks.
    """
    largest = int(images.labels.max()) if len(images) else -1
    if not len(images) or images.image_shape != config.image_shape or largest >= config.classes:
        raise InvalidValue(
            f"the network reads images {config.image_shape} of {config.classes} classes, and got {len(images)} images "
            f"{images.image_shape} with labels up to {largest}."
        )


def infer(network: nn.Module, images: Tensor) -> Tensor:
    """Logits [n, classes] of a network in eval mode, as fast as its kind allows; without gradients.

    On a CPU, a sparse network is given few images at a time, in the layout of `ads_gym.nets.layout`.

    Args:
        network: on the images' device.
        images: float [n, c, h, w].
    """
    with torch.no_grad():
        if not isinstance(network, SparseDenseNet):
            return cast(Tensor, network(images))
        return in_chunks(network, images.to(memory_format=memory_format(images)), network.widest)


@checked
def measure(network: nn.Module, images: ImageSet, chunk: Annotated[int, Field(ge=1, le=MAX_IMAGES)] = 500) -> Score:
    """Score a network in eval mode on `images`, on the network's device.

    Args:
        network: put into eval mode.
        images: to be classified.
        chunk: images in one forward pass.
    """
    weight = next(network.parameters())
    network.eval()
    parts = torch.split(images.images, chunk)
    with isolated(weight.device), torch.inference_mode():
        logits = torch.cat([infer(network, network_input(part.to(weight.device), weight.dtype)) for part in parts])
        return Score(*score_logits(logits, images.labels.to(weight.device)).tolist())
