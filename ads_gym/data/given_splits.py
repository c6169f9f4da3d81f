"""The images that a caller gives, divided: those from which weights are solved, those on which networks are scored.

Shapes: n images, c channels, h x w pixels.
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ads_gym.data.given import Given, Transform, read_given
from ads_gym.errors import InvalidValue, unknown_name

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class GivenSplits:
    """Images of one size, each split in an order that depends on the images and the seed alone."""

    train: Given
    valid: Given
    test: Given | None
    divided: bool  # whether `valid` is a quarter of what was given as `train`

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        height, width = self.train.images.shape[2:]
        return height, width

    def with_classes(self, classes: Sequence[int] | None, head: int) -> "GivenSplits":
        """The same, whose labels are a network's classes.

        Args:
            classes: which class of the network label 0 is, which label 1, ...; None: the labels are its classes, unless
                there are more or fewer class folders; then there are no labels, and a warning says so.
            head: how many classes the network has.

        Raises:
            InvalidValue: other classes than the network has, or than the labels need.
        """
        test = None if self.test is None else _with_classes(self.test, classes, head)
        return replace(
            self,
            train=_with_classes(self.train, classes, head),
            valid=_with_classes(self.valid, classes, head),
            test=test,
        )


def read_splits(images: Any, labels: Any, valid: Any, test: Any, transform: Transform | None, seed: int) -> GivenSplits:
    """Read what a caller gives.

    Args:
        images: what `read_given` reads; or a dict of such: "train", "valid", "test".
        labels: of `images`, where these are a tensor or an array.
        valid: what `read_given` reads; None: a quarter of `images`, drawn at random.
        test: what `read_given` reads, or None.
        transform: see `read_given`.
        seed: of what is drawn.

    Raises:
        InvalidValue: images that cannot be used, of several sizes, or of other classes.
        NotFound, DamagedFile, StorageError: of folders.
    """
    given = {"train": images, "valid": valid, "test": test}
    if isinstance(images, Mapping):
        given = _named(images, labels, given)
    elif labels is not None:
        given["train"] = (images, labels)
    read = {
        name: _ordered(read_given(each, transform, seed=seed), seed) for name, each in given.items() if each is not None
    }
    train = read["train"]
    for name, each in read.items():
        if each.images.shape[1:] != train.images.shape[1:]:
            shapes = [list(one.images.shape[1:]) for one in (train, each)]
            raise InvalidValue(f"the {name} images are {shapes[1]}, and the others {shapes[0]}: give all in one size.")
        if each.classes and train.classes and each.classes != train.classes:
            raise InvalidValue(
                f"the {name} images have the class folders {_listed(each.classes)}, and the others "
                f"{_listed(train.classes)}: both need the same."
            )
    if "valid" in read:
        return GivenSplits(train, read["valid"], read.get("test"), divided=False)
    quarter = max(1, len(train.images) // 4)
    return GivenSplits(_part(train, slice(quarter, None)), _part(train, slice(quarter)), read.get("test"), divided=True)


def digest_of(images: Tensor, labels: Tensor | None = None) -> str:
    """Sixteen hex digits that stand for images and labels, in their order."""
    found = hashlib.sha256(repr((list(images.shape), labels is None)).encode())
    for tensor in (images,) if labels is None else (images, labels):
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _named(images: Mapping[Any, Any], labels: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    """The splits of a dict.

    Raises:
        InvalidValue: other names, no "train", or what was given twice.
    """
    for name in images:
        if name not in SPLITS:
            raise unknown_name("split of images", name, SPLITS)
    if images.get("train") is None:
        raise InvalidValue(f"images by split need 'train', got {sorted(images)}.")
    if twice := [name for name in SPLITS[1:] if name in images and others[name] is not None]:
        raise InvalidValue(f"{twice[0]} images are given twice: in the dict and as {twice[0]}=.")
    if labels is not None:
        raise InvalidValue("labels of a dict of splits stand in it: give pairs (images, labels).")
    return {**others, **images}


def _ordered(given: Given, seed: int) -> Given:
    """The same images in an order that does not depend on theirs: a loader may shuffle, a folder is sorted by class."""
    arrays = given.images.numpy()
    keys = [hashlib.sha256(np.ascontiguousarray(array).data).digest() for array in arrays]
    by_key = sorted(range(len(keys)), key=keys.__getitem__)
    order = torch.tensor(by_key)[torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed))]
    return _part(given, order)


def _part(given: Given, chosen: Any) -> Given:
    return given._replace(images=given.images[chosen], labels=None if given.labels is None else given.labels[chosen])


def _with_classes(given: Given, classes: Sequence[int] | None, head: int) -> Given:
    if given.labels is None:
        return given
    if classes is None:
        if not given.classes or len(given.classes) == head:
            return given
        warnings.warn(
            f"the network has {head:,} classes, and there are {len(given.classes):,} class folders: their labels are "
            "not used, and networks are compared with the dense network's predictions. To use them, give the network's "
            "class of each folder, in the order of their names (classes=, or --classes 3,17,...).",
            stacklevel=4,
        )
        return given._replace(labels=None)
    known = len(given.classes) or int(given.labels.max()) + 1
    if len(classes) < known or (given.classes and len(classes) != known):
        raise InvalidValue(
            f"there are {known} classes of images, and {len(classes)} classes= of the network: name each."
        )
    if len(set(classes)) < len(classes) or not all(0 <= each < head for each in classes):
        raise InvalidValue(f"classes= of the network are different numbers from 0 to {head - 1}, got {list(classes)}.")
    if int(given.labels.min()) < 0:
        raise InvalidValue(f"labels are classes counted from 0, got {int(given.labels.min())}.")
    return given._replace(labels=torch.tensor(classes)[given.labels])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)
