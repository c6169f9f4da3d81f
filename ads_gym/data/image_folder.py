"""A folder with a folder of image files for each class, read by Pillow as RGB.

Hidden files and folders are skipped. What is not read as it stands on the disk is said: one warning for each kind,
which has the number of files and names the first.
"""

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ads_gym.data.images import resize
from ads_gym.errors import DamagedFile, InvalidValue, NotFound, StorageError
from ads_gym.files import file_errors, is_folder, opened
from ads_gym.imports import import_package
from ads_gym.limits import MAX_DATA_MEMORY, MAX_IMAGE_BYTES, MAX_PIXELS, check_memory

SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}
# What images are read as, whatever their names say. Of what else Pillow knows, much is read by other programs (EPS by
# Ghostscript), or hardly ever. (A JPEG may turn out to be an MPO, several JPEGs in one file.)
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_SYSTEM_NAMES = {"thumbs.db", "desktop.ini", "__macosx", "__pycache__"}
_WITH_ALPHA = {"RGBA", "RGBa", "LA", "La", "PA"}

Warnings = dict[str, list[Path]]  # what is said of files, and of which


def class_folders(path: Path) -> list[Path]:
    """The folders of the classes, sorted by name.

    Raises:
        InvalidValue: fewer than two, or folders of splits.
    """
    with file_errors(path):
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not _is_hidden(entry.name))
        names = [folder.name for folder in folders]
        splits = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
        are_splits = len(splits) > 1 or any(map(_holds_folders, splits))
    if len(folders) < 2:
        raise InvalidValue(
            f"{path} has {len(folders)} folders in it ({', '.join(names) or 'none'}): expected one for each class, "
            "with its images inside, and at least two."
        )
    if are_splits:
        raise InvalidValue(
            f"the folders in {path} are {', '.join(names)}: {' and '.join(folder.name for folder in splits)} would be "
            f"splits, which are no classes. Give one of them, such as {splits[0]}: it is divided into train, valid and "
            "test here."
        )
    return folders


class FolderFiles(NamedTuple):
    """The image files in a folder."""

    files: list[Path]  # class by class, sorted
    labels: list[int]  # the class of each; none where the folder has no classes
    classes: tuple[str, ...]  # names, sorted


def read_image_folder(path: Path, size: int | None) -> tuple[Tensor, Any]:
    """Images uint8 [n, 3, h, w] and labels int64 [n], class by class, in the order of the sorted paths.

    Raises:
        DamagedFile: a file that cannot be read as the image that its name says it is.
        InvalidValue: no images in a class, images of different sizes, or of more than 8 bits a channel.
        StorageError: a file or folder that may not be read.
    """
    found: Warnings = {}
    listed = _class_files(path, found)
    images = torch.cat(list(_same_size(listed.files, size, found)))
    _warn(path, found)
    return images, np.array(listed.labels)


def image_files(path: Path) -> FolderFiles:
    """The image files of a folder of class folders; or of a folder of images, which has no classes.

    Raises:
        NotFound, StorageError: no such folder, or one that may not be read.
        InvalidValue: no images, fewer than two classes, or folders of splits.
    """
    if not is_folder(path):
        raise NotFound(f"there is no folder of images {path}.")
    found: Warnings = {}
    with file_errors(path):
        has_folders = any(entry.is_dir() and not _is_hidden(entry.name) for entry in path.iterdir())
    listed = _class_files(path, found) if has_folders else FolderFiles(list(_image_files(path, found)), [], ())
    if not listed.files:
        raise InvalidValue(f"{path} has no images in it, and no folders of images.")
    _warn(path, found)
    return listed


def read_image_files(path: Path, files: Iterable[Path]) -> Iterator[Tensor]:
    """Images uint8 [1, 3, h, w], each of its own size; errors as `read_image_folder`.

    Args:
        path: of the folder, for warnings.
        files: in it.
    """
    found: Warnings = {}
    for file in files:
        yield _read_image(file, found)
    _warn(path, found)


def _class_files(path: Path, found: Warnings) -> FolderFiles:
    folders = class_folders(path)
    files = [list(_image_files(folder, found)) for folder in folders]
    if empty := [folder.name for folder, inside in zip(folders, files, strict=True) if not inside]:
        raise InvalidValue(f"{path} has no images for the classes {', '.join(empty)}: remove or fill these folders.")
    labels = [label for label, inside in enumerate(files) for _ in inside]
    names = tuple(folder.name for folder in folders)
    return FolderFiles([file for inside in files for file in inside], labels, names)


