"""The report of a sparsification."""

import shutil
from dataclasses import replace

import pytest
import torch
from commands import read_rows
from marks import slow

import ads_gym
from ads_gym.architecture import DenseNetConfig
from ads_gym.compression.choosing import RANDOM_MASKS
from ads_gym.errors import InvalidValue
from ads_gym.nets.densenet import DenseNet
from ads_gym.reports.html import write_report
from ads_gym.reports.page import Role
from ads_gym.reports.sparsify_page import sparsify_page
from ads_gym.runs.sparsify_record import FILE, RECORD


@pytest.mark.parametrize("labels", [None, slow(torch.arange(60) % 4)])
def test_the_report_of_a_sparsification(tmp_path, labels):
    densenet = pytest.importorskip("torchvision.models.densenet")
    torch.manual_seed(0)
    model, images = densenet.DenseNet(6, (3, 3), 8, num_classes=4), torch.randn(60, 3, 40, 40)
    settings = {"max_macs": 0.6, "distil": 2, "evaluations": 0, "progress": False}
    made = ads_gym.sparsify(model, images, labels, test=images[:9], run=tmp_path / "run", **settings)
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != "report.html"}
    page = write_report(tmp_path / "run", latency=labels is not None).read_text()
    assert all(path.read_bytes() == content for path, content in before.items())
    for stage in made.stages:
        assert stage.name in page and f"{stage.valid.accuracy:.1%}"[:-1] in page
    assert ("agreement" in page) == (labels is None) or "On 9 test images" in page
    assert f"{made.relative_macs:.1%}"[:-1] in page and "channels inside its layers" in page
    RECORD.write(tmp_path / "run" / FILE, replace(made.record, ended=None))
    with pytest.raises(InvalidValue, match="is not over"):
        write_report(tmp_path / "run")


@pytest.mark.parametrize("bottleneck", [False, slow(True)])
def test_a_search_for_a_sparsification_is_shown_beside_random_masks(tmp_path, bottleneck):
    torch.manual_seed(0)
    config = DenseNetConfig((4, 4), 4, 8, image_shape=(1, 8, 8), classes=4, bottleneck=bottleneck)
    options = {"max_macs": 0.8, "distil": 0, "seed": 3, "progress": False}
    model, images, labels = DenseNet(config), torch.randn(80, 1, 8, 8), torch.arange(80) % 4
    run = tmp_path / "run"
    made = ads_gym.sparsify(model, images, labels, evaluations=5, run=run, **options)
    points = {(each.role, each.weights): each.places for each in sparsify_page(run).points}
    rows = read_rows(run / "search")
    assert len(points[Role.EVALUATED, "repaired"]) == len(sparsify_page(run).curve.objectives) == len(rows) == 5
    assert len(points[Role.CHOSEN, "repaired"]) == 1
    of_random = [macs for macs, _ in points[Role.RANDOM, "repaired"]]
    assert len(of_random) == RANDOM_MASKS and 0.6 < min(of_random) <= max(of_random) <= 0.8
    # What elimination leaves is what `evaluations=0` takes; it is the result, or shown beside it.
    alone = ads_gym.sparsify(model, images, labels, evaluations=0, **options)
    shown = points.get((Role.CHANNELS, "repaired"), points[Role.CHOSEN, "repaired"])
    assert shown == [(alone.relative_macs, alone.stages[-1].valid.accuracy)]
    assert (made.architecture == alone.architecture) == ((Role.CHANNELS, "repaired") not in points)
    shutil.rmtree(run / "search")
    left = {each.role for each in sparsify_page(run).points}
    assert left - {Role.CHANNELS} == {Role.RANDOM, Role.DENSE, Role.CHOSEN} and sparsify_page(run).curve is None
