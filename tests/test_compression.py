"""Model in, smaller model out: on digits and on a small DenseNet of torchvision's, with and without labels."""

import pytest
import torch
from torch import nn

import ads_gym
from ads_gym.compression import sparsify
from ads_gym.data.images import network_input
from ads_gym.data.spec import Split
from ads_gym.nets.cost import CostTable
from ads_gym.tasks import Task

densenet = pytest.importorskip("torchvision.models.densenet")


@pytest.fixture(scope="module")
def digits():
    task = Task.load("digits")
    sets = [task.images(split) for split in (Split.TRAIN, Split.VALID)]
    return task.supernet(), *[(network_input(each.images), each.labels) for each in sets]


def test_half_the_work_is_as_accurate_on_digits(digits, tmp_path):
    model, (images, _), valid = digits
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made = sparsify(model, images, valid=valid, max_macs=0.5, evaluations=0, distil=60, run=tmp_path / "run")
    scores = {stage.name: stage.score.accuracy for stage in made.stages}
    assert list(scores) == ["dense", "inherited", "repaired", "distilled"] and made.measured == "accuracy"
    assert scores["inherited"] < 0.7 < scores["dense"] - 0.015 <= scores["repaired"]
    assert scores["distilled"] >= scores["dense"] - 0.01
    assert made.relative_macs <= 0.5 and made.parameters == sum(p.numel() for p in made.network.parameters())
    table = CostTable(model.config)
    assert int(table.macs(made.architecture.mask)) == round(made.relative_macs * table.dense_macs)
    kept = ads_gym.load(made.folder)
    with torch.no_grad():
        assert torch.equal(kept(valid[0]), made.network(valid[0]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert "50.0% of the MACs" in str(made) or "49." in str(made)


@pytest.mark.slow
def test_a_search_finds_no_worse_than_elimination(digits):
    model, (images, labels), _ = digits
    few = images[:200], labels[:200]
    settings = {"max_macs": 0.5, "distil": 0, "progress": False}
    plain, searched = (sparsify(model, *few, evaluations=count, **settings) for count in (0, 12))
    losses = [each.stages[-1].score.loss for each in (plain, searched)]
    assert losses[1] <= losses[0] + 1e-4 and searched.relative_macs <= 0.5
    assert (plain.record.images.valid, plain.record.images.calibration) == (50, 150)


def model_of_torchvision(classes=4):
    torch.manual_seed(0)
    return densenet.DenseNet(6, (3, 3), 8, num_classes=classes)


def test_a_model_of_torchvision_without_labels():
    images = torch.randn(60, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    model = model_of_torchvision()
    made = sparsify(model, images, max_macs=0.97, distil=5, evaluations=0)
    assert made.measured == "agreement" and made.stages[0].score.accuracy == 1
    assert made.stages[1].name == "inherited" and made.network(images[:2]).shape == (2, 4)
    again = sparsify(model.train(), images, max_macs=0.97, distil=5, evaluations=0)
    for a, b in zip(made.network.state_dict().values(), again.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert model.training


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": nn.Linear(2, 2)}, "has no features.conv0.weight"),
        ({"max_macs": 0.1}, "only the chain"),
        ({"max_macs": None}, "max_macs"),
        ({"images": torch.zeros(9, 1, 40, 40)}, r"reads float images \[n, 3, h, w\]"),
        ({"images": torch.zeros(2, 3, 40, 40)}, "at least two images"),
        ({"labels": torch.full((9,), 7)}, "labels up to 7"),
        ({"labels": [1, 2]}, "9 images and 2 labels"),
        ({"valid": torch.zeros(3, 3, 48, 48)}, r"valid images are \[3, 48, 48\], and the others"),
        ({"evaluations": -1}, "evaluations"),
        ({"device": "quantum"}, "device"),
        ({"agent": "nobody", "evaluations": 2}, "nobody"),
    ],
)
def test_what_cannot_be_used_is_told(change, says):
    given = {"model": model_of_torchvision(), "images": torch.randn(9, 3, 40, 40), "max_macs": 0.97}
    with pytest.raises(ads_gym.AdsGymError, match=says):
        sparsify(**given | {"evaluations": 0, "distil": 0} | change)
