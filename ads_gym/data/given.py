"""Images as a caller has them (arrays, tensors, data sets, loaders) as one tensor, read as a model of his reads them.

Shapes: n images, c channels, h x w pixels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ads_gym.errors import InvalidValue, shown

MOST = 10_000  # images that are read of a data set or loader
CHUNK = 64  # uint8 images that are transformed at once
Transform = Callable[[Tensor], Any]


def read_images(
    given: Any, transform: Transform | None = None, most: int = MOST, seed: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Images float32 [n, c, h, w] on the CPU, and their labels int64 [n] where they have some.

    Args:
        given: a tensor or array of floats as the model reads them, or of uint8 [n, c, h, w] and a transform; a pair of
            such and labels; a `torch.utils.data` data set or loader, or another iterable, of images [c, h, w], of
            (image, label), or of batches of these.
        transform: what makes a model's input of uint8 images [n, c, h, w]: `weights.transforms()` of torchvision's.
        most: of a data set that is larger, so many are drawn at random; of a loader, the first so many are read.
        seed: of that draw.

    Raises:
        InvalidValue: something else, NaN or infinite, images of several sizes, none at all.
    """
    pair = isinstance(given, tuple) and len(given) == 2
    images, labels = given if pair else (given, None)
    if isinstance(images, Tensor | np.ndarray):
        return _ready(_as_tensor(images), transform), None if labels is None else _labels(labels, len(images))
    is_items = isinstance(given, Iterable) or (hasattr(given, "__getitem__") and hasattr(given, "__len__"))
    if pair or not is_items or isinstance(given, str | bytes | Mapping | np.generic | type):
        raise InvalidValue(
            f"images are a float tensor or array [n, c, h, w], a pair of it and labels, or a data set or loader of "
            f"images, got {shown(given)}."
        )
    return _collect(_items(given, most, seed), transform, most)


def _items(given: Any, most: int, seed: int) -> Iterator[Any]:
    """Of a data set, items in a random order; of anything else, in its own."""
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        order = np.random.default_rng(seed).permutation(len(given))[:most]
        return (given[int(index)] for index in order)
    return islice(iter(given), most)


def _collect(items: Iterator[Any], transform: Transform | None, most: int) -> tuple[Tensor, Tensor | None]:
    images: list[Tensor] = []
    labels: list[Tensor] = []
    count = 0
    while count < most:
        try:
            item = next(items, None)
        except Exception as error:  # whatever a data set of the caller's raises
            raise InvalidValue(f"reading image {count} failed: {shown(error)}.") from error
        if item is None:
            break
        is_pair = isinstance(item, tuple | list) and len(item) == 2
        image = _as_tensor(item[0] if is_pair else item)
        image = _ready(image[None] if image.ndim == 3 else image, transform)[: most - count]
        if images and image.shape[1:] != images[0].shape[1:]:
            raise InvalidValue(f"images have one size, got {list(images[0].shape[1:])} and {list(image.shape[1:])}.")
        images.append(image)
        count += len(image)
        if is_pair:
            labels.append(_labels(item[1], None)[: len(image)])
    if not images:
        raise InvalidValue("there are no images: the data set or loader is empty.")
    if labels and sum(map(len, labels)) != count:
        raise InvalidValue(f"there are {count} images and {sum(map(len, labels))} labels; each image needs one label.")
    return torch.cat(images), torch.cat(labels) if labels else None


def _as_tensor(value: Any) -> Tensor:
    """A tensor on the CPU.

    Raises:
        InvalidValue: no tensor or array of numbers.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "fu":
        value = torch.from_numpy(np.ascontiguousarray(value))
    if not isinstance(value, Tensor) or value.ndim not in (3, 4):
        raise InvalidValue(
            f"an image is a float or uint8 tensor or array [c, h, w] or [n, c, h, w], got {shown(value)}."
        )
    return value.detach().cpu()


def _ready(images: Tensor, transform: Transform | None) -> Tensor:
    """Float32 images [n, c, h, w]; uint8 ones are transformed."""
    if images.ndim != 4 or not len(images):
        raise InvalidValue(f"images have shape [n, c, h, w], at least one, got {list(images.shape)}.")
    if not images.is_floating_point():
        if images.dtype != torch.uint8 or transform is None:
            raise InvalidValue(
                f"images of {images.dtype} are no model's input: give floats as the model reads them, or uint8 images "
                "and transform=, as weights.transforms()."
            )
        images = torch.cat([_transformed(part, transform) for part in torch.split(images, CHUNK)])
    images = images.float()
    if not images.isfinite().all():
        raise InvalidValue("the images hold NaN or infinite numbers: give finite ones.")
    return images


def _transformed(images: Tensor, transform: Transform) -> Tensor:
    try:
        made = transform(images)
    except Exception as error:  # whatever the caller's code raises
        raise InvalidValue(f"the transform fails on uint8 images {list(images.shape)}: {shown(error)}.") from error
    if not isinstance(made, Tensor) or made.ndim != 4 or len(made) != len(images) or not made.is_floating_point():
        raise InvalidValue(f"the transform of uint8 images [n, c, h, w] gives floats [n, c, h, w], got {shown(made)}.")
    return made


def _labels(given: Any, count: int | None) -> Tensor:
    """int64 [n].

    Raises:
        InvalidValue: no classes, or not as many as there are images.
    """
    try:
        labels = torch.as_tensor(given).detach().cpu()
        labels = labels[None] if labels.ndim == 0 else labels
        is_whole = not labels.is_floating_point() and labels.dtype not in (torch.bool, torch.complex64)
    except (TypeError, ValueError, RuntimeError):
        is_whole = False
    if not is_whole or labels.ndim != 1:
        raise InvalidValue(f"labels are classes, whole numbers [n] from 0 on, got {shown(given)}.")
    if count is not None and len(labels) != count:
        raise InvalidValue(f"there are {count} images and {len(labels)} labels; each image needs one label.")
    return labels.long()
