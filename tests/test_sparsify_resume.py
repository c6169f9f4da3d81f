"""kill -9 in each step of `sparsify`, the same call again: nothing is lost, and the result is an undisturbed run's."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ads_gym
from ads_gym import Task
from ads_gym.compression.sparsify import sparsify
from ads_gym.data.splits import Split, network_input
from ads_gym.errors import DamagedFile, InvalidValue
from ads_gym.nets.tensorfile import to_safetensors
from ads_gym.runs.recorder import RunWarning
from ads_gym.runs.sparsify_record import FILE, RECORD, read_record

densenet = pytest.importorskip("torchvision.models.densenet")

# A run of some seconds: images come from a loader that shuffles, and each step that ends says so on stderr.
RUN = """
import torch, torchvision, ads_gym
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
torch.manual_seed(0)
model = torchvision.models.DenseNet(4, (3, 3), 8, num_classes=4)
images = torch.randn(60, 3, 32, 32)
labels = torch.arange(60) % 4
torch.seed()
test = images[:9], labels[:9]
loader = DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True)
made = ads_gym.sparsify(model, loader, max_macs=0.96, evaluations=12, distil=30, test=test, run="run")
print(made)
"""
STEPS = {  # what is on stderr or disk when a step has begun
    "dense": "images: about",  # (the first words of a run)
    "choosing": "choosing channels",
    "repair": "inherited",
    "distillation": "repaired ",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, finish(start(folder))


def start(folder, code=RUN):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr").open("w"),
        text=True,
    )


def finish(process):
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 0
    return out


def told(folder):
    return (folder / "stderr").read_text()


def kill_once(process, folder, said, seconds=0.0):
    """Kill as soon as something was said, and some time later."""
    deadline = time.monotonic() + 600
    while said not in told(folder):
        assert process.poll() is None and time.monotonic() < deadline, told(folder)
        time.sleep(0.001)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def result(folder):
    record = json.loads((folder / "run" / "sparsify.json").read_text())
    stages = [{name: value for name, value in stage.items() if name != "seconds"} for stage in record["stages"]]
    assert record["ended"] is not None
    return record["architecture"], stages, record["test"], record["files"]


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_in_a_step_changes_nothing(whole, tmp_path, step):
    kill_once(start(tmp_path), tmp_path, STEPS[step])
    record = tmp_path / "run" / "sparsify.json"
    assert not record.exists() or json.loads(record.read_text())["ended"] is None
    assert finish(start(tmp_path)) == whole[1]
    assert result(tmp_path) == result(whole[0])
    for name in ("best.json", "best.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (whole[0] / "run" / name).read_bytes()
    left, there = ({path.name for path in (folder / "run").iterdir()} for folder in (tmp_path, whole[0]))
    assert left == there
    said = told(tmp_path)
    assert "going on" in said or step == "dense"
    assert ("choosing" in said) == (step in ("dense", "choosing"))  # nothing is done twice
    assert ("repaired " in said) == (step != "distillation") or "going on after repaired" in said


@pytest.mark.slow
def test_many_kills_at_any_moment(whole, tmp_path):
    """A step that takes longer than the time to the next kill is never done, so that time grows."""
    for number in range(6):
        kill_once(start(tmp_path), tmp_path, "images: about", 0.3 * number)
        if "distilled" in told(tmp_path):
            break
    assert finish(start(tmp_path)) == whole[1]
    assert result(tmp_path) == result(whole[0])


@pytest.mark.slow
def test_a_run_that_is_over_is_read_from_its_folder(whole):
    folder, out = whole
    written = (folder / "run" / "sparsify.json").read_bytes()
    assert finish(start(folder)) == out
    assert told(folder) == ""
    assert (folder / "run" / "sparsify.json").read_bytes() == written


def model(classes=4):
    torch.manual_seed(0)
    return densenet.DenseNet(4, (2, 2), 8, num_classes=classes)


IMAGES = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
FEW = {"max_macs": 0.98, "evaluations": 0, "distil": 3, "progress": False}


def weights(made):
    return {name: tensor.clone() for name, tensor in made.network.state_dict().items()}


def same(a, b):
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_with_and_without_a_folder_the_result_is_the_same(tmp_path):
    plain, kept = sparsify(model(), IMAGES, **FEW), sparsify(model(), IMAGES, **FEW, run=tmp_path / "r")
    assert same(weights(plain), weights(kept)) and same(weights(kept), ads_gym.load(tmp_path / "r").state_dict())
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == [
        "best.json",
        "best.safetensors",
        "report.html",
        FILE,
    ]
    assert read_record(tmp_path / "r") == kept.record == read_record(tmp_path / "r" / FILE)
    shuffled = IMAGES[torch.randperm(len(IMAGES), generator=torch.Generator().manual_seed(1))]
    again = sparsify(model(), shuffled, **FEW, run=tmp_path / "r")
    assert again.record == kept.record and same(weights(again), weights(kept))


def test_distillation_that_makes_nothing_better_is_not_kept(tmp_path):
    task = Task.load("digits")
    supernet, images = task.supernet(), network_input(task.images(Split.VALID).images)
    whole = FEW | {"max_macs": 1.0}  # nothing is dropped, so steps only lead away from what it predicts
    expected = sparsify(supernet, images, **whole | {"distil": 0})
    made = sparsify(supernet, images, **whole, run=tmp_path / "r")
    assert [stage.name for stage in made.stages] == ["dense", "inherited", "repaired"]
    assert made.record.rejected.name == "distilled" and made.record.rejected.valid.loss > made.stages[-1].valid.loss
    assert same(weights(made), weights(expected)) and same(weights(made), ads_gym.load(tmp_path / "r").state_dict())
    assert "3 steps of distillation did not lower the loss" in str(made)
    assert "3 steps of distillation did not lower the loss" in (tmp_path / "r" / "report.html").read_text()
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"best.json", "best.safetensors", "report.html", FILE}
    RECORD.write(tmp_path / "r" / FILE, replace(made.record, ended=None))  # as a kill at the end leaves it
    (tmp_path / "r" / "best.safetensors").unlink()
    again = sparsify(supernet, images, **whole, run=tmp_path / "r")
    assert same(weights(again), weights(made)) and again.record.rejected == made.record.rejected
    assert ads_gym.load(tmp_path / "r").architecture == made.architecture


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"nonsense"), None])
def test_a_network_that_is_not_as_it_was_written_is_made_again(tmp_path, spoil):
    made = sparsify(model(), IMAGES, **FEW, run=tmp_path / "r")
    best = tmp_path / "r" / "best.safetensors"
    content = best.read_bytes()
    if spoil is None:  # another network of the same shape, which nobody could tell by its shape
        best.write_bytes(to_safetensors({name: torch.zeros_like(t) for name, t in weights(made).items()}))
    else:
        spoil(best)
    again = sparsify(model(), IMAGES, **FEW, run=tmp_path / "r")
    assert same(weights(again), weights(made)) and best.read_bytes() == content
    assert [stage.valid for stage in again.stages] == [stage.valid for stage in made.stages]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": IMAGES[:20]}, "other images, other validation images"),
        ({"max_macs": 0.99}, "limit on relative MACs 0.98 .here 0.99"),
        ({"distil": 4}, "steps of distillation 3 .here 4"),
        ({"seed": 1}, "seed 0 .here 1"),
        ({"model": model(3)}, "network"),
        ({"labels": torch.arange(24) % 4}, "other validation images"),
    ],
)
def test_another_run_in_the_folder_is_told(tmp_path, change, says):
    given = {"model": model(), "images": IMAGES, "run": tmp_path / "r"} | FEW
    sparsify(**given)
    before = (tmp_path / "r" / FILE).read_bytes()
    with pytest.raises(InvalidValue, match=f"belongs to a run with .*{says}"):
        sparsify(**given | change)
    assert (tmp_path / "r" / FILE).read_bytes() == before


def test_test_images_are_read_once_and_may_come_later(tmp_path):
    given = {"model": model(), "images": IMAGES, "run": tmp_path / "r"} | FEW
    assert sparsify(**given).record.test is None
    first = sparsify(**given, test=(IMAGES[:6], [0, 1, 2, 3, 0, 1])).record.test
    assert (first.images, first.measured) == (6, "accuracy")
    assert sparsify(**given).record.test == first
    assert sparsify(**given, test=IMAGES[:5]).record.test.measured == "agreement"


def test_a_folder_with_other_things_and_a_run_that_is_not_over(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidValue, match="thesis"):
        sparsify(model(), IMAGES, **FEW, run=tmp_path / "r")
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["thesis.txt"]
    sparsify(model(), IMAGES, **FEW, run=tmp_path / "s")
    (tmp_path / "s" / "best.json").unlink()
    with pytest.raises(InvalidValue, match="not over"):
        ads_gym.load(tmp_path / "s")
    (tmp_path / "s" / FILE).write_text("{}")
    with pytest.raises(DamagedFile, match="sparsify"):
        sparsify(model(), IMAGES, **FEW, run=tmp_path / "s")


def test_the_page_shows_what_the_run_is_now(tmp_path):
    """It comes again if it is gone or older than the record; latency is that of one image."""
    page = tmp_path / "r" / "report.html"
    made = sparsify(model(), IMAGES, **FEW, run=tmp_path / "r")
    first = page.read_text()
    assert "batch of 1, ms" in first and "batch of 64" not in first and "test images" not in first
    others = {path: path.read_bytes() for path in page.parent.iterdir() if path != page}
    sparsify(model(), IMAGES, **FEW, run=tmp_path / "r")
    assert page.read_text() == first  # it was not made again
    page.unlink()
    sparsify(model(), IMAGES, **FEW, run=tmp_path / "r")
    assert "batch of 1, ms" in page.read_text() and all(path.read_bytes() == old for path, old in others.items())
    later = sparsify(model(), IMAGES, **FEW, test=IMAGES[:7], run=tmp_path / "r")
    assert later.record.test.images == 7 and "On 7 test images" in page.read_text()
    assert same(weights(later), weights(made))


def test_a_page_that_cannot_be_written_is_told_and_the_network_is_there(tmp_path):
    sparsify(model(), IMAGES, **FEW, run=tmp_path / "r")
    page = tmp_path / "r" / "report.html"
    page.unlink()
    page.mkdir()
    with pytest.warns(RunWarning, match=r"network is in .*, and its report could not be written: .*report\.html"):
        made = sparsify(model(), IMAGES, **FEW, run=tmp_path / "r")
    assert same(weights(made), ads_gym.load(tmp_path / "r").state_dict())
