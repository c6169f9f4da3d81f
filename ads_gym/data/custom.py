"""Custom data: the images of a user, in an .npz file or in a folder with a folder of image files for each class."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ads_gym.data.image_folder import class_folders, read_image_folder
from ads_gym.data.images import ImageSet, resize
from ads_gym.errors import AdsGymError, DamagedFile, InvalidValue, NotFound, shown
from ads_gym.files import exists, is_folder, opened, resolve
from ads_gym.limits import MAX_CLASSES, MAX_DATA_MEMORY, MAX_PIXELS, MAX_TENSORS_BYTES, check_memory
from ads_gym.records import Pixels, checked

NPZ_FORM = "an .npz with 'images' (uint8 [n, h, w] or [n, h, w, c]) and 'labels' (int [n], classes from 0)"


@checked
def load_custom(path: str | Path, size: Pixels | None = None) -> ImageSet:
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
    path = resolve(path)
    if is_folder(path):
        images, labels = read_image_folder(path, size)
    elif exists(path):
        images, labels = _read_npz(path)
    else:
        raise NotFound(f"there is no data at {path}: expected {NPZ_FORM}, or a folder of class folders.")
    _check_labels(labels, len(images), path)
    if size is not None:
        n, channels = images.shape[:2]
        check_memory(f"the images in {path}, resized to {size}x{size},", n * channels * size * size, MAX_DATA_MEMORY)
    tensor = images if size is None else resize(images, size)
    return ImageSet(tensor, torch.from_numpy(labels.astype(np.int64)))


def _read_npz(path: Path) -> tuple[Tensor, Any]:
    """Images [n, c, h, w] and the labels as they are stored; never a pickle."""
    with opened(path, "data file", MAX_TENSORS_BYTES) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                images, labels = (_read_array(archive, name, path) for name in ("images", "labels"))
        except AdsGymError:
            raise
        except MemoryError as error:
            raise DamagedFile(f"there is no memory for what {path} says that it holds.") from error
        except Exception as error:  # zipfile and numpy raise BadZipFile, zlib.error, TokenError, ... on bad bytes
            raise DamagedFile(f"{path} should be {NPZ_FORM}, without pickled objects: {error!s:.200}") from error
    return _channels_first(images, path), labels


def _read_array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    """An array of an .npz, once its header and its size have been found to be what they should.

    numpy alone would allocate what a header claims, and unpack by methods that numpy never writes.
    """
    names = [each.removesuffix(".npy") for each in archive.namelist()]
    if name not in names:
        raise ValueError(f"it has no {name!r}, only {shown(names)}")
    entry = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} is compressed by a method that numpy does not write")
    check_memory(f"the array {name!r} in {path}", entry.file_size, MAX_DATA_MEMORY)
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = read[version](file)
        if dtype.hasobject:
            raise ValueError(f"{name!r} holds pickled objects")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size != entry.file_size - file.tell():
            raise ValueError(f"{name!r} claims the shape {shown(shape)} of {shown(dtype)}, and is of another size")
        values = np.frombuffer(bytearray(file.read(size)), dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")


def _channels_first(images: Any, path: Path) -> Tensor:
    """uint8 [n, h, w] or [n, h, w, c] as [n, c, h, w]."""
    if images.dtype != np.uint8:
        raise InvalidValue(f"the images in {path} are {images.dtype}{_conversion(images)}")
    if images.ndim not in (3, 4) or not images.size:
        raise InvalidValue(f"the images in {path} should be [n, h, w] or [n, h, w, c], got shape {images.shape}.")
    if images.ndim == 3:
        images = images[..., None]
    if max(images.shape[1:3]) > MAX_PIXELS:
        raise InvalidValue(f"the images in {path} have shape {images.shape}: a side has at most {MAX_PIXELS:,} pixels.")
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
    if len(found) > MAX_CLASSES:
        raise InvalidValue(f"the labels in {path} are {len(found):,} classes, and there are at most {MAX_CLASSES:,}.")
    if len(found) < 2:
        raise InvalidValue(f"all images in {path} are of one class: a classifier needs at least two.")
