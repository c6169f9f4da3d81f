"""Splits, digits, and a user's own images: .npz files and folders of class folders."""

import json
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ads_gym.architecture import DenseNetConfig
from ads_gym.data import idx
from ads_gym.data.splits import (
    DataSpec,
    ImageSet,
    Split,
    calibration_images,
    default_spec,
    describe,
    kept_splits,
    load_splits,
    network_input,
)
from ads_gym.errors import AdsGymError, DamagedFile, InvalidValue, NotFound, StorageError, UnknownName
from ads_gym.records import Format


def numbered_images(n, height=9, width=7):
    """Images [n, h, w] that each carry their number in the first two pixels; the class is the number modulo 4."""
    images = np.zeros((n, height, width), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(n) // 256, np.arange(n) % 256
    return images, np.arange(n) % 4


def numbers(image_set):
    return (image_set.images[:, 0, 0, 0].long() * 256 + image_set.images[:, 0, 0, 1]).tolist()


@pytest.fixture
def npz(tmp_path):
    images, labels = numbered_images(600)
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    return tmp_path / "own.npz"


def write_folder(root, sizes=((12, 10),), classes=("ant", "bee"), each=3):
    rng = np.random.default_rng(0)
    for index, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(each):
            width, height = sizes[i % len(sizes)]
            pixels = rng.integers(0, 100, (height, width, 3), np.uint8) + np.uint8(100 * index)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def test_digits_are_split_by_writer_in_order():
    from sklearn.datasets import load_digits

    bunch, splits = load_digits(), load_splits(default_spec("digits"))
    for split, rows in ((Split.TRAIN, (0, 915)), (Split.VALID, (915, 1415)), (Split.TEST, (1415, 1797))):
        expected = bunch.images[slice(*rows)] * 15
        assert np.array_equal(splits[split].images[:, 0].numpy(), expected)
        assert np.array_equal(splits[split].labels.numpy(), bunch.target[slice(*rows)])
    assert splits[Split.TRAIN].images.dtype == torch.uint8
    assert describe(default_spec("digits")) == ((1, 8, 8), 10)


def test_a_part_of_digits_stays_within_its_writers():
    whole, spec = load_splits(default_spec("digits")), DataSpec("digits", 300, 250, 100, calibration=50)
    part = load_splits(spec)
    assert {split: len(images) for split, images in part.items()} == {"train": 300, "valid": 250, "test": 100}
    for split, images in part.items():
        among = {image.tobytes() for image in whole[split].images.numpy()}
        assert all(image.tobytes() in among for image in images.images.numpy())


def test_own_data_are_divided_into_disjoint_splits_fixed_by_the_seed(npz):
    spec = default_spec(str(npz))
    splits = load_splits(spec)
    found = {split: numbers(images) for split, images in splits.items()}
    assert sorted(number for part in found.values() for number in part) == list(range(600))
    assert {split: len(part) for split, part in found.items()} == {"train": 360, "valid": 120, "test": 120}
    assert all(part == sorted(part) for part in found.values())
    for split, images in splits.items():
        assert images.labels.tolist() == [number % 4 for number in found[split]]
    again = {split: numbers(images) for split, images in load_splits(spec).items()}
    assert again == found
    other = load_splits(default_spec(str(npz), seed=1))
    assert numbers(other[Split.TEST]) != found[Split.TEST]


def test_a_division_never_changes_between_versions(npz):
    spec = DataSpec(str(npz), None, 5, 4, calibration=3, seed=7)
    splits = load_splits(spec)
    assert numbers(splits[Split.VALID]) == [136, 254, 360, 366, 531]
    assert numbers(splits[Split.TEST]) == [207, 268, 281, 585]
    assert numbers(calibration_images(spec, splits[Split.TRAIN])) == [224, 483, 403]


def test_fewer_train_images_leave_valid_and_test_alone(npz):
    whole, small = (load_splits(DataSpec(str(npz), train, 100, 50, calibration=30)) for train in (None, 30))
    for split in (Split.VALID, Split.TEST):
        assert numbers(whole[split]) == numbers(small[split])
    assert set(numbers(small[Split.TRAIN])) < set(numbers(whole[Split.TRAIN]))


def test_calibration_images_are_a_fixed_mix_of_train(npz):
    spec = DataSpec(str(npz), None, 100, 100, calibration=60)
    train = load_splits(spec)[Split.TRAIN]
    chosen = numbers(calibration_images(spec, train))
    assert len(set(chosen)) == 60 and set(chosen) < set(numbers(train))
    assert chosen == numbers(calibration_images(spec, train))
    assert chosen != sorted(chosen)


def test_channels_and_sizes_of_npz(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3)).astype(np.uint8)
    np.savez_compressed(tmp_path / "colour.npz", images=colour, labels=np.arange(40, dtype=np.uint8) % 2)
    spec = DataSpec(str(tmp_path / "colour.npz"), None, 10, 10, calibration=2)
    assert describe(spec) == ((3, 6, 5), 2)
    images = torch.cat([part.images for part in load_splits(spec).values()])
    assert sorted(map(bytes, images.permute(0, 2, 3, 1).numpy())) == sorted(map(bytes, colour))
    resized = DataSpec(str(tmp_path / "colour.npz"), None, 10, 10, calibration=2, size=4)
    assert describe(resized) == ((3, 4, 4), 2)
    assert load_splits(resized)[Split.VALID].images.shape == (10, 3, 4, 4)


