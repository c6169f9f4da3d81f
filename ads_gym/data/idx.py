"""The idx files of the MNIST family (LeCun et al., 1998), gzipped or not: big-endian sizes, then bytes. numpy only."""

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ads_gym.errors import DamagedFile
from ads_gym.files import opened
from ads_gym.limits import MAX_IMAGE_BYTES

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def find_files(folder: Path) -> list[Path] | None:
    """The four files in `folder`, each .gz or not, in the order of `FILES`; None if one is missing."""
    found = [next((f for f in (folder / name, folder / f"{name}.gz") if f.is_file()), None) for name in FILES]
    return None if None in found else cast(list[Path], found)


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The uint8 array of a file with so many dimensions.

    Raises:
        DamagedFile: not such a file, or too short, or too long.
    """
    try:
        with opened(path, "idx file", MAX_IMAGE_BYTES) as file:
            return _parse(cast(BinaryIO, gzip.GzipFile(fileobj=file)) if path.suffix == ".gz" else file, dimensions)
    except DamagedFile:
        raise
    except (EOFError, ValueError, gzip.BadGzipFile, zlib.error) as error:
        raise DamagedFile(f"{path} is damaged, or no idx file of {dimensions} dimensions: {error}") from error


def _parse(file: BinaryIO, dimensions: int) -> NDArray[np.uint8]:
    head = file.read(4 + 4 * dimensions)
    if head[:4] != bytes((0, 0, 8, dimensions)) or len(head) < 4 + 4 * dimensions:  # 8 means unsigned bytes
        raise ValueError(f"it begins with {head[:4].hex()}, not 000008{dimensions:02x}")
    shape = [int(size) for size in np.frombuffer(head, ">u4", offset=4)]
    size = math.prod(shape)
    if size > MAX_IMAGE_BYTES:
        raise ValueError(f"it claims the shape {shape}")
    body = file.read(size + 1)
    if len(body) != size:
        raise ValueError(
            f"it should hold {size} bytes for the shape {shape}, and holds {'more' if body[size:] else len(body)}"
        )
    return np.frombuffer(body, np.uint8).reshape(shape)
