"""A user's own images: an .npz file, or a folder with one folder of image files for each class."""

import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ads_gym.data.images import ImageSet, resize
from ads_gym.errors import DamagedFile, InvalidValue, NotFound
from ads_gym.imports import import_package

NPZ_FORM = "an .npz with 'images' (uint8 [n, h, w] or [n, h, w, c]) and 'labels' (int [n], classes from 0)"
_SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}


def load_own(path: Path, size: int | None = None) -> ImageSet:
    """All images of an .npz file or of a folder of class folders, in the order of the file, or of the sorted paths.

    Args:
        path: of the file or folder. In a folder, all that torchvision's `ImageFolder` takes is read, as RGB.
        size: pixels; images are resized to size x size. None: as they are, and all of one size.

    Raises:
        NotFound: nothing there.
        DamagedFile: a file that cannot be read as what it should be.
        InvalidValue: images or labels that no network can be trained on.
    """
    if path.is_dir():
        images, labels = _read_folder(path, size)
    elif path.is_file():
        images, labels = _read_npz(path)
    else:
        raise NotFound(f"there is no data at {path.absolute()}: expected {NPZ_FORM}, or a folder of class folders.")
    _check_labels(labels, len(images), path)
    tensor = images if size is None else resize(images, size)
    return ImageSet(tensor, torch.from_numpy(labels.astype(np.int64)))


def _read_npz(path: Path) -> tuple[Tensor, Any]:
    """Images [n, c, h, w] and the labels as they are stored; never a pickle."""
    try:
        with path.open("rb") as opened:  # given a path, numpy leaves a damaged file open
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array")
            missing = [name for name in ("images", "labels") if name not in file.files]
            if missing:
                raise ValueError(f"it has no {' and no '.join(map(repr, missing))}, only {file.files}")
            images, labels = file["images"], file["labels"]
            if not (isinstance(images, np.ndarray) and isinstance(labels, np.ndarray)):
                raise ValueError("what it holds are no arrays")  # numpy gives bytes then
    except PermissionError:
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
        nan = np.issubdtype(images.dtype, np.floating) and bool(np.isnan(images).any())
        raise InvalidValue(
            f"the images in {path} are {images.dtype}{', with NaN among them' if nan else ''}: they should be uint8, "
            "0 to 255. Scale them and convert them, (255 * images).round().astype('uint8') for values in [0, 1]."
        )
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


def _read_folder(path: Path, size: int | None) -> tuple[Tensor, Any]:
    """Images [n, c, h, w] and labels of torchvision's `ImageFolder`."""
    folders = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    if len(folders) < 2:
        raise InvalidValue(
            f"{path} has {len(folders)} folders in it ({', '.join(folders) or 'none'}): expected one for each class, "
            "with its images inside, and at least two."
        )
    if {name.lower() for name in folders} <= _SPLIT_NAMES:
        raise InvalidValue(
            f"the folders in {path} are {', '.join(folders)}, which are no classes. Name one of them: "
            "it is divided into train, valid and test here."
        )
    torchvision = import_package("torchvision.datasets", "--upgrade torch torchvision (both from one index)")
    try:
        folder = torchvision.ImageFolder(str(path), loader=_read_image)
    except FileNotFoundError as error:  # torchvision's text names the empty class folders and the extensions
        raise InvalidValue(f"{path}: {error}") from error
    images = torch.cat(list(_same_size(folder, size)))
    return images, np.array(folder.targets, dtype=np.int64)


def _same_size(folder: Any, size: int | None) -> Iterator[Tensor]:
    """Images [1, 3, h, w], all of one size."""
    first: Tensor | None = None
    for (path, _), (image, _) in zip(folder.samples, folder, strict=True):
        resized = image if size is None else resize(image, size)
        first = resized if first is None else first
        if resized.shape != first.shape:
            ours, theirs = (f"{tensor.shape[3]}x{tensor.shape[2]}" for tensor in (resized, first))
            raise InvalidValue(
                f"images differ in size: {path} has {ours} pixels, {folder.samples[0][0]} has {theirs}. "
                "Give a size (--size) to which all are resized."
            )
        yield resized


def _read_image(path: str) -> Tensor:
    """uint8 [1, 3, h, w], as torchvision reads it; with an error that names the file."""
    from PIL import Image  # torchvision needs it, so it is there

    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            mode, rgb = image.mode, image.convert("RGB")
    except PermissionError:
        raise
    except Exception as error:  # Pillow's plug-ins raise OSError, SyntaxError, struct.error, ... on bad bytes
        raise DamagedFile(f"{path} cannot be read as an image: {error}") from error
    if mode[0] in "IF":  # 32-bit, 16-bit and float pixels: Pillow clips them to 255
        raise InvalidValue(f"the image {path} has pixels of kind {mode}: they should have 8 bits a channel.")
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).unsqueeze(0).contiguous()