def test_resizing_averages_and_keeps_flat_images_flat(tmp_path):
    images = np.zeros((30, 8, 8), np.uint8)
    images[:10] = 255
    images[10:20, :, ::2] = 200  # stripes, which a grid of single pixels would turn to 200 or 0
    np.savez(tmp_path / "x.npz", images=images, labels=np.repeat([0, 1, 2], 10))
    splits = load_splits(DataSpec(str(tmp_path / "x.npz"), None, 10, 10, calibration=2, size=4))
    for part in splits.values():
        for image, label in zip(part.images, part.labels, strict=True):
            low, high = ((255, 255), (60, 140), (0, 0))[label]
            assert low <= image.min() and image.max() <= high


def test_image_folder_is_read_as_torchvision_reads_it(tmp_path):
    root = write_folder(tmp_path / "bugs", each=5)
    Image.fromarray(np.full((10, 12), 7, np.uint8)).save(root / "ant" / "grey.png")
    spec = DataSpec(str(root), None, 2, 2, calibration=2)
    assert describe(spec) == ((3, 10, 12), 2)
    splits = load_splits(spec)
    assert sorted(len(part) for part in splits.values()) == [2, 2, 7]
    for part in splits.values():
        for image, label in zip(part.images, part.labels, strict=True):
            assert image.float().mean() < 100 if label == 0 else image.float().mean() > 100
    files = sorted(root.glob("*/*.png"))
    expected = sorted(np.array(Image.open(file).convert("RGB")).transpose(2, 0, 1).tobytes() for file in files)
    assert sorted(image.tobytes() for part in splits.values() for image in part.images.numpy()) == expected


def test_image_folder_of_several_sizes_needs_a_size(tmp_path):
    root = write_folder(tmp_path / "bugs", sizes=((12, 10), (20, 30)))
    with pytest.raises(InvalidValue, match=r"differ in size: .*1\.png has 20x30.*0\.png has 12x10.*--size"):
        default_spec(str(root))
    spec = default_spec(str(root), size=8)
    assert describe(spec) == ((3, 8, 8), 2)
    assert all(part.image_shape == (3, 8, 8) for part in load_splits(spec).values())


def test_changed_data_are_read_again(npz):
    first = kept_splits(default_spec(str(npz)))
    assert kept_splits(default_spec(str(npz))) is first
    images, labels = numbered_images(100)
    np.savez(npz, images=images, labels=labels)
    assert len(kept_splits(default_spec(str(npz)))[Split.VALID]) == 20


def test_own_data_that_were_moved_are_found_under_data_root(npz, tmp_path):
    spec = default_spec(str(npz))
    (tmp_path / "elsewhere").mkdir()
    npz.rename(tmp_path / "elsewhere" / npz.name)
    with pytest.raises(NotFound, match=r"own\.npz.*data_root"):
        load_splits(spec)
    assert len(load_splits(spec, tmp_path / "elsewhere")[Split.TEST]) == 120


