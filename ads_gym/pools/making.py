"""Make the supernets of a pool: draw up their images, train them, score all their architectures."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ads_gym.data.custom import load_custom
from ads_gym.data.datasets import load_named
from ads_gym.data.spec import DataSpec
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.base import Weights
from ads_gym.files import exists, resolve, write_file
from ads_gym.nets.recipe import Recipe
from ads_gym.pools.definition import LEAST_IMAGES, WRITERS, Member
from ads_gym.supernet_training import SupernetSettings, train_supernet
from ads_gym.tabulation import TabulationProgress, tabulate
from ads_gym.tasks.supernet import SupernetTask

VALID, CALIBRATION, TEST = 0.3, 0.4, 0.05  # shares of the images
MOST_VALID, MOST_CALIBRATION = 200, 250  # images


def make_member(
    member: Member,
    folder: Path | str,
    weights: Sequence[Weights] = tuple(Weights),
    progress: TabulationProgress | None = None,
    device: str = "auto",
) -> SupernetTask:
    """Make a supernet of a pool with its table; one that is there is returned as it is, a killed call goes on.

    Its images are divided at random: every one of its writers is in TRAIN, VALID and TEST.

    Args:
        member: which.
        folder: of the pool; the task is the folder of its name in it.
        weights: with which all its architectures are scored.
        progress: of the table, see `tabulate`.
        device: on which it is trained and scored.

    Raises:
        AdsGymError: fewer than 200 images, no space, a task of another definition in the folder.
    """
    home = resolve(folder)
    images, classes = _images(member)
    data = _data_file(member, home)
    if not exists(data):
        file = io.BytesIO()
        np.savez(file, images=images, labels=classes)
        write_file(data, file.getvalue())
    _check_data(data, images, classes)
    task = train_supernet(_settings(member, home, len(images)), home / member.name, member.name, device=device)
    return tabulate(task, progress, device, weights)


def read_member(member: Member, folder: Path | str) -> SupernetTask:
    """The task of a supernet that was made.

    Raises:
        NotFound: it was not.
        InvalidValue: it is of another definition.
    """
    home = resolve(folder)
    task = SupernetTask.find(home / member.name)
    images, classes = _images(member)
    settings = _settings(member, home, len(images))
    _check_data(_data_file(member, home), images, classes)
    if (task.config, task.data, task.record.recipe) != (settings.config, settings.data, settings.recipe):
        raise InvalidValue(f"the supernet in {task.folder} is another than the pool says: make it anew elsewhere.")
    return task


def _data_file(member: Member, home: Path) -> Path:
    return home / "images" / f"{member.name}.npz"


def _settings(member: Member, home: Path, count: int) -> SupernetSettings:
    """What a supernet is made of, and how.

    Args:
        member: which.
        home: folder of the pool.
        count: of its images.
    """
    test = max(len(member.classes), int(TEST * count))
    valid, calibration = min(int(VALID * count), MOST_VALID), min(int(CALIBRATION * count), MOST_CALIBRATION)
    data = str(_data_file(member, home))
    spec = DataSpec(data, None, valid, test, calibration, member.seed, stratify=True)
    recipe = Recipe(epochs=member.epochs, batch_size=64, learning_rate=0.1, shift=1, seed=member.seed)
    return SupernetSettings(spec, member.config, recipe)


def _check_data(data: Path, images: NDArray[Any], classes: NDArray[Any]) -> None:
    """Check that a file has the images and classes of a supernet.

    Raises:
        InvalidValue: it has others.
        NotFound, DamagedFile, StorageError: no such file, or one that cannot be read.
    """
    found = load_custom(data)
    there = found.images.numpy()[:, 0], found.labels.numpy()
    if not (np.array_equal(there[0], images) and np.array_equal(there[1], classes)):
        raise InvalidValue(f"{data} has other images than the pool says: make the pool anew elsewhere.")


def _images(member: Member) -> tuple[NDArray[Any], NDArray[Any]]:
    """A supernet's images uint8 [n, 8, 8] and classes int64 [n]."""
    parts = load_named("digits", Path()).values()
    images = np.concatenate([part.images.numpy()[:, 0] for part in parts])  # [n, 8, 8], in the order of the data set
    digits = np.concatenate([part.labels.numpy() for part in parts])
    writer = np.searchsorted(WRITERS, np.arange(len(digits)), side="right") - 1
    chosen = np.isin(writer, member.writers) & np.isin(digits, member.classes)
    if (count := int(chosen.sum())) < LEAST_IMAGES:
        raise InvalidValue(
            f"supernet {member.name!r} would see {count} images, and {LEAST_IMAGES} are the fewest: give it more "
            "writers or classes."
        )
    return images[chosen], np.searchsorted(member.classes, digits[chosen])
