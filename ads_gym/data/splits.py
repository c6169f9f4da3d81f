"""Data as image sets, one for each split; never downloads unless asked.

What a data set calls its test split is TEST and nothing else; VALID is then taken from its train split. `digits` is
split by writer. A user's own data are divided in three. All of it is fixed by the seed in the data spec.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ads_gym.data.custom import load_own
from ads_gym.data.datasets import KNOWN, Parts, load_named
from ads_gym.data.images import ImageSet, network_input, resize
from ads_gym.data.paths import find_data_root
from ads_gym.data.spec import SOURCES, DataSpec, Split
from ads_gym.errors import AdsGymError, InvalidValue, NotFound, StorageError, unknown_name

__all__ = [
    "DataSpec",
    "ImageSet",
    "Split",
    "calibration_images",
    "default_spec",
    "describe",
    "kept_splits",
    "load_splits",
    "network_input",
]


def load_splits(
    spec: DataSpec, data_root: Path | str | None = None, download: bool = False
) -> Mapping[Split, ImageSet]:
    """TRAIN, VALID and TEST; no image is in two of them.

    Args:
        spec: which data, and how they are divided.
        data_root: where data sets lie; None = `$ADS_GYM_DATA`, or a folder of this program.
        download: whether a named data set that is missing may be fetched.

    Raises:
        NotFound: no such data; the message says where it was looked for, and how to get it.
        DamagedFile: data that cannot be read, or are not those that were published.
        InvalidValue: data that cannot be used, or fewer images than the spec asks for.
        StorageError: data that may not be read.
    """
    parts = _read(spec, data_root, download)
    if Split.TEST not in parts and spec.test is None:
        raise InvalidValue(f"{spec.source} has no test split of its own: say how many images TEST should have.")
    pool = parts[Split.TRAIN]
    left = _permutation(spec.seed, 0, len(pool))
    splits = {}
    for stream, split in enumerate((Split.VALID, Split.TEST), start=1):
        count = spec.valid if split is Split.VALID else spec.test
        if split in parts:
            splits[split] = _choose(
                parts[split], _permutation(spec.seed, stream, len(parts[split])), count, spec, split
            )
        else:
            splits[split] = _choose(pool, left, count, spec, split)
            left = left[count:]
    train = _choose(pool, left, spec.train, spec, Split.TRAIN)
    if spec.calibration > len(train):
        raise InvalidValue(f"the spec asks for {spec.calibration} calibration images, and TRAIN has {len(train)}.")
    return {Split.TRAIN: train, **splits}


def _choose(pool: ImageSet, candidates: NDArray[np.int64], count: int | None, spec: DataSpec, split: Split) -> ImageSet:
    """The first `count` candidates (None: all), in the order of the source."""
    if count is None:
        count = max(1, len(candidates))
    if count > len(candidates):
        raise InvalidValue(
            f"the spec asks for {count} {split.upper()} images of {spec.source}, and {len(candidates)} "
            "are left for it. Ask for fewer images in a split."
        )
    return pool.take(np.sort(candidates[:count]).tolist())


def kept_splits(spec: DataSpec, data_root: Path | str | None = None) -> Mapping[Split, ImageSet]:
    """`load_splits`, read once in a process: many environments share one copy. Leave the tensors as they are."""
    if spec.path is None:
        return _kept(spec, find_data_root(data_root), ())
    root = None if data_root is None else find_data_root(data_root)
    return _kept(spec, root, _stamp(_find_own(spec, data_root)))


def calibration_images(spec: DataSpec, train: ImageSet) -> ImageSet:
    """The images of TRAIN on which BatchNorm statistics are estimated: the first of a seeded permutation."""
    return train.take(_permutation(spec.seed, 4, len(train))[: spec.calibration].tolist())


def describe(spec: DataSpec, data_root: Path | str | None = None) -> tuple[tuple[int, int, int], int]:
    """((channels, height, width) in pixels, number of classes); a user's own data are read for it.

    Raises:
        NotFound, DamagedFile, InvalidValue: as `load_splits`, for a user's own data.
    """
    if spec.path is None:
        known = KNOWN[spec.source]
        channels, height, width = known.image_shape
        return (channels, spec.size or height, spec.size or width), known.classes
    data = _read(spec, data_root, False)[Split.TRAIN]
    return data.image_shape, int(data.labels.max()) + 1


def default_spec(source: str, size: int | None = None, seed: int = 0, data_root: Path | str | None = None) -> DataSpec:
    """The usual splits of a source. A user's own data are read for it, and divided 60 : 20 : 20.

    Args:
        source: a name, or the path of a user's own data, which the spec stores in full.
        size: pixels, or None: see `DataSpec`.
        seed: of the division.
        data_root: as for `load_splits`.

    Raises:
        NotFound, DamagedFile, InvalidValue, UnknownName: as `load_splits`, for a user's own data.
    """
    spec = DataSpec(source, train=None, valid=1, test=1, calibration=2, seed=seed, size=size)
    if spec.path is None:
        return replace(spec, valid=KNOWN[source].valid, test=None, calibration=500)
    n = len(_read(spec, data_root, False)[Split.TRAIN])
    fifth = max(1, n // 5)
    source = str(_find_own(spec, data_root).absolute())
    return replace(spec, source=source, valid=fifth, test=fifth, calibration=max(2, min(500, n - 2 * fifth)))


def _permutation(seed: int, stream: int, n: int) -> NDArray[np.int64]:
    """int64[n]. By the old generator, whose numbers numpy promises never to change (NEP 19)."""
    return np.random.RandomState([seed, stream]).permutation(n).astype(np.int64)


def _read(spec: DataSpec, data_root: Path | str | None, download: bool) -> Parts:
    """What the source has, resized, not yet divided."""
    try:
        if spec.path is not None:
            path = _find_own(spec, data_root)
            return {Split.TRAIN: _own(path, spec.size, _stamp(path))}
        parts = load_named(spec.source, find_data_root(data_root), download)
    except AdsGymError:
        raise
    except OSError as error:
        raise StorageError(f"the data {spec.source} cannot be read: {error}") from error
    if spec.size is None:
        return parts
    return {split: ImageSet(resize(part.images, spec.size), part.labels) for split, part in parts.items()}


def _find_own(spec: DataSpec, data_root: Path | str | None) -> Path:
    """A user's own data: at their path, or by their name under `data_root`, where they were moved."""
    path = Path(spec.source).expanduser()
    places = [path.absolute()]
    if data_root is not None:
        places.append(find_data_root(data_root) / path.name)
    for place in places:
        if place.exists():
            return place
    if os.sep not in spec.source and "/" not in spec.source and not path.suffix:
        raise unknown_name("data set (and there is no such path)", spec.source, SOURCES)
    raise NotFound(
        f"there are no data at {' or '.join(map(str, places))}: expected an .npz file or a folder of class folders. "
        "If they were moved, say to which folder by data_root (--data-root)."
    )


Stamp = tuple[tuple[str, int], ...]


def _stamp(path: Path) -> Stamp:
    """Changes with the data: names and times of the file, or of the class folders."""
    entries = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((entry.name, entry.stat().st_mtime_ns) for entry in entries)


@lru_cache(maxsize=1)
def _own(path: Path, size: int | None, _stamp: Stamp) -> ImageSet:
    """Kept, because one command asks for the shape, the spec and the splits, and decoding images takes long."""
    return load_own(path, size)


@lru_cache(maxsize=4)
def _kept(spec: DataSpec, data_root: Path | None, _stamp: Stamp) -> Mapping[Split, ImageSet]:
    return MappingProxyType(dict(load_splits(spec, data_root)))
