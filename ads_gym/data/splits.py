"""The images of a task, one `ImageSet` for each split; never downloads unless asked.

What a data set calls its test split is TEST and nothing else; VALID is then taken from its train split. `digits` is
split by writer. Custom data are divided in three, class by class. All of it is fixed by the seed in the data spec.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ads_gym.data.custom import class_names, load_custom
from ads_gym.data.datasets import KNOWN, Parts, load_named
from ads_gym.data.images import ImageSet, network_input, resize
from ads_gym.data.paths import find_data_root
from ads_gym.data.spec import SOURCES, DataSpec, Split
from ads_gym.data.stratify import stratified
from ads_gym.errors import InvalidValue, NotFound, unknown_name
from ads_gym.files import exists, file_errors, resolve
from ads_gym.records import Name, Pixels, Seed, checked

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


@checked
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
    if spec.stratify and Split.TEST not in parts:
        left = stratified(left, pool.labels.numpy(), (spec.valid, spec.test or 0, spec.train))
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
    splits = {Split.TRAIN: train, **splits}
    if spec.stratify:
        _warn_of_missing_classes(spec, splits, data_root)
    return splits


def _warn_of_missing_classes(spec: DataSpec, splits: Mapping[Split, ImageSet], data_root: Path | str | None) -> None:
    """Names the classes that a split has no image of."""
    present = {split: set(images.labels.tolist()) for split, images in splits.items()}
    every = sorted(set().union(*present.values()))
    if all(len(classes) == len(every) for classes in present.values()):
        return
    names = class_names(_find_custom(spec, data_root), len(every))
    told = [
        f"{split.upper()} has no image of {_listed([names[number] for number in every if number not in classes])}"
        for split, classes in present.items()
        if len(classes) < len(every)
    ]
    warnings.warn(
        f"{spec.source}: {'; '.join(told)}. A class needs three images, and a split as many as there are classes.",
        stacklevel=3,
    )


def _listed(names: Sequence[str], most: int = 5) -> str:
    """ "a, b, c", and how many more."""
    return ", ".join(names[:most]) + f" and {len(names) - most} more classes" * (len(names) > most)


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


@checked
def kept_splits(spec: DataSpec, data_root: Path | str | None = None) -> Mapping[Split, ImageSet]:
    """`load_splits`, read once in a process: many environments share one copy. Leave the tensors as they are."""
    if spec.path is None:
        return _kept(spec, find_data_root(data_root), ())
    root = None if data_root is None else find_data_root(data_root)
    return _kept(spec, root, _stamp(_find_custom(spec, data_root)))


@checked
def calibration_images(spec: DataSpec, train: ImageSet) -> ImageSet:
    """The images of TRAIN on which BatchNorm statistics are estimated: the first of a seeded permutation."""
    return train.take(_permutation(spec.seed, 4, len(train))[: spec.calibration].tolist())


@checked
def describe(spec: DataSpec, data_root: Path | str | None = None) -> tuple[tuple[int, int, int], int]:
    """((channels, height, width) in pixels, number of classes); custom data are read for it.

    Raises:
        NotFound, DamagedFile, InvalidValue: as `load_splits`, for custom data.
    """
    if spec.path is None:
        known = KNOWN[spec.source]
        channels, height, width = known.image_shape
        return (channels, spec.size or height, spec.size or width), known.classes
    data = _read(spec, data_root, False)[Split.TRAIN]
    return data.image_shape, int(data.labels.max()) + 1


@checked
def default_spec(
    source: Name, size: Pixels | None = None, seed: Seed = 0, data_root: Path | str | None = None
) -> DataSpec:
    """The preset splits of a source. Custom data are read for it, and divided 60 : 20 : 20, class by class.

    Args:
        source: a name, or the path of custom data, which the spec stores in full.
        size: pixels, or None: see `DataSpec`.
        seed: of the division.
        data_root: as for `load_splits`.

    Raises:
        NotFound, DamagedFile, InvalidValue, UnknownName: as `load_splits`, for custom data.
    """
    spec = DataSpec(source, train=None, valid=1, test=1, calibration=2, seed=seed, size=size)
    if spec.path is None:
        return replace(spec, valid=KNOWN[source].valid, test=None, calibration=500)
    n = len(_read(spec, data_root, False)[Split.TRAIN])
    fifth = max(1, n // 5)
    calibration = max(2, min(500, n - 2 * fifth))
    source = str(_find_custom(spec, data_root))
    return replace(spec, source=source, valid=fifth, test=fifth, calibration=calibration, stratify=True)


def _permutation(seed: int, stream: int, n: int) -> NDArray[np.int64]:
    """int64[n]. By the old generator, whose numbers numpy promises never to change (NEP 19)."""
    return np.random.RandomState([seed, stream]).permutation(n).astype(np.int64)


def _read(spec: DataSpec, data_root: Path | str | None, download: bool) -> Parts:
    """What the source has, resized, not yet divided."""
    with file_errors(f"the data {spec.source}"):
        if spec.path is not None:
            path = _find_custom(spec, data_root)
            return {Split.TRAIN: _custom(path, spec.size, _stamp(path))}
        parts = load_named(spec.source, find_data_root(data_root), download)
    if spec.size is None:
        return parts
    return {split: ImageSet(resize(part.images, spec.size), part.labels) for split, part in parts.items()}


def _find_custom(spec: DataSpec, data_root: Path | str | None) -> Path:
    """Custom data: at their path, or by their name under `data_root`, where they were moved."""
    path = resolve(spec.source)
    places = [path]
    if data_root is not None:
        places.append(find_data_root(data_root) / path.name)
    for place in places:
        if exists(place):
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
    with file_errors(path):
        entries = sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple((entry.name, entry.stat().st_mtime_ns) for entry in entries)


@lru_cache(maxsize=1)
def _custom(path: Path, size: int | None, _stamp: Stamp) -> ImageSet:
    """Kept, because one command asks for the shape, the spec and the splits, and decoding images takes long."""
    return load_custom(path, size)


@lru_cache(maxsize=4)
def _kept(spec: DataSpec, data_root: Path | None, _stamp: Stamp) -> Mapping[Split, ImageSet]:
    return MappingProxyType(dict(load_splits(spec, data_root)))
