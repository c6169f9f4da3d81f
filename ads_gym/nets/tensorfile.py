"""Tensors in files: safetensors, and state dicts that `torch.save` wrote, read without running what they may hide."""

import io
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from ads_gym.errors import DamagedFile, InvalidValue
from ads_gym.files import file_errors, naming, opened, read_bytes, write_file
from ads_gym.limits import MAX_JSON_BYTES, MAX_TENSORS_BYTES, check_memory
from ads_gym.nets.arrays import check_header


def most_bytes(parameters: int) -> int:
    """Bytes that a file of a network's weights, statistics and momenta has at most, in float64."""
    return 4 * 8 * parameters + MAX_JSON_BYTES


def read_safetensors(path: Path, what: str = "weights file", limit: int = MAX_TENSORS_BYTES) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU.

    Args:
        path: of the file.
        what: is in it, for messages.
        limit: bytes that such a file has at most.

    Raises:
        NotFound, StorageError: no such file, or one that may not be read.
        DamagedFile: no safetensors file.
    """
    return _parse_safetensors(read_bytes(path, what, limit), path, what)


def _parse_safetensors(content: bytes, path: Path, what: str) -> dict[str, Tensor]:
    """The tensors in the content of a safetensors file.

    Raises:
        DamagedFile: no safetensors file.
    """
    with naming(path, what):
        check_header(content)
        try:
            return dict(sorted(safetensors.load(content).items()))  # it has no order of its own
        except Exception as error:  # SafetensorError, KeyError, ... on offsets that overlap or leave holes
            raise DamagedFile(f"it is damaged: {error!s:.200}.") from error


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, whole or not at all.

    Raises:
        StorageError: no space, no permission; what was there before is still there.
    """
    write_file(path, to_safetensors(tensors))


def to_safetensors(state_dict: Mapping[str, Tensor]) -> bytes:
    """A safetensors file of these tensors. (Writing it ourselves gives it the umask's mode.)

    Raises:
        InvalidValue: something else than tensors.
    """
    if not all(isinstance(tensor, Tensor) for tensor in state_dict.values()):
        raise InvalidValue("a state dict holds tensors by name.")
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    return safetensors.save(tensors, {"format": "pt"})


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a user's own file by name, on the CPU: .safetensors, or a state dict that `torch.save` wrote.

    Raises:
        NotFound, StorageError: no such file, or one that may not be read.
        DamagedFile: anything else, or more than tensors; nothing in it was run.
    """
    return _state_of(_read_saved(path), path)


class Checkpoint(NamedTuple):
    """The weights in a file that a training wrote."""

    state: dict[str, Tensor]
    entry: str | None  # under which the file has them, beside other things; None: it holds nothing else


ENTRIES = ("state_dict", "model_state_dict", "model", "net", "network", "model_ema", "ema", "weights")


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in a user's own file: as `read_state_dict`, or an entry of a dict beside epochs and optimizers.

    Raises:
        NotFound, StorageError, DamagedFile: as `read_state_dict`.
    """
    saved = _read_saved(path)
    if isinstance(saved, dict):
        for entry in ENTRIES:
            if isinstance(saved.get(entry), dict) and saved[entry]:
                return Checkpoint(_state_of(saved[entry], path), entry)
    return Checkpoint(_state_of(saved, path), None)


def _read_saved(path: Path) -> Any:
    """What a file of tensors holds: tensors and plain values, on the CPU.

    Raises:
        NotFound, StorageError, DamagedFile: as `read_state_dict`.
    """
    with opened(path, "weights file", MAX_TENSORS_BYTES) as file, file_errors(path):
        size = os.fstat(file.fileno()).st_size
        check_memory(f"reading the weights file {path}", 2 * size)
        content = file.read(size)
    if path.suffix == ".safetensors":
        return _parse_safetensors(content, path, "weights file")
    _check_archive(content, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's doubts about a foreign pickle, before it refuses it
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, KeyError, ... on bad bytes
        raise DamagedFile(
            f"{path} is damaged, or holds more than tensors and plain values, and was not used: give what "
            "torch.save(model.state_dict(), path) writes."
        ) from error


def _state_of(saved: Any, path: Path) -> dict[str, Tensor]:
    """What was saved, if it is a state dict.

    Raises:
        DamagedFile: it is none.
    """
    if not isinstance(saved, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) and tensor.layout is torch.strided
        for name, tensor in saved.items()
    ):
        raise DamagedFile(f"{path} should hold a state dict (names and tensors), got {type(saved).__name__}.")
    return dict(saved)


_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")  # as torchvision renames them


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the names of wrappers, and with "norm1" where torchvision's old files have "norm.1"."""
    named = {str(name): tensor for name, tensor in state.items()}
    while wrapper := next((w for w in _WRAPPERS if named and all(name.startswith(w) for name in named)), None):
        named = {name.removeprefix(wrapper): tensor for name, tensor in named.items()}
    return {_OLD_NAME.sub(r"\1\2", name): tensor for name, tensor in named.items()}


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load all weights and buffers of a network.

    Args:
        network: changed in place, also where an error is raised.
        weights: by name.
        source: where they are from, for messages.

    Raises:
        DamagedFile: weights of another network; NaN, infinities, or negative variances among them.
    """
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise DamagedFile(f"{source} does not hold the weights of this network ({reason}).") from error
    check_finite(network, source)


def check_finite(network: nn.Module, source: object) -> None:
    """Check that a network's weights are numbers, and its variances no negative ones.

    Raises:
        DamagedFile: they are not.
    """
    for name, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all() or (name.endswith("running_var") and (tensor < 0).any()):
            raise DamagedFile(
                f"{source}: the weights {name!r} are no numbers (NaN or infinite), or are negative variances."
            )


def _check_archive(content: bytes, path: Path) -> None:
    """Check that the archive of `torch.save` holds no more than its bytes: it stores, and never compresses."""
    if not zipfile.is_zipfile(io.BytesIO(content)):  # the format before torch 1.6
        return
    try:
        entries = zipfile.ZipFile(io.BytesIO(content)).infolist()
    except Exception as error:  # BadZipFile, and others on bad bytes
        raise DamagedFile(f"{path} is damaged: {error!s:.200}.") from error
    if sum(entry.file_size for entry in entries) > len(content) or any(entry.compress_type for entry in entries):
        raise DamagedFile(f"{path} is no file of torch.save: its entries are compressed.")
