"""The named data sets: small files of exactly the published formats go through the real reading code.

CIFAR's and SVHN's md5 sums are the only thing replaced, and only where the file written here is meant to be right.
"""

import functools
import gzip
import hashlib
import http.server
import pickle
import struct
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets

from ads_gym.data.splits import DataSpec, Split, default_spec, describe, load_splits
from ads_gym.errors import DamagedFile, MissingPackage, NotFound

REAL_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
FASHION_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}


class Hostile:
    """Unpickled, it creates a file."""

    def __init__(self, proof):
        self.proof = str(proof)

    def __reduce__(self):
        return Path.touch, (Path(self.proof),)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_fashion_mnist(folder, packed=False, n=(60, 20)):
    """Small idx files; gives the arrays in them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, written = np.random.default_rng(0), []
    for index, name in enumerate(FASHION_FILES):
        size = (n[index // 2], 28, 28)[: 1 if "labels" in name else 3]
        array = rng.integers(0, 10 if "labels" in name else 256, size).astype(np.uint8)
        content = struct.pack(f">4B{len(size)}I", 0, 0, 8, len(size), *size) + array.tobytes()
        (folder / f"{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
        written.append(array)
    return written


def write_cifar(root, name, each=6, replaced=None):
    """A small folder in torchvision's layout; gives images [n, 3, 32, 32] and labels of train and test.

    Args:
        replaced: file name -> object pickled there instead of images.
    """
    cls, rng, written = CIFAR[name], np.random.default_rng(0), {}
    folder = root / cls.base_folder
    folder.mkdir(parents=True)
    classes = 10 if name == "cifar10" else 100
    key = "labels" if name == "cifar10" else "fine_labels"
    for split, files in (("train", cls.train_list), ("test", cls.test_list)):
        batches = [(rng.integers(0, 256, (each, 3072)).astype(np.uint8), rng.integers(0, classes, each)) for _ in files]
        for (file, _), (images, labels) in zip(files, batches, strict=True):
            content = (replaced or {}).get(file, {"data": images, key: labels.tolist()})
            (folder / file).write_bytes(pickle.dumps(content))
        written[split] = [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]
    names = {cls.meta["key"]: [str(i) for i in range(classes)]}
    meta = (replaced or {}).get(cls.meta["filename"], names)
    (folder / cls.meta["filename"]).write_bytes(pickle.dumps(meta))
    return {split: (images.reshape(-1, 3, 32, 32), labels) for split, (images, labels) in written.items()}


def publish(monkeypatch, root, name, but=()):
    """Makes the files under `root` the published ones, all but some."""
    cls = CIFAR[name]
    for attribute in ("train_list", "test_list"):
        sums = [
            [file, old if file in but else md5(root / cls.base_folder / file)] for file, old in getattr(cls, attribute)
        ]
        monkeypatch.setattr(cls, attribute, sums)
    if cls.meta["filename"] not in but:
        monkeypatch.setattr(cls, "meta", cls.meta | {"md5": md5(root / cls.base_folder / cls.meta["filename"])})


def pack(root, name, archive):
    with tarfile.open(archive, "w:gz") as file:
        file.add(root / CIFAR[name].base_folder, CIFAR[name].base_folder)
    return archive


def images_of(splits, *which):
    return sorted(image.tobytes() for split in which for image in splits[split].images.numpy())


def labels_by_image(images, labels):
    return {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}


def small_spec(name):
    return DataSpec(name, None, 5, None, calibration=5)


def check(splits, train, test):
    """Whether TEST is the official test split, VALID and TRAIN are the rest, and each image has its own label."""
    assert splits[Split.TEST].images.numpy().tobytes() == np.ascontiguousarray(test[0]).tobytes()
    assert splits[Split.TEST].labels.tolist() == list(test[1])
    assert images_of(splits, Split.TRAIN, Split.VALID) == sorted(image.tobytes() for image in train[0])
    assert len(splits[Split.VALID]) == 5
    right = labels_by_image(*train)
    for split in (Split.TRAIN, Split.VALID):
        assert labels_by_image(splits[split].images.numpy(), splits[split].labels).items() <= right.items()
        assert splits[split].images.dtype == torch.uint8 and splits[split].images.is_contiguous()


@pytest.mark.skipif(not REAL_FASHION_MNIST.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_real_fashion_mnist(monkeypatch):
    monkeypatch.setenv("ADS_GYM_DATA", str(REAL_FASHION_MNIST))
    splits = load_splits(default_spec("fashion-mnist"))
    assert {split: tuple(part.images.shape) for split, part in splits.items()} == {
        "train": (55000, 1, 28, 28),
        "valid": (5000, 1, 28, 28),
        "test": (10000, 1, 28, 28),
    }
    assert splits[Split.TEST].labels.bincount().tolist() == [1000] * 10
    of_train = splits[Split.TRAIN].labels.bincount() + splits[Split.VALID].labels.bincount()
    assert of_train.tolist() == [6000] * 10
    assert splits[Split.TEST].labels[:5].tolist() == [9, 2, 1, 1, 6]  # ankle boot, pullover, trouser, trouser, shirt
    assert describe(default_spec("fashion-mnist")) == ((1, 28, 28), 10)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw"])
def test_fashion_mnist_from_idx_files(tmp_path, packed, layout):
    arrays = write_fashion_mnist(tmp_path / layout, packed)
    splits = load_splits(small_spec("fashion-mnist"), tmp_path)
    check(splits, (arrays[0][:, None], arrays[1]), (arrays[2][:, None], arrays[3]))


def test_fashion_mnist_is_read_as_torchvision_reads_it(tmp_path):
    write_fashion_mnist(tmp_path / "FashionMNIST" / "raw")
    theirs = torchvision.datasets.FashionMNIST(str(tmp_path), train=False)
    ours = load_splits(small_spec("fashion-mnist"), tmp_path)[Split.TEST]
    assert torch.equal(ours.images[:, 0], theirs.data) and torch.equal(ours.labels, theirs.targets)


@pytest.mark.parametrize("how", ["cut", "longer", "other magic", "claims more", "empty", "bad gzip", "cut gzip"])
@pytest.mark.parametrize("name", FASHION_FILES[:2])
def test_damaged_idx_files_are_named(tmp_path, how, name):
    write_fashion_mnist(tmp_path, packed="gzip" in how)
    path = tmp_path / (f"{name}.gz" if "gzip" in how else name)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-1],
            "longer": whole + b"x",
            "other magic": b"\0\0\x0d" + whole[3:],
            "claims more": whole[:4] + b"\xff" * 12 + whole[16:],
            "empty": b"",
            "bad gzip": b"no gzip",
            "cut gzip": whole[: len(whole) // 2],
        }[how]
    )
    with pytest.raises(DamagedFile, match=f"{path.name} is damaged, or no idx file"):
        load_splits(small_spec("fashion-mnist"), tmp_path)


def test_idx_files_that_do_not_fit_each_other(tmp_path):
    write_fashion_mnist(tmp_path, n=(60, 20))
    write_fashion_mnist(tmp_path / "other", n=(50, 20))
    (tmp_path / "other" / FASHION_FILES[1]).replace(tmp_path / FASHION_FILES[1])
    with pytest.raises(DamagedFile, match=r"are not Fashion-MNIST.*\(60, 28, 28\), labels \(50,\)"):
        load_splits(small_spec("fashion-mnist"), tmp_path)


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_from_torchvisions_layout(tmp_path, monkeypatch, name):
    written = write_cifar(tmp_path, name)
    publish(monkeypatch, tmp_path, name)
    monkeypatch.setenv("ADS_GYM_DATA", str(tmp_path))
    spec = DataSpec(name, None, 2, None, calibration=2) if name == "cifar100" else small_spec(name)
    splits = load_splits(spec)
    if name == "cifar10":
        check(splits, written["train"], written["test"])
    assert np.array_equal(splits[Split.TEST].images.numpy(), written["test"][0])
    assert splits[Split.TEST].labels.tolist() == written["test"][1].tolist()
    assert describe(spec) == ((3, 32, 32), 10 if name == "cifar10" else 100)
    assert load_splits(DataSpec(name, None, 2, None, 2, size=16))[Split.TEST].images.shape == (6, 3, 16, 16)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *(("cifar10", "data_batch_3"), ("cifar10", "test_batch"), ("cifar10", "batches.meta")),
        *(("cifar100", "train"), ("cifar100", "test"), ("cifar100", "meta")),
    ],
)
@pytest.mark.parametrize("download", [False, True])
def test_a_hostile_cifar_file_is_refused_and_never_run(tmp_path, monkeypatch, name, file, download):
    proof = tmp_path / "was-run"
    write_cifar(tmp_path, name, replaced={file: Hostile(proof)})
    publish(monkeypatch, tmp_path, name, but=[file])
    path = tmp_path / CIFAR[name].base_folder / file
    with pytest.raises(DamagedFile, match=f"{file} is damaged or not what was published .* was not read"):
        load_splits(small_spec(name), tmp_path, download=download)
    assert not proof.exists()
    pickle.loads(path.read_bytes())
    assert proof.exists()  # it was armed


@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
def test_torchvision_itself_refuses_a_hostile_cifar_file(tmp_path, monkeypatch, file):
    """Should a later torchvision stop checking, this says so; ours is checked before it gets there."""
    proof = tmp_path / "was-run"
    write_cifar(tmp_path, "cifar10", replaced={file: Hostile(proof)})
    publish(monkeypatch, tmp_path, "cifar10", but=[file])
    with pytest.raises(RuntimeError, match="not found or corrupted"):
        torchvision.datasets.CIFAR10(str(tmp_path), train=file == "data_batch_1")
    assert not proof.exists()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder, and the address under which it is served on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_cifar_is_downloaded_only_when_asked(tmp_path, monkeypatch, served):
    folder, address = served
    cls = CIFAR["cifar10"]
    written = write_cifar(tmp_path / "made", "cifar10")
    publish(monkeypatch, tmp_path / "made", "cifar10")
    archive = pack(tmp_path / "made", "cifar10", folder / cls.filename)
    monkeypatch.setattr(cls, "tgz_md5", md5(archive))
    monkeypatch.setattr(cls, "url", f"{address}/{cls.filename}")
    root = tmp_path / "root"
    with pytest.raises(NotFound, match="looked for in"):
        load_splits(small_spec("cifar10"), root)
    assert not root.exists()
    check(load_splits(small_spec("cifar10"), root, download=True), written["train"], written["test"])
    check(load_splits(small_spec("cifar10"), root), written["train"], written["test"])


def test_fashion_mnist_is_downloaded_only_when_asked(tmp_path, monkeypatch, served):
    folder, address = served
    arrays = write_fashion_mnist(folder, packed=True)
    cls = torchvision.datasets.FashionMNIST
    sums = [(f"{name}.gz", md5(folder / f"{name}.gz")) for name in FASHION_FILES]
    monkeypatch.setattr(cls, "mirrors", [f"{address}/"])
    monkeypatch.setattr(cls, "resources", sums)
    with pytest.raises(NotFound, match="looked for in"):
        load_splits(small_spec("fashion-mnist"), tmp_path / "root")
    splits = load_splits(small_spec("fashion-mnist"), tmp_path / "root", download=True)
    check(splits, (arrays[0][:, None], arrays[1]), (arrays[2][:, None], arrays[3]))
    assert (tmp_path / "root" / "FashionMNIST" / "raw" / FASHION_FILES[0]).is_file()
    monkeypatch.setattr(cls, "resources", [(name, "0" * 32) for name, _ in sums])
    with pytest.raises(NotFound, match="was refused"):
        load_splits(small_spec("fashion-mnist"), tmp_path / "another", download=True)


@pytest.mark.parametrize("where", ["served", "lying there"])
def test_a_hostile_cifar_archive_is_refused_and_never_unpacked(tmp_path, monkeypatch, served, where):
    folder, address = served
    cls, proof, root = CIFAR["cifar10"], tmp_path / "was-run", tmp_path / "root"
    root.mkdir()
    write_cifar(tmp_path / "made", "cifar10", replaced={"data_batch_1": Hostile(proof)})
    target = folder if where == "served" else root
    pack(tmp_path / "made", "cifar10", target / cls.filename)  # the published md5 stays torchvision's
    monkeypatch.setattr(cls, "url", f"{address}/{cls.filename}")
    if where == "served":
        with pytest.raises(NotFound, match=r"refused: .*corrupted"):
            load_splits(small_spec("cifar10"), root, download=True)
    else:
        with pytest.raises(DamagedFile, match=f"{cls.filename} is damaged or not what was published"):
            load_splits(small_spec("cifar10"), root)
        with pytest.raises(NotFound, match="could not be downloaded"):
            load_splits(small_spec("cifar10"), root, download=True)
    assert not (root / cls.base_folder).exists() and not proof.exists()


def test_a_good_archive_that_is_not_unpacked_is_pointed_at(tmp_path, monkeypatch):
    cls = CIFAR["cifar10"]
    write_cifar(tmp_path / "made", "cifar10")
    archive = pack(tmp_path / "made", "cifar10", tmp_path / cls.filename)
    monkeypatch.setattr(cls, "tgz_md5", md5(archive))
    with pytest.raises(NotFound, match=rf"unpack it, tar -xzf {archive} -C {tmp_path}"):
        load_splits(small_spec("cifar10"), tmp_path)


def write_svhn(root, monkeypatch):
    rng, written = np.random.default_rng(0), {}
    for split, n in (("train", 30), ("test", 12)):
        images, labels = rng.integers(0, 256, (32, 32, 3, n)).astype(np.uint8), rng.integers(1, 11, n).astype(np.uint8)
        labels[0] = 10  # their number for the digit 0
        path = root / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images, "y": labels[:, None]})
        written[split] = images.transpose(3, 2, 0, 1), labels % 10
        monkeypatch.setitem(torchvision.datasets.SVHN.split_list, split, ["", path.name, md5(path)])
    return written


def test_svhn_from_torchvisions_layout(tmp_path, monkeypatch):
    written = write_svhn(tmp_path, monkeypatch)
    check(load_splits(small_spec("svhn"), tmp_path), written["train"], written["test"])
    (tmp_path / "test_32x32.mat").write_bytes(b"changed")
    with pytest.raises(DamagedFile, match=r"test_32x32\.mat is damaged or not what was published"):
        load_splits(small_spec("svhn"), tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fashion-mnist", ["train-images-idx3-ubyte", "FashionMNIST/raw", "FashionMNIST("]),
        ("cifar10", ["cifar-10-batches-py", "data_batch_5", "CIFAR10("]),
        ("cifar100", ["cifar-100-python", "CIFAR100("]),
        ("svhn", ["train_32x32.mat", "test_32x32.mat", "SVHN("]),
    ],
)
def test_missing_data_say_where_what_and_how(tmp_path, monkeypatch, name, expected):
    monkeypatch.setenv("ADS_GYM_DATA", str(tmp_path))
    with pytest.raises(NotFound) as caught:
        load_splits(default_spec(name))
    for part in [str(tmp_path), "download=True", "--data-root", "$ADS_GYM_DATA", *expected]:
        assert part in str(caught.value)
    with pytest.raises(NotFound, match="argument"):
        load_splits(default_spec(name), tmp_path / "argument")
    monkeypatch.delenv("ADS_GYM_DATA")
    monkeypatch.setenv("ADS_GYM_HOME", str(tmp_path / "home"))
    with pytest.raises(NotFound, match=str(tmp_path / "home" / "data")):
        load_splits(default_spec(name))
    assert list(tmp_path.iterdir()) == []


def test_a_torchvision_of_another_build_says_which_pair(tmp_path, monkeypatch):
    """A broken torchvision raises RuntimeError when it is imported: here, a module that does so stands in its place."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingPackage, match=r"nms does not exist.*pip install --upgrade torch torchvision"):
        load_splits(default_spec("cifar10"), tmp_path)
