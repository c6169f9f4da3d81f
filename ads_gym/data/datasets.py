"""Built-in data sets: digits from scikit-learn; Fashion-MNIST, CIFAR-10, CIFAR-100, SVHN in torchvision's layout.

torchvision checks the md5 of CIFAR's and SVHN's files before it reads them, and so do we, which tells a missing file
from a damaged one: a hostile pickle in their place is refused unread.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

import numpy as np
import torch

from ads_gym.data import idx
from ads_gym.data.images import ImageSet
from ads_gym.data.spec import Split
from ads_gym.errors import DamagedFile, NotFound, StorageError
from ads_gym.imports import import_package

Parts = dict[Split, ImageSet]  # a TRAIN that is still to be divided, and whatever splits the source itself has


class Known(NamedTuple):
    """What is known of a named data set before it is read."""

    image_shape: tuple[int, int, int]  # channels, height, width
    classes: int
    valid: int  # images in VALID by default


KNOWN = {
    "digits": Known((1, 8, 8), 10, 500),
    "fashion-mnist": Known((1, 28, 28), 10, 5000),
    "cifar10": Known((3, 32, 32), 10, 5000),
    "cifar100": Known((3, 32, 32), 100, 5000),
    "svhn": Known((3, 32, 32), 10, 5000),
}
DIGITS_WRITERS = {Split.TRAIN: slice(0, 915), Split.VALID: slice(915, 1415), Split.TEST: slice(1415, 1797)}


def load_named(name: str, root: Path, download: bool = False) -> Parts:
    """The images of a data set in `KNOWN`, in the order of its files.

    Args:
        name: one of `KNOWN`.
        root: the folder that torchvision calls root; `digits` needs none.
        download: whether torchvision may fetch what is missing.

    Raises:
        NotFound: not there; the message says what was expected and how to get it.
        DamagedFile: a file that is not the published one.
        MissingPackage: no torchvision, or one that does not fit to torch.
        StorageError: a download that cannot be written.
    """
    if name == "digits":
        return _digits()
    loaders: dict[str, Callable[[Path, bool], Parts]] = {
        "fashion-mnist": _fashion_mnist,
        "cifar10": _cifar10,
        "cifar100": _cifar100,
        "svhn": _svhn,
    }
    return loaders[name](root, download)


def _digits() -> Parts:
    """By writer, not shuffled: images of one writer in two splits would leak the hand."""
    bunch = import_package("sklearn.datasets", "scikit-learn").load_digits()
    images = torch.from_numpy((bunch.images * 15).astype(np.uint8)).unsqueeze(1)  # pixels are 0 to 16
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return {split: ImageSet(images[rows], labels[rows]) for split, rows in DIGITS_WRITERS.items()}


def _fashion_mnist(root: Path, download: bool) -> Parts:
    """From `root` itself or torchvision's folder in it; by our reader, which takes .gz and says which file is bad."""
    raw = root / "FashionMNIST" / "raw"
    files = idx.find_files(root) or idx.find_files(raw)
    if files is None and download:
        _construct(_torchvision().FashionMNIST, root, [{}], download)
        files = idx.find_files(raw)
    if files is None:
        expected = f"{', '.join(idx.FILES)} (each may end in .gz), there or in {raw}"
        raise _missing(
            "fashion-mnist",
            "FashionMNIST",
            root,
            expected,
            "; or install Debian's package dataset-fashion-mnist: --data-root /usr/share/datasets/fashion-mnist",
        )
    contents = [idx.read(path, 3 if "images" in path.name else 1) for path in files]
    for images, labels in (contents[:2], contents[2:]):
        if images.shape != (len(labels), 28, 28) or not len(labels) or labels.max() > 9:
            raise DamagedFile(
                f"the files in {files[0].parent} are not Fashion-MNIST, which has one label from 0 to 9 for each image "
                f"of 28x28: images {images.shape}, labels {labels.shape}, the largest {labels.max(initial=0)}."
            )
    return _parts([(images[:, None], labels.astype(np.int64)) for images, labels in (contents[:2], contents[2:])])


