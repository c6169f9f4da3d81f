"""Logits to accuracy, soft accuracy and loss."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ads_gym.data.images import ImageSet, network_input


class Score(NamedTuple):
    """What a network scores on a set of images."""

    accuracy: float  # share of images classified right, 0 to 1
    soft_accuracy: float  # mean probability of the true class, 0 to 1
    loss: float  # mean cross-entropy, nats


def score_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """float64 [3]: accuracy, soft accuracy and loss of logits [n, classes] for labels int64 [n], on their device."""
    log_probabilities = logits.double().log_softmax(dim=1)
    true_class = log_probabilities.gather(1, labels[:, None])
    right = (logits.argmax(dim=1) == labels).double().mean()
    return torch.stack([right, true_class.exp().mean(), -true_class.mean()])


@torch.inference_mode()
def measure(network: nn.Module, images: ImageSet, chunk: int = 500) -> Score:
    """The score of a network in eval mode on `images`, computed on the network's device."""
    weight = next(network.parameters())
    network.eval()
    parts = [network(network_input(part.to(weight.device), weight.dtype)) for part in torch.split(images.images, chunk)]
    return Score(*score_logits(torch.cat(parts), images.labels.to(weight.device)).tolist())
