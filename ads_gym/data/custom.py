"""Custom data: the images of a user, in an .npz file or in a folder with a folder of image files for each class."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ads_gym.data.image_folder import class_folders, read_image_folder
from ads_gym.data.images import ImageSet, resize
from ads_gym.errors import DamagedFile, InvalidValue, NotFound, StorageError
from ads_gym.files import file_errors, is_file, is_folder

NPZ_FORM = "an .npz with 'images' (uint8 [n, h, w] or [n, h, w, c]) and 'labels' (int [n], classes from 0)"


def load_custom(path: Path, size: int | None = None) -> ImageSet:
    """All images of an .npz file or of a folder of class folders, in the order of the file, or of the sorted paths.

    Args:
        path: of the file or folder. In a folder, all images that Pillow can read are, as RGB; see `image_folder`.
        size: pixels; images are resized to size x size. None: as they are, and all of one size.

    Raises:
        NotFound: nothing there.
        DamagedFile: a file that cannot be read as what it should be.
        InvalidValue: images or labels that no network can be trained on.
        StorageError: a file or folder that may not be read.
    """
    if is_folder(path):
        images, labels = read_image_folder(path, size)
    elif is_file(path):
        images, labels = _read_npz(path)
    else:
        raise NotFound(f"there is no data at {path.absolute()}: expected {NPZ_FORM}, or a folder of class folders.")
    _check_labels(labels, len(images), path)
    tensor = images if size is None else resize(images, size)
    return ImageSet(tensor, torch.from_numpy(labels.astype(np.int64)))


def _read_npz(path: Path) -> tuple[Tensor, Any]:
    """Images [n, c, h, w] and the labels as they are stored; never a pickle."""
    try:
        with file_errors(path), path.open("rb") as opened:  # given a path, numpy leaves a damaged file open
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array")
            missing = [name for name in ("images", "labels") if name not in file.files]
            if missing:
                raise ValueError(f"it has no {' and no '.join(map(repr, missing))}, only {file.files}")
            images, labels = file["images"], file["labels"]
            if not (isinstance(images, np.ndarray) and isinstance(labels, np.ndarray)):
                raise ValueError("what it holds are no arrays")  # numpy gives bytes then
    except StorageError:
        raise
    except (
        EOFError,
        MemoryError,  # a damaged header may claim any size
        NotImplementedError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DamagedFile(f"{path} should be {NPZ_FORM}, without pickled objects: {error}") from error
    return _channels_first(images, path), labels


def _channels_first(images: Any, path: Path) -> Tensor:
    """uint8 [n, h, w] or [n, h, w, c] as [n, c, h, w]."""
    if images.dtype != np.uint8:
        raise InvalidValue(f"the images in {path} are {images.dtype}{_conversion(images)}")
    if images.ndim not in (3, 4) or not images.size:
        raise InvalidValue(f"the images in {path} should be [n, h, w] or [n, h, w, c], got shape {images.shape}.")
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1] <= 4 < images.shape[3]:
        raise InvalidValue(
            f"the images in {path} have shape {images.shape}: the channels seem to come first, and should come last. "
            "Store images.transpose(0, 2, 3, 1)."
        )
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _conversion(images: Any) -> str:
    """What a message says of images that are not uint8: their range, and the line that converts just these."""
    expected = ": they should be uint8, 0 to 255."
    if not (np.issubdtype(images.dtype, np.number) or images.dtype == bool) or np.iscomplexobj(images):
        return expected
    if not images.size:
        return expected
    low, high = images.min(), images.max()
    if np.isnan(low):
        return f", with NaN among them{expected}"
    told = f" from {low} to {high}{expected} Convert them with "
    if low < 0 or high > 255:
        span = f"(images.astype(float) - {low}) / {float(high) - float(low)}" if np.isfinite([low, high]).all() else ""
        return f"{told}(255 * {span}).round().astype('uint8')." if span else f" from {low} to {high}{expected}"
    if high <= 1:
        return f"{told}(255.0 * images).round().astype('uint8')."
    return f"{told}images.round().astype('uint8')."


def class_names(path: Path, classes: int) -> list[str]:
    """The name of each class, for messages: that of its folder, or its number."""
    if is_folder(path):
        return [folder.name for folder in class_folders(path)]
    return [str(number) for number in range(classes)]


def _check_labels(labels: Any, n: int, path: Path) -> None:
    """Whether they are int [n] and name every class from 0 to their largest."""
    if labels.shape != (n,):
        raise InvalidValue(f"the labels in {path} have shape {labels.shape}, and should have ({n},): one per image.")
    if not np.issubdtype(labels.dtype, np.integer):
        nan = np.issubdtype(labels.dtype, np.floating) and bool(np.isnan(labels).any())
        raise InvalidValue(
            f"the labels in {path} are {labels.dtype}{', with NaN among them' if nan else ''}: they should be "
            "integers, classes counted from 0."
        )
    found = np.unique(labels)
    low, high = int(found[0]), int(found[-1])
    if low < 0 or len(found) != high + 1:
        raise InvalidValue(
            f"the labels in {path} are {len(found)} different numbers from {low} to {high}: they should be 0 to k-1 "
            "for k classes, each of them used. np.unique(labels, return_inverse=True)[1] renumbers them."
        )
    if len(found) < 2:
        raise InvalidValue(f"all images in {path} are of one class: a classifier needs at least two.")