GOOD_IMAGES, GOOD_LABELS = numbered_images(40)
FLOATS = GOOD_IMAGES / 255
NANS = FLOATS.copy()
NANS[3, 2, 1] = np.nan
BAD_ARRAYS = {
    "float images": (FLOATS, GOOD_LABELS, r"float64 from 0\.0 to .*: they should be uint8"),
    "NaN": (NANS, GOOD_LABELS, "float64, with NaN among them"),
    "NaN labels": (GOOD_IMAGES, np.where(GOOD_LABELS == 0, np.nan, GOOD_LABELS), "float64, with NaN among them"),
    "int64 images": (GOOD_IMAGES.astype(np.int64), GOOD_LABELS, "int64 from 0 to 39: they should be uint8"),
    "one image": (GOOD_IMAGES[0], GOOD_LABELS, "got shape"),
    "no images": (GOOD_IMAGES[:0], GOOD_LABELS[:0], "got shape"),
    "channels first": (np.zeros((40, 3, 9, 7), np.uint8), GOOD_LABELS, "channels seem to come first"),
    "negative label": (GOOD_IMAGES, GOOD_LABELS - 1, "from -1 to 2: they should be 0 to k-1"),
    "labels from one": (GOOD_IMAGES, GOOD_LABELS + 1, "from 1 to 4: they should be 0 to k-1"),
    "huge label": (GOOD_IMAGES, np.where(GOOD_LABELS == 3, 2**62, GOOD_LABELS), "they should be 0 to k-1"),
    "float labels": (GOOD_IMAGES, GOOD_LABELS.astype(float), "they should be integers"),
    "text labels": (GOOD_IMAGES, GOOD_LABELS.astype(str), "they should be integers"),
    "too few labels": (GOOD_IMAGES, GOOD_LABELS[:-1], r"have shape \(39,\), and should have \(40,\)"),
    "one-hot labels": (GOOD_IMAGES, np.eye(4, dtype=int)[GOOD_LABELS], r"have shape \(40, 4\)"),
    "one class": (GOOD_IMAGES, GOOD_LABELS * 0, "of one class"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_unusable_arrays_are_refused_by_name(tmp_path, case):
    images, labels, says = BAD_ARRAYS[case]
    np.savez(tmp_path / "bad.npz", images=images, labels=labels)
    with pytest.raises(InvalidValue, match=says) as caught:
        default_spec(str(tmp_path / "bad.npz"))
    assert "bad.npz" in str(caught.value)


class Hostile:
    """Unpickled, it creates a file."""

    def __init__(self, proof):
        self.proof = str(proof)

    def __reduce__(self):
        return Path.touch, (Path(self.proof),)


def test_a_pickle_in_an_npz_is_refused_and_never_run(tmp_path):
    proof = tmp_path / "was-run"
    armed = np.array([Hostile(proof)] * 40, dtype=object)
    np.savez(tmp_path / "object.npz", images=GOOD_IMAGES, labels=armed)
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Hostile(proof)))
    for name in ("object.npz", "raw.npz"):
        with pytest.raises(DamagedFile, match=f"{name} should be an .npz .* without pickled objects"):
            default_spec(str(tmp_path / name))
    assert not proof.exists()
    pickle.loads((tmp_path / "raw.npz").read_bytes())
    assert proof.exists()  # it was armed


@pytest.mark.parametrize("how", ["text", "empty", "cut", "flipped", "npy", "other names", "zip of text"])
def test_damaged_npz(tmp_path, npz, how):
    path, whole = tmp_path / "damaged.npz", npz.read_bytes()
    if how == "npy":
        with path.open("wb") as file:
            np.save(file, GOOD_IMAGES)
    elif how == "other names":
        np.savez(path, x=GOOD_IMAGES, labels=GOOD_LABELS)
    elif how == "zip of text":
        import zipfile

        with zipfile.ZipFile(path, "w") as file:
            file.writestr("images.npy", "no array")
            file.writestr("labels.npy", "no array")
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        path.write_bytes({"text": b"hello", "empty": b"", "cut": whole[:middle], "flipped": flipped}[how])
    with pytest.raises(DamagedFile, match=r"damaged\.npz should be an \.npz"):
        default_spec(str(path))


def test_unusable_folders(tmp_path):
    root = write_folder(tmp_path / "bugs")
    (root / "wasp").mkdir()
    with pytest.raises(InvalidValue, match="no images for the classes wasp"):
        default_spec(str(root))
    with pytest.raises(InvalidValue, match=r"has 0 folders in it \(none\)"):
        default_spec(str(root / "ant"))
    with pytest.raises(InvalidValue, match="which are no classes"):
        default_spec(str(write_folder(tmp_path / "split", classes=("train", "val"))))
    write_folder(tmp_path / "single", classes=("ant",))
    with pytest.raises(InvalidValue, match="at least two"):
        default_spec(str(tmp_path / "single"))


def test_damaged_and_deep_images_are_named(tmp_path):
    root = write_folder(tmp_path / "bugs")
    whole = (root / "bee" / "1.png").read_bytes()
    (root / "bee" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedFile, match=r"bee.1\.png cannot be read as an image"):
        default_spec(str(root))
    Image.fromarray(np.full((10, 12), 40000, np.uint16)).save(root / "bee" / "1.png")
    with pytest.raises(InvalidValue, match=r"bee.1\.png has pixels of kind I;16"):
        default_spec(str(root))


def test_images_too_small_for_a_network():
    shape, classes = describe(default_spec("digits"))
    with pytest.raises(InvalidValue, match="images of 8x8 pixels are too small for 5 blocks"):
        DenseNetConfig((2, 2, 2, 2, 2), image_shape=shape, classes=classes)


