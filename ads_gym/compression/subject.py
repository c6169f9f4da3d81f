"""What `sparsify` makes smaller: a copy of the caller's model, and his images as it reads them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ads_gym.data.given import Given
from ads_gym.data.given_splits import GivenSplits
from ads_gym.data.images import ImageSet
from ads_gym.errors import InvalidValue
from ads_gym.nets.channels import reordered
from ads_gym.nets.densenet import DenseNet, check_input
from ads_gym.nets.from_torchvision import from_torchvision
from ads_gym.nets.scoring import check_images
from ads_gym.runs.sparsify_record import Channels, Measured

CALIBRATION = 3_000  # images from which weights are solved, at most
LARGE = 64  # pixels; of larger images fewer are taken, and on a CPU they are not distilled unless that is asked for
LARGE_CALIBRATION = 128
MULTIPLE = 8  # channels: so many a GPU, or a vector of a CPU, takes at once
CHUNK = 64  # images in one forward pass


@dataclass(frozen=True, eq=False)
class Subject:
    """What is made smaller, and with which images."""

    supernet: DenseNet  # a copy of the caller's model, on the device
    calibration: Tensor  # images on the device, from which weights are solved
    valid: ImageSet  # on the device; labels, or what the dense network predicts
    test: ImageSet | None  # on the CPU
    measured: Measured  # on `valid`
    test_measured: Measured
    divided: bool  # whether `valid` is a quarter of what was given

    def reordered(self, channels: Channels | None) -> "Subject":
        """With the supernet's channels in another order, which changes nothing."""
        if channels is None:
            return self
        return replace(self, supernet=reordered(self.supernet, channels.nodes, channels.bottlenecks))

    @property
    def is_large(self) -> bool:
        """Whether images are so large that fewer are taken, and distilling on a CPU is not done by default."""
        return is_large(tuple(self.calibration.shape[2:]))

    @property
    def multiple(self) -> int:
        """So many channels go together."""
        return MULTIPLE if self.is_large else 1


def make_subject(model: nn.Module, splits: GivenSplits, classes: Sequence[int] | None, device: torch.device) -> Subject:
    """Copy the model, and make the images ready for it.

    Raises:
        InvalidValue: a model or images that cannot be used.
    """
    supernet = from_torchvision(model, splits.image_size)
    config = supernet.config
    splits = splits.with_classes(classes, config.classes)
    check_input(splits.train.images, config)
    most = LARGE_CALIBRATION if is_large(splits.image_size) else CALIBRATION
    calibration = splits.train.images[:most].to(device)
    if len(calibration) < 2:
        raise InvalidValue(f"weights are solved from at least two images, got {len(calibration)}: give more.")
    supernet.to(device)
    valid, measured = _labelled(supernet, splits.valid)
    test, test_measured = (None, measured) if splits.test is None else _labelled(supernet, splits.test)
    for each in (valid, test):
        if each is not None:
            check_images(each, config)
    return Subject(supernet, calibration, valid.to(device), test, measured, test_measured, splits.divided)


def _labelled(supernet: DenseNet, given: Given) -> tuple[ImageSet, Measured]:
    """Images with their labels, or with what the dense network takes them for; on the CPU."""
    if given.labels is not None:
        return ImageSet(given.images, given.labels), "accuracy"
    device = supernet.classifier.weight.device
    with torch.no_grad():
        parts = [supernet(part.to(device)).argmax(1) for part in torch.split(given.images, CHUNK)]
    return ImageSet(given.images, torch.cat(parts).cpu()), "agreement"


def is_large(size: tuple[int, ...]) -> bool:
    """Whether images of (height, width) pixels are large."""
    return max(size) > LARGE
