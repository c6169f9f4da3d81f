"""`ads-gym sparsify`: weights files and folders of photos as they come, and one line for what cannot be used."""

import numpy as np
import pytest
import torch
from commands import run_here
from PIL import Image
from safetensors.torch import save_file

import ads_gym
from ads_gym.runs.sparsify_record import read_record

densenet = pytest.importorskip("torchvision.models.densenet")
SMALL = ("--resize", 36, "--crop", 32, "--max-macs", 0.98, "--evaluations", 0, "--distil", 2)


def model(classes=2, channels=3):
    torch.manual_seed(0)
    made = densenet.DenseNet(4, (2, 2), 8, num_classes=classes)
    made.features.conv0 = torch.nn.Conv2d(channels, 8, 7, 2, 3, bias=False)
    return made


def photos(folder, classes=("ant", "bee"), count=8):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (40 + number, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.{'jpg' if number % 2 else 'png'}")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    photos(tmp_path / "photos")
    torch.save(model().state_dict(), "mine.pth")
    return lambda *arguments: run_here(capsys, "sparsify", *arguments)


def test_weights_and_photos_in_a_network_out(run, tmp_path, capsys):
    photos(tmp_path / "more", count=3)
    command = ("mine.pth", "--images", "photos", "--test", "more", *SMALL)
    done = run(*command)
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines()]
    assert {row[0] for row in rows if row} >= {"dense", "inherited", "repaired", "distilled"}
    assert "4 validation images are a quarter" in done.out and "6 test images, read once: accuracy" in done.out
    assert "12 + 4 images: about 0:" in done.err and "Warning" not in done.err
    folder = tmp_path / "runs" / "mine-0.98"
    assert str(folder) in done.out and read_record(folder).measured == "accuracy"
    assert ads_gym.load(folder)(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    again = run(*command)
    assert (again.code, again.out) == (0, done.out)
    assert "MACs" in run_here(capsys, "show", folder).out
    assert run_here(capsys, "latency", folder, "--batch", 1, "--repeats", 2).code == 0


def old(state):
    """As in torchvision's old files."""
    return {name.replace("norm1", "norm.1").replace("conv2", "conv.2"): tensor for name, tensor in state.items()}


def within(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("name", "pack", "said"),
    [
        ("a.safetensors", None, "a.safetensors"),
        (
            "b.pt",
            lambda s: {"epoch": 3, "best": 0.5, "state_dict": {f"module.{k}": v for k, v in s.items()}},
            "'state_",
        ),
        ("c.pth", lambda s: {"model": within("_orig_mod.", s), "args": {"lr": 0.1}}, "'model' of"),
        ("d.pt", lambda s: within("model.backbone.", s) | {"ema": torch.ones(1)}, "d.pt"),
        (
            "e.pth",
            lambda s: {k.replace("norm1", "norm.1").replace("conv2", "conv.2"): v for k, v in s.items()},
            "e.pth",
        ),
        ("f.pt", lambda s: {k: v.half() for k, v in s.items()}, "f.pt"),
    ],
)
def test_all_the_ways_in_which_weights_are_saved(run, tmp_path, name, pack, said):
    state = model().state_dict()
    save_file(state, name) if pack is None else torch.save(pack(state), name)
    done = run(name, "--images", "photos", *SMALL, "--run", "r")
    assert done.code == 0, done.err
    assert said in done.err.splitlines()[0]
    expected = run("mine.pth", "--images", "photos", *SMALL, "--run", "plain")
    assert expected.code == 0
    weights = [read_record(tmp_path / each).identity["weights"] for each in ("r", "plain")]
    assert (weights[0] == weights[1]) == (name != "f.pt")


def test_a_head_of_more_classes(run):
    torch.save(model(10).state_dict(), "ten.pth")
    done = run("ten.pth", "--images", "photos", *SMALL, "--run", "r")
    assert done.code == 0 and "agreement" in done.out
    assert "the network has 10 classes, and there are 2 class folders: their labels are not used" in done.err
    done = run("ten.pth", "--images", "photos", *SMALL, "--run", "s", "--classes", "7,2")
    assert done.code == 0 and "Warning" not in done.err and "accuracy" in done.out


def test_images_without_classes_and_grey_networks(run, tmp_path):
    torch.save(model(5, channels=1).state_dict(), "grey.pth")
    command = ("grey.pth", "--images", "photos/ant", *SMALL, "--run", "r")
    done = run(*command)
    assert done.code == 2 and "reads images of 1 channels: give --mean and --std, one number" in done.err
    done = run(*command, "--mean", 0.5, "--std", 0.25)
    assert done.code == 0 and "agreement" in done.out and read_record(tmp_path / "r").images.shape == (1, 32, 32)


def bad_photo(folder):
    (folder / "photos/ant/0.png").write_bytes(b"nonsense")


def splits(folder):
    for name in ("train", "val"):
        (folder / "photos" / name / "x").mkdir(parents=True)


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        (None, ("nowhere.pth",), "no weights file"),
        (None, ("densenet12",), "Did you mean 'densenet121'"),
        (lambda p: torch.save(model(), p / "whole.pt"), ("whole.pt",), "torch.save(model.state_dict()"),
        (lambda p: torch.save([1], p / "list.pt"), ("list.pt",), "should hold a state dict"),
        (lambda p: torch.save({"a": torch.ones(1)}, p / "a.pt"), ("a.pt",), "has no features.conv0.weight"),
        (lambda p: torch.save(model(2, 5).state_dict(), p / "5.pt"), ("5.pt",), "images of 5 channels"),
        (lambda p: (p / "x.pth").write_bytes(b"x" * 99), ("x.pth",), "damaged"),
        (bad_photo, ("mine.pth",), "cannot be read as an image"),
        (splits, ("mine.pth",), "would be splits"),
        (None, ("mine.pth", "--valid", "photos/ant", "--classes", "0,1,2"), "2 classes of images, and 3"),
        (None, ("mine.pth", "--classes", "0,2"), "from 0 to 1"),
        (None, ("mine.pth", "--classes", "a"), "--classes are numbers"),
        (None, ("mine.pth", "--mean", "0.5"), "both --mean and --std"),
        (None, ("mine.pth", "--crop", 64), "as large a photo"),
        (None, ("mine.pth", "--max-macs", 0.01), "channels in each layer: 1"),
        (None, ("mine.pth", "--valid", "nowhere"), "no folder of images"),
        (lambda p: photos(p / "other", ("ant", "cat")), ("mine.pth", "--test", "other"), "class folders ant, cat"),
        (lambda p: (p / "full").write_text(""), ("mine.pth", "--run", "full"), "full cannot be written"),
    ],
)
def test_what_cannot_be_used_is_one_line(run, tmp_path, change, arguments, says):
    if change is not None:
        change(tmp_path)
    model_file, *options = arguments
    done = run(model_file, "--images", "photos", *SMALL, *options)
    assert done.code == 2 and says in " ".join(done.err.split())
    assert "Traceback" not in done.err and not (tmp_path / "runs").exists()


def test_published_weights_that_cannot_be_downloaded(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("urllib.request._opener", None)  # which keeps the proxies that it was made with
    for name in ("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there
    done = run("densenet121", "--images", "photos")
    assert done.code == 2 and "could not be downloaded" in done.err
