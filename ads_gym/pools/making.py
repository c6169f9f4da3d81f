"""Make the supernets of a pool: draw up their images, train them, score all their architectures."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

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
    data = home / "images" / f"{member.name}.npz"
    content, count = _images(member)
    if not exists(data):
        write_file(data, content)
    test = max(len(member.classes), int(TEST * count))
    valid, calibration = min(int(VALID * count), MOST_VALID), min(int(CALIBRATION * count), MOST_CALIBRATION)
    spec = DataSpec(str(data), None, valid, test, calibration, member.seed, stratify=True)
    recipe = Recipe(epochs=member.epochs, batch_size=64, learning_rate=0.1, shift=1, seed=member.seed)
    settings = SupernetSettings(spec, member.config, recipe)
    task = train_supernet(settings, home / member.name, member.name, device=device)
    return tabulate(task, progress, device, weights)


def read_member(member: Member, folder: Path | str) -> SupernetTask:
    """The task of a supernet that was made.

    Raises:
        NotFound: it was not.
        InvalidValue: it is of another definition.
    """
    task = SupernetTask.find(resolve(folder) / member.name)
    if task.config != member.config:
        raise InvalidValue(f"the supernet in {task.folder} is another than the pool says: make it anew elsewhere.")
    return task


def _images(member: Member) -> tuple[bytes, int]:
    """An .npz file of a supernet's images and classes, and how many they are."""
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
    file = io.BytesIO()
    np.savez(file, images=images[chosen], labels=np.searchsorted(member.classes, digits[chosen]))
    return file.getvalue(), count
