"""A sparse network for programs that know nothing of ads-gym: ONNX, torch.export, or a Python file for torch alone.

Whatever is written was loaded again before, and compared with the network on random images.
"""

import copy
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import BeforeValidator
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ads_gym.choices import Choice
from ads_gym.errors import InvalidValue
from ads_gym.files import exists, file_errors, is_folder, resolve, write_files
from ads_gym.imports import import_package
from ads_gym.limits import check_memory
from ads_gym.nets import onnx_graph, standalone
from ads_gym.nets.cost import map_bytes
from ads_gym.nets.folded import fold
from ads_gym.nets.sparse import SparseDenseNet
from ads_gym.records import checked
from ads_gym.torch_state import isolated

TOLERANCE = 1e-4  # of the largest difference, see `Exported`
BATCHES = (1, 3)  # images of the comparisons

__all__ = ["ExportFormat", "Exported", "export", "exported_files"]


class ExportFormat(Choice, what="format"):
    """What a network is exported to."""

    ONNX = "onnx"  # for onnxruntime and its like
    TORCH_EXPORT = "torch-export"  # for torch.export.load
    PYTHON = "python"  # a module to read and change; its weights, a state dict, are a second file


FormatName = Annotated[ExportFormat, BeforeValidator(ExportFormat)]  # or its value
ENDINGS = {ExportFormat.ONNX: (".onnx",), ExportFormat.TORCH_EXPORT: (".pt2",), ExportFormat.PYTHON: (".py", ".pt")}


@dataclass(frozen=True)
class Exported:
    """What `export` wrote."""

    files: tuple[Path, ...]  # the first is the one to load
    format: ExportFormat
    folded: bool
    size: int  # bytes, of all files
    difference: float  # the largest between its logits and the network's, in units of max(1, the largest |logit|)


class _Made(NamedTuple):
    """Contents of files by their endings, and how they compute: images of several batches in, logits of each out."""

    contents: Mapping[str, bytes]
    run: Callable[[Sequence[Tensor]], list[Tensor]]


@checked
def export(
    network: SparseDenseNet,
    path: str | Path,
    format: FormatName = ExportFormat.ONNX,
    *,
    folded: bool = False,
    replace: bool = False,
) -> Exported:
    """Write a sparse network in eval mode, float32, for any number of images of the config's size.

    Args:
        network: it is not changed.
        path: where, with or without the format's ending (.onnx, .pt2, .py).
        format: "onnx"; "torch-export"; or "python", which is for any size of images, and can be trained.
        folded: without BatchNorms and faster, see `ads_gym.nets.folded.fold`; not for "python".
        replace: whether files that are there are replaced.

    Raises:
        UnknownName: no such format.
        InvalidValue: files that are there; a network whose export gives other logits; one that is too large.
        MissingPackage: the format needs a package that is not installed.
        StorageError: no space or no permission; what stood there before still does.
    """
    if folded and format is ExportFormat.PYTHON:
        raise InvalidValue("a Python file has the BatchNorms, so that it can be trained: do not fold it, or take ONNX.")
    files = exported_files(path, format)
    taken = [file for file in files if exists(file)]
    if taken and not replace:
        raise InvalidValue(f"{taken[0]} is there already: give another path (--out), or replace it (--replace).")
    config = network.architecture.config
    check_memory(f"an export of images {config.image_shape}", max(BATCHES) * map_bytes(config))
    with isolated(torch.device("cpu")):
        plain = copy.deepcopy(network).cpu().float().eval()
        made = _MAKERS[format](plain, fold(plain) if folded else plain)
        difference = _compare(plain, made)
    contents = dict(zip(files, made.contents.values(), strict=True))
    write_files(dict(reversed(contents.items())))  # the one to load comes last
    return Exported(files, format, folded, sum(map(len, contents.values())), difference)


