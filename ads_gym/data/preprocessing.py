"""How photos become a model's input: resized, cropped, scaled and normalised, as for ImageNet's weights by default.

Shapes: n images, c channels, h x w pixels.
"""

from typing import Annotated

import torch
from pydantic import FailFast, Field
from torch import Tensor
from torch.nn import functional

from ads_gym.errors import InvalidValue
from ads_gym.limits import MAX_IMAGE_CHANNELS
from ads_gym.records import Number, Pixels, record

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY = (299, 587, 114)  # thousandths of red, green and blue in luma, as Pillow takes them
Numbers = Annotated[tuple[Number, ...], Field(min_length=1, max_length=MAX_IMAGE_CHANNELS), FailFast()]


@record
class Preprocessing:
    """Makes a model's input of photos, as torchvision's `ImageClassification` does.

    Args:
        resize: pixels of the shorter side, before the crop.
        crop: pixels of each side of the middle that is kept.
        mean: that is taken off each channel, whose values are from 0 to 1; one number: the photos become grey.
        std: by which each channel is divided then.

    Raises:
        InvalidValue: a crop larger than the photo; one or three numbers are needed.
    """

    resize: Pixels = 256
    crop: Pixels = 224
    mean: Numbers = IMAGENET_MEAN
    std: Numbers = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.crop > self.resize:
            raise InvalidValue(f"a crop of {self.crop} pixels needs as large a photo: it is resized to {self.resize}.")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise InvalidValue(
                f"mean and std are three numbers each (red, green, blue), or one (grey), got {len(self.mean)} and "
                f"{len(self.std)}."
            )
        if min(self.std) <= 0:
            raise InvalidValue(f"std is above 0 in each channel, got {list(self.std)}.")

    def __call__(self, images: Tensor) -> Tensor:
        """float32 [n, c, crop, crop] of uint8 photos [n, 3, h, w]."""
        height, width = images.shape[2:]
        shorter = min(height, width)
        size = [max(1, int(self.resize * side / shorter)) for side in (height, width)]
        resized = functional.interpolate(images.float(), size, mode="bilinear", antialias=True).round_().clamp_(0, 255)
        top, left = (round((side - self.crop) / 2) for side in size)
        cropped = resized[:, :, top : top + self.crop, left : left + self.crop] / 255
        if len(self.mean) == 1:
            cropped = (cropped * torch.tensor(GREY).view(3, 1, 1) / 1000).sum(1, keepdim=True)
        return (cropped - torch.tensor(self.mean).view(-1, 1, 1)) / torch.tensor(self.std).view(-1, 1, 1)