def _cifar10(root: Path, download: bool) -> Parts:
    return _cifar("cifar10", _torchvision().CIFAR10, root, download)


def _cifar100(root: Path, download: bool) -> Parts:
    return _cifar("cifar100", _torchvision().CIFAR100, root, download)


def _cifar(name: str, cls: Any, root: Path, download: bool) -> Parts:
    files = [*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"])]
    sums = {root / cls.base_folder / file: md5 for file, md5 in files}
    ready = _published(sums)
    if not ready and not download:
        expected = f"the folder {cls.base_folder} with the files {', '.join(file for file, _ in files)}"
        archive = root / cls.filename
        unpack = f"; {archive} is there: unpack it, tar -xzf {archive} -C {root}"
        raise _missing(name, cls.__name__, root, expected, unpack if _published({archive: cls.tgz_md5}) else "")
    sets = _construct(cls, root, [{"train": True}, {"train": False}], download and not ready)
    return _parts([(s.data.transpose(0, 3, 1, 2), np.array(s.targets, np.int64)) for s in sets])  # from [n, h, w, c]


def _svhn(root: Path, download: bool) -> Parts:
    cls = _torchvision().SVHN
    files = [cls.split_list[split][1:] for split in ("train", "test")]
    ready = _published({root / file: md5 for file, md5 in files})
    if not ready and not download:
        raise _missing("svhn", "SVHN", root, " and ".join(file for file, _ in files))
    sets = _construct(cls, root, [{"split": "train"}, {"split": "test"}], download and not ready)
    return _parts([(s.data, s.labels) for s in sets])


def _published(sums: dict[Path, str]) -> bool:
    """Whether all these files are there.

    Raises:
        DamagedFile: one is, but its md5 is another than the published.
    """
    check_integrity = _torchvision().utils.check_integrity
    for path, md5 in sums.items():
        if path.is_file() and not check_integrity(path, md5):
            raise DamagedFile(
                f"{path} is damaged or not what was published (its md5 is not {md5}), and was not read. "
                "Delete it and get it again."
            )
    return all(path.is_file() for path in sums)


def _construct(cls: Any, root: Path, options: Sequence[dict[str, Any]], download: bool) -> list[Any]:
    """torchvision's data sets of one class, its errors turned into ours."""
    try:
        return [cls(str(root), download=download, **option) for option in options]
    except (URLError, ConnectionError, TimeoutError) as error:
        raise NotFound(f"{cls.__name__} could not be downloaded to {root}: {error}") from error
    except OSError as error:
        raise StorageError(f"{cls.__name__} in {root}: {error}") from error
    except Exception as error:  # RuntimeError from a wrong md5 or a mirror, other kinds from torchvision's readers
        kind = NotFound if download else DamagedFile
        raise kind(f"{cls.__name__} in {root} was refused: {error}") from error


def _parts(arrays: Sequence[tuple[Any, Any]]) -> Parts:
    """TRAIN and TEST from two pairs of uint8 [n, c, h, w] and int64 [n]."""
    sets = [
        ImageSet(torch.from_numpy(np.array(images, order="C")), torch.from_numpy(np.array(labels)))
        for images, labels in arrays
    ]
    return dict(zip((Split.TRAIN, Split.TEST), sets, strict=True))


def _missing(name: str, class_name: str, root: Path, expected: str, also: str = "") -> NotFound:
    calls = "; ".join(
        f"{class_name}({str(root)!r}, {option}download=True)"
        for option in (("'train', ", "'test', ") if class_name == "SVHN" else ("",))
    )
    return NotFound(
        f"{name} was looked for in {root}, which should hold {expected}, and does not. To get it: "
        f'python -c "from torchvision.datasets import {class_name}; {calls}"{also}. If it is elsewhere, '
        "say where by data_root (--data-root) or $ADS_GYM_DATA."
    )


def _torchvision() -> Any:
    """torchvision's data sets, imported where they are used: it fails to import beside another build of torch."""
    return import_package(
        "torchvision.datasets", "--upgrade torch torchvision (both from one index: they come as a pair)"
    )
