"""Exports are read again by what they are for: onnxruntime, torch.export, and a Python that has nothing but torch."""

import copy
import dataclasses
import importlib
import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from marks import slow
from networks import BN_SIZE, KINDS, trained_looking

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.compression.sparsify import sparsify
from ads_gym.errors import AdsGymError, InvalidValue, MissingPackage, StorageError, UnknownName
from ads_gym.limits import allow_large
from ads_gym.nets import export as exporting
from ads_gym.nets import onnx_graph, standalone
from ads_gym.nets.export import ExportFormat, export
from ads_gym.nets.sparse import SparseDenseNet, build_sparse
from ads_gym.topology import Scope, Topology

FORMATS = [("onnx", False), ("onnx", True), ("torch-export", False), ("torch-export", True), ("python", False)]
TINY = DenseNetConfig((2, 2), 2, 4, image_shape=(1, 8, 8), classes=2)
ONE_BLOCK = DenseNetConfig((3,), 3, 5, "conv3-stride2", True, image_shape=(4, 9, 9), classes=3)


def sparse(config, scope=Scope.ALL, seed=0):
    mask = np.random.default_rng(seed).random(Topology(config.blocks, scope).size) < 0.5
    return build_sparse(Architecture(config, mask, scope), trained_looking(config))


def images_of(network, n, seed=5):
    shape = network.architecture.config.image_shape
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def is_near(got, expected):
    bound = 1e-4 * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(got, expected, rtol=0, atol=bound)


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@torch.no_grad()
def read_again(made, images):
    """The logits that the first of the exported files gives."""
    path = made.files[0]
    if path.suffix == ".onnx":
        session = importlib.import_module("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(images)
    return runpy.run_path(str(path))["load"]()(images)


@pytest.mark.parametrize("config", [*map(slow, KINDS[:3]), *KINDS[3:]], ids=str)
@pytest.mark.parametrize(("format_", "folded"), FORMATS)
def test_what_is_written_computes_the_same_for_any_batch(tmp_path, config, format_, folded):
    network = sparse(config)
    before = copy.deepcopy(network.state_dict())
    made = export(network.train(), tmp_path / "net", format_, folded=folded)
    assert network.training and all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    assert {path.name: path.stat().st_size for path in made.files} == {
        name: len(content) for name, content in files_in(tmp_path).items()
    }
    assert (made.format, made.folded) == (format_, folded) and 0 <= made.difference <= 1e-4
    assert made.size == sum(path.stat().st_size for path in made.files)
    network.eval()
    for n in (1, 2, 9):
        is_near(read_again(made, images_of(network, n)), network(images_of(network, n)).detach())


@pytest.mark.parametrize("config", [*KINDS, BN_SIZE, ONE_BLOCK, TINY], ids=str)
@pytest.mark.parametrize("scope", Scope)
def test_a_program_is_the_network_and_is_short(tmp_path, config, scope):
    network = sparse(config, scope)
    (tmp_path / "mine.py").write_text(standalone.program(network))
    torch.save(network.state_dict(), tmp_path / "mine.pt")
    program = runpy.run_path(str(tmp_path / "mine.py"))
    other = program["load"]()
    assert list(other.state_dict()) == list(network.state_dict()) and not other.training
    assert torch.equal(other(images_of(network, 3)), network(images_of(network, 3)))
    assert torch.equal(torch.fx.symbolic_trace(other)(images_of(network, 3)), network(images_of(network, 3)))
    images = torch.rand(4, config.image_shape[0], 40, 36)  # of any size, and it learns
    assert torch.equal(other.train()(images), network.train()(images))
    text = (tmp_path / "mine.py").read_text()
    assert len(text.splitlines()) < 120 and max(map(len, text.splitlines())) <= 120


def test_layers_may_have_different_widths(tmp_path):
    """The program follows the weights, and not what the config says of every layer."""
    network = sparse(KINDS[1])
    block = network.features.get_submodule("denseblock2")
    for width, layer in zip((3, 16, 5, 1), block, strict=True):
        layer.conv1 = torch.nn.Conv2d(layer.conv1.in_channels, width, 1, bias=False)
        layer.norm2 = torch.nn.BatchNorm2d(width).eval()
        layer.conv2 = torch.nn.Conv2d(width, layer.conv2.out_channels, 3, padding=1, bias=False)
    made = export(network, tmp_path / "net", "python")
    assert "WIDTHS = [[16] * 3, [3, 16, 5, 1], [16] * 3]" in made.files[0].read_text()
    assert torch.equal(read_again(made, images_of(network, 2)), network(images_of(network, 2)))


def test_long_tables_are_wrapped_and_runs_are_products():
    config = DenseNetConfig((6, 12, 24, 16), 32, 64, "conv7-pool", True, 0.5, (3, 224, 224), 1000)
    size = Topology(config.blocks).size
    for mask in (np.random.default_rng(0).random(size) < 0.5, np.ones(size, bool)):
        network = SparseDenseNet(Architecture(config, mask), "meta")
        text = standalone.program(network)
        found = {}
        exec(compile(text.split("class Layer")[0], "tables", "exec"), found)
        assert tuple(tuple(counts) for block in found["READS"] for counts in block) == network.architecture.channels
        assert len(text.splitlines()) < 120 and max(map(len, text.splitlines())) <= 120
    assert "[256, *[32] * 24]" in text


def test_long_tables_of_channels_are_wrapped():
    full = DenseNetConfig((6, 12, 24, 16), 32, 64, "conv7-pool", True, 0.5, (3, 224, 224), 1000)
    rng = np.random.default_rng(0)
    config = dataclasses.replace(full, widths=tuple(8 * rng.integers(1, 17, 58)))
    reads = tuple(
        tuple(width if rng.random() < 0.7 else 8 * int(rng.integers(1, 4)) for width in widths)
        for widths in config.source_widths
    )
    text = standalone.program(SparseDenseNet(Architecture.reading(config, reads), "meta"))
    found = {}
    exec(compile(text, "program", "exec"), found)
    assert tuple(tuple(counts) for block in found["READS"] for counts in block) == reads
    assert [width for block in found["WIDTHS"] for width in block] == list(config.widths)
    assert len(text.splitlines()) <= 140 and max(map(len, text.splitlines())) <= 120


def test_a_program_needs_nothing_but_torch(tmp_path):
    """`python net.py` tells a summary, and neither this package nor safetensors is imported."""
    network = sparse(KINDS[4])
    made = export(network, tmp_path / "net", "python")
    code = f"""
import runpy, sys
before = set(sys.modules)
network = runpy.run_path({str(made.files[0])!r}, run_name="__main__")["load"]()
import torch
of_torch = {{name for name in sys.modules if name not in before}}
print(sorted({{"ads_gym", "safetensors", "onnx", "torchvision", "pydantic"}} & of_torch))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=120)
    parameters, shapes, modules = done.stdout.splitlines()
    assert parameters == f"{sum(each.numel() for each in network.parameters()):,} parameters"
    assert shapes == "images [1, 3, 33, 30] -> logits [1, 4]" and modules == "[]"
    linted = ("check", "--isolated", "--line-length", "120", "--select", "E,F,W,I,B,UP,SIM,C4,PTH", made.files[0])
    assert subprocess.run([sys.executable, "-m", "ruff", *linted], check=False, capture_output=True).returncode == 0


def test_an_onnx_file_says_what_it_reads_and_holds_the_weights_by_name(tmp_path):
    onnx = pytest.importorskip("onnx")
    network = sparse(KINDS[1])
    model = onnx.load(export(network, tmp_path / "net").files[0])
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["batch", 2, 17, 14], ["batch", 7]]
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits"]
    assert "pixel / 127.5 - 1" in model.doc_string
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert set(state) <= set(stored) and all(np.array_equal(stored[name], value) for name, value in state.items())


def test_two_exports_are_the_same_file(tmp_path):
    one, other = (export(sparse(TINY), tmp_path / name).files[0] for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()


def test_other_precisions_are_exported_as_float32(tmp_path):
    network = sparse(KINDS[0])
    expected = network(images_of(network, 2)).detach()
    made = export(network.double(), tmp_path / "net", folded=True)
    assert network.classifier.weight.dtype == torch.float64
    is_near(read_again(made, images_of(network, 2)), expected)


@pytest.mark.parametrize(("name", "written"), [("net", "net.onnx"), ("net.onnx", "net.onnx"), ("v1.2", "v1.2.onnx")])
def test_where_it_goes(tmp_path, monkeypatch, name, written):
    monkeypatch.chdir(tmp_path)
    assert export(sparse(TINY), f"new/{name}").files == (tmp_path / "new" / written,)
    assert list(files_in(tmp_path / "new")) == [written]


@pytest.mark.parametrize("format_", ExportFormat)
def test_what_is_there_is_kept_unless_it_is_to_be_replaced(tmp_path, format_):
    endings = exporting.ENDINGS[format_]
    for ending in endings:
        (tmp_path / f"net{ending}").write_text("mine")
    before = files_in(tmp_path)
    with pytest.raises(InvalidValue, match=rf"net{endings[0]} is there already.*--out.*--replace"):
        export(sparse(TINY), tmp_path / "net", format_)
    assert files_in(tmp_path) == before
    export(sparse(TINY), tmp_path / "net", format_, replace=True)
    assert set(files_in(tmp_path)) == set(before) and b"mine" not in files_in(tmp_path).values()


def test_a_network_that_computes_something_else_is_not_written(tmp_path):
    """Its weights are no numbers; a saved network of that kind is refused when it is loaded."""
    network = sparse(TINY)
    with torch.no_grad():
        network.classifier.weight[0, 0] = float("nan")
    for format_ in (ExportFormat.ONNX, ExportFormat.TORCH_EXPORT):
        with pytest.raises(InvalidValue, match="differ by nan from the network's"):
            export(network, tmp_path / "net", format_)
    assert not files_in(tmp_path)


@pytest.mark.slow
def test_a_difference_is_seen(tmp_path, monkeypatch):
    network, maker = sparse(TINY), exporting._MAKERS[ExportFormat.PYTHON]

    def other(plain, model):
        worse = copy.deepcopy(plain)
        worse.classifier.bias.data += 2e-4 * float(plain(images_of(plain, 3)).abs().max().clamp(min=1))
        return maker(worse, worse)

    monkeypatch.setitem(exporting._MAKERS, ExportFormat.PYTHON, other)
    with pytest.raises(InvalidValue, match=r"0\.000\d+ is|differ by 0\.000\d+ from"):
        export(network, tmp_path / "net", "python")
    assert not files_in(tmp_path)


@pytest.mark.slow
def test_a_program_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(standalone, "program", lambda network: "raise SystemError('broken')")
    with pytest.raises(InvalidValue, match=r"does not run in .*: SystemError: broken"):
        export(sparse(TINY), tmp_path / "net", "python")
    assert not files_in(tmp_path)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_a_package_there_is_the_line_that_installs_it(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingPackage, match=rf"needs {missing}, .*pip install -e '\.\[onnx\]'"):
        export(sparse(TINY), tmp_path / "net")
    assert not files_in(tmp_path)
    export(sparse(TINY), tmp_path / "net", "torch-export")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("net", "onx"), UnknownName, "Did you mean 'onnx'"),
        (("net", 3), UnknownName, "unknown format 3"),
        (("folder",), InvalidValue, "folder is a folder"),
        (("folder/file/net", "torch-export"), StorageError, "net.pt2 cannot be written"),
        (("",), InvalidValue, "a path is a text"),
    ],
)
def test_wrong_arguments_are_told(tmp_path, monkeypatch, arguments, error, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("")
    with pytest.raises(error, match=says):
        export(sparse(TINY), *arguments)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "file"]


def test_what_cannot_be_is_told_before_any_work(tmp_path, monkeypatch):
    with pytest.raises(InvalidValue, match="do not fold it"):
        export(sparse(TINY), tmp_path / "net", "python", folded=True)
    with pytest.raises(AdsGymError, match="network"):
        export(trained_looking(TINY), tmp_path / "net")
    huge = DenseNetConfig((2,), 4, 64, "conv3", image_shape=(3, 8192, 8192))
    with allow_large():
        network = SparseDenseNet(Architecture(huge, [True]))
    with pytest.raises(InvalidValue, match=r"an export of images .* would need"):
        export(network, tmp_path / "net")
    monkeypatch.setattr(onnx_graph, "MOST_BYTES", 100)
    with pytest.raises(InvalidValue, match="less than 2 GiB, and these weights are"):
        export(sparse(TINY), tmp_path / "net")
    assert not files_in(tmp_path)


def test_an_operation_that_is_not_in_the_table_is_told():
    program = torch.export.export(torch.nn.Tanh(), (torch.zeros(2, 3),))
    with pytest.raises(InvalidValue, match=r"the operation aten\.tanh\.default"):
        onnx_graph.to_onnx(program, "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
def test_a_full_temporary_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(AdsGymError, match=r"gone cannot be written"):
        export(sparse(TINY), tmp_path / "net", "python")
    assert not files_in(tmp_path)


@pytest.mark.slow
def test_a_smaller_densenet_of_torchvisions_in_every_format(tmp_path):
    densenet = pytest.importorskip("torchvision.models.densenet")
    torch.manual_seed(0)
    images = torch.randn(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    made = sparsify(densenet.DenseNet(8, (2, 2), 16, num_classes=5), images, max_macs=0.99, distil=0, evaluations=0)
    for format_, folded in FORMATS:
        written = export(made.network, tmp_path / f"net{folded}", format_, folded=folded)
        is_near(read_again(written, images[:2]), made.network(images[:2]).detach())
