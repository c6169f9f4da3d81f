"""Images as callers have them: the same tensor from each form, and one clear error for what is none."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ads_gym.data.given import read_images
from ads_gym.errors import AdsGymError, InvalidValue

IMAGES = torch.rand(12, 3, 5, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


def scaled(images):
    return images.float() / 255


class Pairs(Dataset):
    """Labels as Python ints, as torchvision's data sets have them."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return IMAGES[index], int(LABELS[index])


@pytest.mark.parametrize(
    "given",
    [
        (IMAGES, LABELS),
        (IMAGES.double().requires_grad_(), LABELS.numpy()),
        (IMAGES.numpy(), LABELS.tolist()),
        DataLoader(TensorDataset(IMAGES, LABELS), batch_size=5),
        [(image, label) for image, label in zip(IMAGES, LABELS.tolist(), strict=True)][::1].__iter__(),
    ],
)
def test_all_forms_give_the_same(given):
    images, labels = read_images(given)
    assert images.dtype is torch.float32 and torch.equal(images, IMAGES) and torch.equal(labels, LABELS)


def test_a_data_set_is_drawn_from_at_random():
    images, labels = read_images(Pairs(), most=8, seed=1)
    assert len(images) == 8 and not torch.equal(images, IMAGES[:8])
    for image, label in zip(images, labels, strict=True):
        (index,) = (n for n in range(12) if torch.equal(IMAGES[n], image))
        assert LABELS[index] == label
    assert torch.equal(read_images(Pairs(), most=8, seed=1)[0], images)
    assert sorted(read_images(Pairs())[1].tolist()) == sorted(LABELS.tolist())


def test_images_without_labels():
    for given in (IMAGES, IMAGES.numpy(), list(IMAGES), DataLoader(IMAGES, batch_size=7)):
        images, labels = read_images(given)
        assert labels is None and images.shape == IMAGES.shape


def test_an_endless_loader_is_read_in_part():
    def endless():
        while True:
            yield IMAGES

    assert len(read_images(endless(), most=30)[0]) == 30


def test_bytes_need_a_transform():
    pixels = (IMAGES * 255).byte()
    assert torch.equal(read_images(pixels, scaled)[0], scaled(pixels))
    assert torch.equal(read_images(DataLoader(pixels, batch_size=5), scaled)[0], scaled(pixels))
    with pytest.raises(InvalidValue, match="transform="):
        read_images(pixels)
    for transform, says in (
        (lambda x: x, "gives floats"),
        (lambda x: x / "", "fails"),
        (lambda x: x[:1] * 1.0, "gives"),
    ):
        with pytest.raises(InvalidValue, match=says):
            read_images(pixels, transform)


class Broken(Pairs):
    def __getitem__(self, index):
        raise OSError("gone")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "got None"),
        ("folder", "transform=weights"),
        (7, "got 7"),
        ([], "empty"),
        (DataLoader(TensorDataset(IMAGES[:0], LABELS[:0])), "empty"),
        (["a", "b"], "got 'a'"),
        (IMAGES[0], r"\[n, c, h, w\]"),
        (IMAGES[:0], "at least one"),
        (IMAGES.long(), "no model's input"),
        (IMAGES / 0, "NaN or infinite"),
        ((IMAGES, LABELS[:5]), "12 images and 5 labels"),
        ((IMAGES, LABELS / 2), "whole numbers"),
        ((IMAGES, "abc"), "whole numbers"),
        ((IMAGES, LABELS[:, None]), "whole numbers"),
        (("a", "b"), "got"),
        ([IMAGES[0], IMAGES[0, :, :2]], "one size"),
        ([(IMAGES[0], 1), IMAGES[1]], "2 images and 1 labels"),
        (Broken(), "gone"),
    ],
)
def test_what_is_no_images_is_told(given, says):
    with pytest.raises(InvalidValue, match=says):
        read_images(given)


def test_odd_objects_end_in_our_errors():
    for odd in (object(), {1: 2}, {"x"}, np.float64(3), lambda: 1, type):
        with pytest.raises(AdsGymError):
            read_images(odd)
