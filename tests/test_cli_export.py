"""`ads-gym export`: what it reads, what it writes and says, and how it answers what it cannot use."""

import runpy
import sys

import numpy as np
import pytest
import torch
from commands import run_here

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.nets.sparse import SparseDenseNet, load, save

CONFIG = DenseNetConfig((2, 2), 2, 4, "conv3", image_shape=(1, 8, 8), classes=3)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    architecture = Architecture(CONFIG, [True, False])
    for name in ("run/best", "net.v2", "damaged", "lonely"):
        save(SparseDenseNet(architecture), tmp_path / name)
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "damaged.safetensors").read_bytes()[:-10])
    (tmp_path / "lonely.safetensors").unlink()
    (tmp_path / "empty").mkdir()
    return lambda *arguments: run_here(capsys, "export", *arguments)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(done, *says):
    assert done.code == 2 and done.out == "" and done.err.startswith("Error: ") and done.err.count("\n") == 1, done
    assert all(part in done.err for part in says), done.err


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (("run",), ["run/best.onnx"]),
        (("run/best", "--folded"), ["run/best-folded.onnx"]),
        (("run/best.json", "--format", "torch-export"), ["run/best.pt2"]),
        (("net.v2", "--format", "torch-export", "--folded"), ["net.v2-folded.pt2"]),
        (("net.v2.safetensors", "--format", "python", "--out", "deep/mine"), ["deep/mine.py", "deep/mine.pt"]),
    ],
)
def test_it_writes_beside_the_weights_or_where_it_is_told(run, tmp_path, arguments, written):
    before = files(tmp_path)
    done = run(*arguments)
    assert done.code == 0, done
    *lines, told = done.out.splitlines()
    assert lines == [f"{tmp_path / name}  {(tmp_path / name).stat().st_size:,} bytes" for name in written]
    assert told.startswith("loaded again: on 1 and 3 random images, logits differ by ")
    after = files(tmp_path)
    assert {*after} == {*before, *written} and before.items() <= after.items()


def test_onnx_is_read_by_onnxruntime(run):
    runtime = pytest.importorskip("onnxruntime")
    assert run("run", "--folded", "--out", "net.onnx").code == 0
    images = torch.rand(7, 1, 8, 8) * 2 - 1
    (logits,) = runtime.InferenceSession("net.onnx").run(None, {"images": images.numpy()})
    np.testing.assert_allclose(logits, load("run")(images).detach().numpy(), rtol=0, atol=1e-4)


def test_what_is_there_is_replaced_only_if_told(run, tmp_path):
    (tmp_path / "mine.pt2").write_text("mine")
    command = ("run", "--format", "torch-export", "--out", "mine.pt2")
    refused(run(*command), "mine.pt2 is there already", "--out", "--replace")
    assert (tmp_path / "mine.pt2").read_text() == "mine"
    assert run(*command, "--replace").code == 0
    assert torch.export.load("mine.pt2").module()(torch.zeros(5, 1, 8, 8)).shape == (5, 3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--format", "onx"), ("unknown format 'onx'", "Did you mean 'onnx'")),
        (("run", "--format", "python", "--folded"), ("do not fold it",)),
        (("nowhere",), ("nowhere.json",)),
        (("empty",), ("empty/best.json",)),
        (("damaged",), ("damaged.safetensors", "damaged")),
        (("lonely",), ("lonely.safetensors",)),
        (("run", "--out", "empty"), ("empty is a folder",)),
        (("run", "--out", "damaged.json/x", "--format", "torch-export"), ("cannot be written",)),
    ],
)
def test_bad_input_is_one_clear_line(run, tmp_path, arguments, says):
    before = files(tmp_path)
    refused(run(*arguments), *says)
    assert files(tmp_path) == before


def test_a_missing_package_is_told_with_the_line_that_installs_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused(run("run"), "onnxruntime", "pip install -e '.[onnx]'")


@pytest.mark.slow
def test_a_search_goes_into_a_program(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADS_GYM_HOME", str(tmp_path / "home"))
    assert run_here(capsys, "search", "--agent", "random", "--evaluations", 4, "--run", "r").code == 0
    assert run_here(capsys, "export", "r", "--format", "python").code == 0
    network = runpy.run_path("r/best.py")["load"]()
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(network(images), load("r")(images))