def _warn(path: Path, found: Warnings) -> None:
    for told, which in found.items():
        warnings.warn(f"{path}: {len(which)} {told}. The first is {which[0]}.", stacklevel=3)


def _is_hidden(name: str) -> bool:
    """Whether a program put a file or folder there for itself: .ipynb_checkpoints, .DS_Store, Thumbs.db."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _holds_folders(folder: Path) -> bool:
    """Whether a folder has folders in it and no files, as a split has."""
    entries = [entry for entry in folder.iterdir() if not _is_hidden(entry.name)]
    return bool(entries) and all(entry.is_dir() for entry in entries)


def _image_files(folder: Path, found: Warnings) -> Iterator[Path]:
    """All files in a folder and below it that Pillow can read, sorted as torchvision's `ImageFolder` does."""
    image = import_package("PIL.Image", "pillow")
    image.init()
    known = {ending for ending, kind in image.registered_extensions().items() if kind in (*FORMATS, "MPO")}
    listed = []
    seen = {folder.resolve()}
    with file_errors(folder):
        for root, below, names in os.walk(folder, followlinks=True, onerror=_raise):
            below[:] = [name for name in below if not _is_hidden(name) and _is_new(Path(root, name), seen)]
            listed.append((root, sorted(names)))
    for root, names in sorted(listed):
        for file in (Path(root, name) for name in names if not _is_hidden(name)):
            if file.suffix.lower() in known:
                yield file
            else:
                found.setdefault("files are left out, since they are no images that Pillow reads", []).append(file)


def _is_new(folder: Path, seen: set[Path]) -> bool:
    """Whether a folder was not walked yet: links may lead back."""
    real = folder.resolve()
    is_new = real not in seen
    seen.add(real)
    return is_new


def _raise(error: OSError) -> None:
    raise error


def _same_size(files: list[Path], size: int | None, found: Warnings) -> Iterator[Tensor]:
    """Images [1, 3, h, w], all of one size."""
    first: Tensor | None = None
    for file in files:
        image = _read_image(file, found)
        resized = image if size is None else resize(image, size)
        first = resized if first is None else first
        if resized.shape != first.shape:
            ours, theirs = (f"{tensor.shape[3]}x{tensor.shape[2]}" for tensor in (resized, first))
            raise InvalidValue(
                f"images differ in size: {file} has {ours} pixels, {files[0]} has {theirs}. "
                "Give a size (--size) to which all are resized."
            )
        if resized is first:
            check_memory(f"{len(files)} images of {list(first.shape[1:])}", len(files) * first.numel(), MAX_DATA_MEMORY)
        yield resized


def _read_image(file: Path, found: Warnings) -> Tensor:
    """uint8 [1, 3, h, w], upright; adds to `found` what is lost."""
    from PIL import Image

    says, formats = [], [name for name in FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with opened(file, "image", MAX_IMAGE_BYTES) as stream, Image.open(stream, formats=formats) as image:
                if max(image.size) > MAX_PIXELS:
                    raise InvalidValue(f"it has {image.size} pixels, and a side has at most {MAX_PIXELS:,}.")
                mode, upright = image.mode, _turn(image)
                rgb = upright.convert("RGB")
                if _is_transparent(upright):
                    says.append("images have transparent pixels, which are read in the colour that they have beneath")
                if getattr(image, "is_animated", False) and image.format != "MPO":  # a photo with its preview
                    says.append("images have several frames, of which the first is read")
    except (NotFound, StorageError):
        raise
    except Exception as error:  # Pillow's plug-ins raise OSError, SyntaxError, struct.error, ... on bad bytes
        raise DamagedFile(f"{file} cannot be read as an image: {error}") from error
    if mode[0] in "IF":  # 32-bit, 16-bit and float pixels: Pillow clips them to 255
        raise InvalidValue(f"the image {file} has pixels of kind {mode}: they should have 8 bits a channel.")
    says += [f'images are read with "{one.message}"' for one in caught if "Transparency" not in str(one.message)]
    for told in dict.fromkeys(says):
        found.setdefault(told, []).append(file)
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).unsqueeze(0).contiguous()


def _turn(image: Any) -> Any:
    """The image turned as its EXIF data say, if they can be read."""
    from PIL import ImageOps

    try:
        image.getexif()
    except Exception:  # a damaged header beside good pixels
        return image
    return ImageOps.exif_transpose(image)


def _is_transparent(image: Any) -> bool:
    if image.mode not in _WITH_ALPHA and "transparency" not in image.info:
        return False
    return bool(image.convert("RGBA").getextrema()[3][0] < 255)
