"""Images as a caller has them (tensors, data sets, loaders, folders) as one tensor, read as a model of his reads them.

Shapes: n images, c channels, h x w pixels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ads_gym.data.image_folder import image_files, read_image_files
from ads_gym.errors import AdsGymError, InvalidValue, shown
from ads_gym.files import resolve

MOST = 10_000  # images that are read of a data set or loader
MOST_BYTES = 2**30  # that these take
CHUNK = 64  # uint8 images that are transformed at once
Transform = Callable[[Tensor], Any]


class Given(NamedTuple):
    """Images and what is known of their classes."""

    images: Tensor  # float32 [n, c, h, w], on the CPU
    labels: Tensor | None = None  # int64 [n]
    classes: tuple[str, ...] = ()  # names of the class folders that the labels number; none where there are none


def read_images(
    given: Any, transform: Transform | None = None, most: int = MOST, seed: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Images float32 [n, c, h, w] on the CPU, and their labels int64 [n] where they have some; see `read_given`."""
    return read_given(given, transform, most, seed)[:2]


def read_given(given: Any, transform: Transform | None = None, most: int = MOST, seed: int = 0) -> Given:
    """Read images as a caller has them.

    Args:
        given: a tensor or array of floats as the model reads them, or of uint8 [n, c, h, w] and a transform; a pair of
            such and labels; a `torch.utils.data` data set or loader, or another iterable, of images [c, h, w], of
            (image, label), or of batches of these; the path of a folder of images, or of class folders with images, of
            any sizes, and a transform.
        transform: what makes a model's input of uint8 images [n, c, h, w]: `weights.transforms()` of torchvision's.
        most: of a data set or folder that is larger, so many are drawn at random; of a loader, the first so many are
            read. Of all three no more than 1 GiB.
        seed: of that draw.

    Raises:
        InvalidValue: something else, NaN or infinite, images of several sizes, none at all.
        NotFound, DamagedFile, StorageError: of a folder.
    """
    if isinstance(given, str | Path):
        return _read_folder(resolve(given), transform, most, seed)
    pair = isinstance(given, tuple) and len(given) == 2
    images, labels = given if pair else (given, None)
    if isinstance(images, Tensor | np.ndarray):
        return Given(_ready(_as_tensor(images), transform), None if labels is None else _labels(labels, len(images)))
    is_items = isinstance(given, Iterable) or (hasattr(given, "__getitem__") and hasattr(given, "__len__"))
    if pair or not is_items or isinstance(given, bytes | Mapping | np.generic | type):
        raise InvalidValue(
            "images are a float tensor or array [n, c, h, w], a pair of it and labels, a data set or loader of images, "
            f"or a folder, got {shown(given)}."
        )
    return _collect(_items(given, most, seed), transform, most)


def _read_folder(path: Path, transform: Transform | None, most: int, seed: int) -> Given:
    if transform is None:
        raise InvalidValue(
            f"images in a folder ({path}) are bytes of any size: give transform=weights.transforms(), as the model's "
            "weights have it, or another function that makes a model's input of uint8 images [n, 3, h, w]."
        )
    listed = image_files(path)
    order = np.random.default_rng(seed).permutation(len(listed.files))[:most]
    images = read_image_files(path, [listed.files[index] for index in order])
    labels = [listed.labels[index] for index in order] if listed.labels else None
    found = _collect(images if labels is None else zip(images, labels, strict=True), transform, most)
    return found._replace(classes=listed.classes)


def _items(given: Any, most: int, seed: int) -> Iterator[Any]:
    """Of a data set, items in a random order; of anything else, in its own."""
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        order = np.random.default_rng(seed).permutation(len(given))[:most]
        return (given[int(index)] for index in order)
    return islice(iter(given), most)


def _collect(items: Iterator[Any], transform: Transform | None, most: int) -> Given:
    images: list[Tensor] = []
    labels: list[Tensor] = []
    count = 0
    while count < most and (not images or count * images[0][0].nbytes < MOST_BYTES):
        try:
            item = next(items, None)
        except AdsGymError:
            raise
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
    return Given(torch.cat(images), torch.cat(labels) if labels else None)


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
        raise InvalidValue(
            "labels are classes, whole numbers [n] from 0 on, one for each image (several, or measurements, are not "
            f"taken), got {shown(given)}."
        )
    if count is not None and len(labels) != count:
        raise InvalidValue(f"there are {count} images and {len(labels)} labels; each image needs one label.")
    return labels.long()
