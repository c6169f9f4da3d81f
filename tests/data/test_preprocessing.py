"""Photos become what torchvision's presets make of them."""

import pytest
import torch

from ads_gym.data.preprocessing import Preprocessing
from ads_gym.errors import InvalidValue

presets = pytest.importorskip("torchvision.transforms._presets")


@pytest.mark.parametrize("size", [(300, 400), (500, 333), (256, 256), (40, 91), (7, 900)])
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (36, 33), (32, 32)])
def test_as_torchvision_does_it(size, resize, crop):
    photo = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours = Preprocessing(resize, crop)(photo)
    theirs = presets.ImageClassification(crop_size=crop, resize_size=resize)(photo)
    assert ours.shape == theirs.shape == (1, 3, crop, crop)
    off = (ours - theirs).abs() * 255 * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    assert off.max() <= 1.01 and (off > 0.01).float().mean() < 0.01  # where a pixel is rounded the other way


def test_one_number_makes_grey():
    photo = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    photo[0] = 255
    photo[1, 1] = 255  # green
    grey = Preprocessing(8, 8, (0.5,), (0.25,))(photo)
    assert grey.shape == (2, 1, 8, 8)
    torch.testing.assert_close(grey[:, 0, 0, 0], torch.tensor([2.0, (0.587 - 0.5) / 0.25]))


@pytest.mark.parametrize(
    "settings",
    [{"crop": 300}, {"mean": (0.5,)}, {"mean": (0.5, 0.5), "std": (1, 1)}, {"std": (0.2, 0.0, 0.2)}, {"crop": 0}],
)
def test_what_cannot_be_is_refused(settings):
    with pytest.raises(InvalidValue):
        Preprocessing(**settings)