def test_wrong_sources(tmp_path):
    with pytest.raises(UnknownName, match="Did you mean 'cifar10'"):
        load_splits(DataSpec("cifr10", None, 10, None))
    with pytest.raises(NotFound, match=r"no data at .*nothing\.npz: expected an \.npz file or a folder"):
        default_spec(str(tmp_path / "nothing.npz"))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DamagedFile, match=r"notes\.txt should be an \.npz"):
        default_spec(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (DataSpec("digits", None, 501, None), "asks for 501 VALID images of digits, and 500 are left"),
        (DataSpec("digits", 916, 500, None), "asks for 916 TRAIN images"),
        (DataSpec("digits", None, 500, 400), "asks for 400 TEST images"),
        (DataSpec("digits", None, 500, None, calibration=916), "916 calibration images, and TRAIN has 915"),
    ],
)
def test_more_images_than_there_are(spec, says):
    with pytest.raises(InvalidValue, match=says):
        load_splits(spec)


def test_own_data_need_a_test_size_and_leave_some_for_train(npz):
    with pytest.raises(InvalidValue, match="no test split of its own"):
        load_splits(DataSpec(str(npz), None, 100, None))
    with pytest.raises(InvalidValue, match=r"asks for 1 TRAIN images .* and 0 are left"):
        load_splits(DataSpec(str(npz), None, 300, 300))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"valid": 0}, {"valid": None}, {"valid": 2.5}, {"valid": True}, {"train": 0}, {"test": -1}),
        *({"calibration": 1}, {"seed": -1}, {"seed": 2**32}, {"size": 0}, {"source": ""}, {"source": 3}),
    ],
)
def test_numbers_out_of_range(wrong):
    with pytest.raises(InvalidValue):
        DataSpec(**({"source": "digits", "train": None, "valid": 500, "test": None} | wrong))


def test_spec_as_json():
    spec = DataSpec("cifar10", 100, 50, None, calibration=10, seed=3, size=16)
    form = Format("spec", 1, "spec", DataSpec)
    assert form.parse(form.text(spec), "here") == spec
    for change in ({"valid": None}, {"extra": 1}, {"valid": "many"}):
        with pytest.raises(DamagedFile, match=next(iter(change))):
            form.parse(json.dumps(json.loads(form.text(spec)) | change), "here")


def test_network_input_is_fixed_and_spans_minus_one_to_one():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    for dtype in (torch.float32, torch.float64):
        assert network_input(images, dtype).dtype == dtype
        assert network_input(images, dtype).flatten().tolist() == pytest.approx([-1, -0.6, 1])


def test_image_set_checks_what_it_holds():
    images, labels = torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(3)
    assert ImageSet(images, labels).take([2, 0]).labels.tolist() == [2, 0]
    assert len(ImageSet(images, labels).to("cpu")) == 3
    assert ImageSet(images, labels) == ImageSet(images.clone(), labels) != ImageSet(images + 1, labels)
    assert ImageSet(images, labels) != "images"
    floats = ImageSet(images + 0.5, labels)
    assert torch.equal(network_input(floats.images), floats.images) and floats.digest != ImageSet(images, labels).digest
    wrongs = [(images.int(), labels), (images / 0, labels), (images, labels.int()), (images[0], labels)]
    for wrong in (*wrongs, (images, labels[:2])):
        with pytest.raises(AdsGymError):
            ImageSet(*wrong)


@pytest.fixture
def locked():
    """A folder in which no file may be read, whoever runs this: root ignores modes, so it becomes nobody."""
    with tempfile.TemporaryDirectory() as name:
        folder, user = Path(name), os.geteuid()
        folder.chmod(0o755)
        yield folder, lambda: os.seteuid(65534) if user == 0 else None
        os.seteuid(user)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="modes mean little on this platform")
def test_data_that_may_not_be_read(locked):
    folder, drop_privileges = locked
    np.savez(folder / "own.npz", images=GOOD_IMAGES, labels=GOOD_LABELS)
    write_folder(folder / "bugs")
    default_spec(str(write_folder(folder / "other")))  # imports what nobody may not be allowed to import
    for name in idx.FILES:
        (folder / name).touch(mode=0)
    for path in (folder / "own.npz", folder / "bugs" / "bee" / "1.png"):
        path.chmod(0)
    drop_privileges()
    for source in ("fashion-mnist", str(folder / "own.npz"), str(folder / "bugs")):
        with pytest.raises(StorageError, match=r"cannot be read.*permission denied"):
            load_splits(DataSpec(source, None, 1, 1), folder)
