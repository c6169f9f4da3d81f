"""Labelled images as tensors: n images, c channels, h x w pixels."""

import hashlib
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ads_gym.devices import resolve_device
from ads_gym.errors import InvalidValue, shown
from ads_gym.limits import MAX_IMAGES
from ads_gym.records import Pixels, checked, record


@record
class ImageSet:
    """Images and their classes, on one device.

    Args:
        images: uint8 [n, c, h, w], which networks read scaled to [-1, 1]; or floats, finite, as they are read.
        labels: int64 [n], the class of each.

    Raises:
        InvalidValue: another type or shape, NaN or infinite, or a negative label.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        is_float = images.is_floating_point()
        if not (images.dtype is torch.uint8 or is_float) or images.ndim != 4:
            raise InvalidValue(
                f"an image set holds images [n, c, h, w], uint8 or float, got {images.dtype} {list(images.shape)}."
            )
        if is_float and not images.isfinite().all():
            raise InvalidValue("the images hold NaN or infinite numbers: give finite ones.")
        if labels.dtype != torch.int64 or labels.ndim != 1:
            raise InvalidValue(f"an image set holds int64 labels [n], got {labels.dtype} {list(labels.shape)}.")
        if len(images) != len(labels):
            raise InvalidValue(f"there are {len(images)} images and {len(labels)} labels; each image needs one label.")
        if len(labels) and int(labels.min()) < 0:
            raise InvalidValue(f"labels are classes counted from 0, got {int(labels.min())}.")

    def __len__(self) -> int:
        return len(self.labels)

    __hash__ = None  # type: ignore[assignment]  # tensors have none that goes with equality

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ImageSet):
            return NotImplemented
        return torch.equal(self.images, other.images) and torch.equal(self.labels, other.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width), pixels."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same on another device."""
        where = resolve_device(device)
        return ImageSet(self.images.to(where), self.labels.to(where))

    @property
    def digest(self) -> str:
        """Sixteen hex digits that stand for the images and labels, in their order."""
        found = hashlib.sha256(repr(self.image_shape).encode())
        for tensor in (self.images, self.labels):
            found.update(tensor.cpu().numpy().tobytes())
        return found.hexdigest()[:16]

    def take(self, indices: Tensor | Sequence[int]) -> "ImageSet":
        """A copy of the images at `indices`, int [m], in that order.

        Raises:
            InvalidValue: no such indices.
        """
        try:
            chosen = torch.as_tensor(indices, dtype=torch.int64, device=self.labels.device)
            fits = chosen.ndim == 1 and bool(((chosen >= 0) & (chosen < len(self))).all())
        except (TypeError, ValueError, RuntimeError, OverflowError):
            fits = False
        if not fits:
            raise InvalidValue(
                f"indices of images are whole numbers [m] from 0 to {len(self) - 1}, got {shown(indices)}."
            )
        return ImageSet(self.images[chosen], self.labels[chosen])


@checked
def network_input(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """What networks read: uint8 images [n, c, h, w] as `dtype` in [-1, 1], others as they are.

    It is fixed: no statistics of the data are in it.
    """
    return images.to(dtype) if images.is_floating_point() else images.to(dtype) / 127.5 - 1


@checked
def resize(images: Tensor, size: Pixels, chunk: Annotated[int, Field(ge=1, le=MAX_IMAGES)] = 1000) -> Tensor:
    """uint8 [n, c, h, w] as uint8 [n, c, size, size]: bilinear, antialiased, squeezed if not square."""
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise InvalidValue(f"images are uint8 [n, c, h, w], got {images.dtype} {list(images.shape)}.")
    if images.shape[-2:] == (size, size) or not len(images):
        return images
    resized = [
        torch.nn.functional.interpolate(part.float(), (size, size), mode="bilinear", antialias=True)
        .round_()
        .clamp_(0, 255)
        .to(torch.uint8)
        for part in torch.split(images, chunk)
    ]
    return torch.cat(resized)
