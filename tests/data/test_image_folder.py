"""Folders of images: what is read, what is left out, and that it is said."""

import warnings

import numpy as np
import pytest
from PIL import Image

from ads_gym.data.custom import load_custom
from ads_gym.data.splits import DataSpec, Split, default_spec, load_splits
from ads_gym.data.stratify import stratified
from ads_gym.errors import InvalidValue
from ads_gym.records import to_values


def picture(path, value=100, width=6, height=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


@pytest.fixture
def bugs(tmp_path):
    for label in ("ant", "bee"):
        for number in range(4):
            picture(tmp_path / "bugs" / label / f"{number}.png", number)
    return tmp_path / "bugs"


def warnings_of(path, size=None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images = load_custom(path, size)
    return images, [str(one.message) for one in caught]


def test_hidden_folders_and_files_are_no_classes_and_no_images(bugs):
    expected = load_custom(bugs).digest
    picture(bugs / ".ipynb_checkpoints" / "x-checkpoint.png")
    picture(bugs / "__MACOSX" / "x.png")
    picture(bugs / "ant" / ".ipynb_checkpoints" / "0-checkpoint.png")
    (bugs / "ant" / "._0.png").write_bytes(b"AppleDouble")
    (bugs / "bee" / "Thumbs.db").write_bytes(b"thumbs")
    found, said = warnings_of(bugs)
    assert found.digest == expected and found.labels.max() == 1 and not said


def test_all_kinds_that_pillow_reads_are_read(bugs):
    for number in range(30):
        picture(bugs / "bee" / f"{number}.gif")
    picture(bugs / "bee" / "x.avif" if ".avif" in Image.registered_extensions() else bugs / "bee" / "x.webp")
    found, said = warnings_of(bugs)
    assert found.labels.tolist() == [0] * 4 + [1] * 35 and not said


def test_what_is_left_out_is_said_once_with_number_and_name(bugs):
    for number in range(3):
        (bugs / "ant" / f"{number}.raw2").write_bytes(b"?")
    (bugs / "bee" / "notes.txt").write_text("mine")
    found, said = warnings_of(bugs)
    assert len(found) == 8
    (told,) = said
    assert "4 files are left out" in told and "0.raw2" in told


def test_photos_are_turned_as_their_exif_data_say(tmp_path):
    for label, turn in (("a", 1), ("b", 6)):
        pixels = np.zeros((8, 16, 3), np.uint8)
        pixels[:, :8] = 255  # bright at the left
        exif = Image.Exif()
        exif[0x0112] = turn
        (tmp_path / label).mkdir()
        Image.fromarray(pixels).save(tmp_path / label / "x.jpg", exif=exif, quality=100)
    plain, turned = load_custom(tmp_path, 16).images.float()
    assert plain[:, :, :6].mean() > 200 and plain[:, :, 10:].mean() < 50
    assert turned[:, :6].mean() > 200 and turned[:, 10:].mean() < 50  # clockwise: bright at the top


def test_a_damaged_exif_header_does_not_cost_the_image(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / label / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\xff")
    assert len(load_custom(tmp_path)) == 2


def test_transparent_palettes_give_one_warning_that_names_a_file(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(5):
            image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 4).convert("P")
            image.save(tmp_path / label / f"{number}.png", transparency=bytes([0, 255, 128, 255]))
    _, said = warnings_of(tmp_path)
    assert len(said) == 1 and "10 images have transparent pixels" in said[0] and "0.png" in said[0]


def test_a_transparency_that_hides_nothing_is_not_worth_a_warning(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 4).convert("P")
        image.save(tmp_path / label / "x.png", transparency=bytes([255] * 4))
    assert not warnings_of(tmp_path)[1]


def test_several_frames_are_said(bugs):
    frames = [Image.fromarray(np.full((6, 6), value, np.uint8)) for value in (0, 90, 200)]
    frames[0].save(bugs / "ant" / "x.gif", save_all=True, append_images=frames[1:])
    (told,) = warnings_of(bugs)[1]
    assert "1 images have several frames" in told and "x.gif" in told


@pytest.mark.parametrize("others", [("unlabelled",), ("unlabelled", "extra"), ()])
def test_folders_of_splits_are_refused_also_beside_others(tmp_path, others):
    for split in ("train", "val", *others):
        for label in ("ant", "bee"):
            picture(tmp_path / "set" / split / label / "0.png")
    with pytest.raises(InvalidValue, match=r"which are no classes.*Give one of them, such as .*train"):
        default_spec(str(tmp_path / "set"))


def test_one_folder_of_splits_beside_another_is_refused(tmp_path):
    for split in ("train", "unlabelled"):
        picture(tmp_path / "set" / split / "ant" / "0.png")
    with pytest.raises(InvalidValue, match="which are no classes"):
        default_spec(str(tmp_path / "set"))


def test_a_class_may_be_called_train(tmp_path):
    for label in ("bus", "car", "train"):
        for number in range(3):
            picture(tmp_path / "vehicles" / label / f"{number}.png")
    assert load_custom(tmp_path / "vehicles").labels.max() == 2


def test_every_split_has_every_class(tmp_path):
    for label, count in (("common", 90), ("rare", 3), ("some", 7)):
        for number in range(count):
            picture(tmp_path / "set" / label / f"{number}.png", number)
    for seed in range(5):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            splits = load_splits(default_spec(str(tmp_path / "set"), seed=seed))
        assert {split: len(images) for split, images in splits.items()} == {"train": 60, "valid": 20, "test": 20}
        for images in splits.values():
            assert set(images.labels.tolist()) == {0, 1, 2}
        assert splits[Split.VALID].labels.bincount()[0] in (17, 18)


def test_a_class_that_is_missing_in_a_split_is_named(tmp_path):
    for label, count in (("common", 20), ("single", 1), ("twin", 2)):
        for number in range(count):
            picture(tmp_path / "set" / label / f"{number}.png", number)
    with pytest.warns(UserWarning, match=r"VALID has no image of single; TEST has no image of single, twin") as told:
        splits = load_splits(default_spec(str(tmp_path / "set")))
    assert len(told) == 1
    assert set(splits[Split.TRAIN].labels.tolist()) == {0, 1, 2}


def test_stored_specs_of_before_keep_their_splits(tmp_path):
    """Else what trained an older supernet would be among the images that score it."""
    values = to_values(default_spec("digits")) | {"source": str(tmp_path / "x.npz"), "valid": 10, "test": 10}
    del values["stratify"]
    values["calibration"] = 10
    images = np.arange(60, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(60) % 3)
    splits = load_splits(DataSpec(**values))
    order = np.random.RandomState([0, 0]).permutation(60)
    assert splits[Split.VALID].images[:, 0, 0, 0].tolist() == sorted(order[:10])
    assert splits[Split.TEST].images[:, 0, 0, 0].tolist() == sorted(order[10:20])


@pytest.mark.parametrize("seed", range(20))
def test_shares_of_classes_are_even_and_no_image_is_lost(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(5, 200, p=[0.5, 0.3, 0.1, 0.06, 0.04])
    order = rng.permutation(200)
    counts = (40, 30, None)
    found = stratified(order, labels, counts)
    assert sorted(found) == list(range(200))
    sizes = np.bincount(labels, minlength=5)
    for part, count in ((found[:40], 40), (found[40:70], 30)):
        shares = np.bincount(labels[part], minlength=5)
        assert (abs(shares - count * sizes / 200) < 2).all() and (shares[sizes > 2] > 0).all()


CONVERSIONS = {
    "integers to 255": np.arange(256, dtype=np.int64),
    "integers from 1 to 9": np.arange(1, 10, dtype=np.int32),
    "sixteen bits": np.linspace(0, 65535, 50).astype(np.uint16),
    "floats to 1": np.linspace(0, 1, 50),
    "floats to 255": np.linspace(0, 255, 50, dtype=np.float32),
    "bits": np.array([False, True] * 10),
    "eight bits with sign": np.arange(-128, 128, dtype=np.int8),
    "standardised": np.linspace(-2.1, 2.6, 50),
}


@pytest.mark.parametrize("case", CONVERSIONS)
def test_the_line_that_converts_images_converts_just_these(tmp_path, case):
    values = CONVERSIONS[case]
    images = np.broadcast_to(values[:, None, None], (len(values), 4, 4))
    labels = np.arange(len(values)) % 2
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    with pytest.raises(InvalidValue, match=rf"{values.dtype} from .*uint8") as raised:
        load_custom(tmp_path / "x.npz")
    line = str(raised.value).partition("Convert them with ")[2].removesuffix(".")
    converted = eval(line, {"images": images})
    np.savez(tmp_path / "x.npz", images=converted, labels=labels)
    found = load_custom(tmp_path / "x.npz").images[:, 0, 0, 0].numpy()
    low, high = float(values.min()), float(values.max())
    if low >= 0 and 1 < high <= 255:
        assert found.tolist() == np.round(values).tolist()
    else:
        assert np.allclose(found, (values.astype(float) - low) / (high - low) * 255, atol=0.51)