def exported_files(path: str | Path, format: ExportFormat) -> tuple[Path, ...]:
    """The files of an export to `path`; the first is the one to load.

    Raises:
        InvalidValue: a folder.
    """
    stem, endings = resolve(path), ENDINGS[format]
    if stem.suffix in endings:
        stem = stem.with_suffix("")
    elif is_folder(stem):
        raise InvalidValue(f"{stem} is a folder: give the name of a file in it.")
    return tuple(stem.with_name(stem.name + ending) for ending in endings)


def _compare(network: SparseDenseNet, made: _Made) -> float:
    """The largest difference, see `Exported`.

    Raises:
        InvalidValue: it is too large.
    """
    shape, generator = network.architecture.config.image_shape, torch.Generator().manual_seed(0)
    batches = [torch.rand(n, *shape, generator=generator, dtype=torch.float32) * 2 - 1 for n in BATCHES]
    expected = torch.cat([network(images) for images in batches])
    got = torch.cat(made.run(batches))
    difference = float((got - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    if not difference <= TOLERANCE:
        raise InvalidValue(
            f"logits of what would be written differ by {difference:.2g} from the network's on random images, relative "
            f"to the largest, and {TOLERANCE:g} is the most: its weights are too large for float32, or no numbers."
        )
    return difference


def _program(network: SparseDenseNet, model: nn.Module) -> ExportedProgram:
    """Traced with two images: torch.export takes a batch of one for a constant."""
    images = torch.zeros(2, *network.architecture.config.image_shape, dtype=torch.float32, device="cpu")
    return torch.export.export(model, (images,), dynamic_shapes=({0: Dim("batch")},))


def _to_onnx(network: SparseDenseNet, model: nn.Module) -> _Made:
    runtime: Any = import_package("onnxruntime", onnx_graph.INSTALL)
    import_package("onnx", onnx_graph.INSTALL)
    described = "images: float, scaled as in training (ads-gym's own tasks: pixel / 127.5 - 1); logits: one a class"
    content = onnx_graph.to_onnx(_program(network, model), described)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(batches: Sequence[Tensor]) -> list[Tensor]:
        return [torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0]) for images in batches]

    return _Made({".onnx": content}, run)


def _to_torch_export(network: SparseDenseNet, model: nn.Module) -> _Made:
    buffer = io.BytesIO()
    torch.export.save(_program(network, model), buffer)
    loaded = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    return _Made({".pt2": buffer.getvalue()}, lambda batches: [loaded(images) for images in batches])


def _to_python(network: SparseDenseNet, _: nn.Module) -> _Made:
    contents = {".py": standalone.program(network).encode(), ".pt": _saved(dict(network.state_dict()))}

    def run(batches: Sequence[Tensor]) -> list[Tensor]:
        with file_errors(tempfile.gettempdir(), "written"), tempfile.TemporaryDirectory() as folder:
            for ending, content in contents.items():
                Path(folder, f"network{ending}").write_bytes(content)
            Path(folder, "batches").write_bytes(_saved(list(batches)))
            return _run_alone(Path(folder))

    return _Made(contents, run)


_MAKERS = {
    ExportFormat.ONNX: _to_onnx,
    ExportFormat.TORCH_EXPORT: _to_torch_export,
    ExportFormat.PYTHON: _to_python,
}

_ALONE = """
import runpy, sys, torch
batches = torch.load(sys.argv[1] + "/batches", weights_only=True)
network = runpy.run_path(sys.argv[1] + "/network.py")["load"]()
with torch.no_grad():
    torch.save([network(images) for images in batches], sys.argv[1] + "/logits")
"""


def _run_alone(folder: Path) -> list[Tensor]:
    """The logits that the network in a folder gives in a process of its own, which does not know ads-gym.

    Raises:
        InvalidValue: it fails.
    """
    command = [sys.executable, "-I", "-c", _ALONE, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise InvalidValue(f"the Python file that would be written does not run in {sys.executable}: {reason}")
    logits: list[Tensor] = torch.load(folder / "logits", weights_only=True)
    return logits


def _saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
