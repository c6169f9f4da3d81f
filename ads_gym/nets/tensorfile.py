"""Tensors in files: safetensors, and what `torch.save` wrote, read without running what may be hidden in it."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from ads_gym.errors import DamagedFile
from ads_gym.files import read_bytes, write_file


def read_tensors(path: Path, what: str = "file of tensors") -> Any:
    """What `write_tensors` or `torch.save` wrote: tensors, numbers and strings in lists and dicts, on the CPU.

    Args:
        path: of the file.
        what: is in it, for messages.

    Raises:
        NotFound, StorageError: no such file, or one that may not be read.
        DamagedFile: anything else, or more than that; nothing in it was run.
    """
    content = read_bytes(path, what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's doubts about a foreign pickle, before it refuses it
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, KeyError, ... on bad bytes
        raise DamagedFile(
            f"{path} is damaged, or holds more than tensors and plain values, and was not used."
        ) from error


def write_tensors(path: Path, value: Any) -> None:
    """Write tensors and plain values, whole or not at all.

    Raises:
        StorageError: no space, no permission; what was there before is still there.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    write_file(path, buffer.getvalue())


def read_safetensors(path: Path, what: str = "weights file") -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU.

    Args:
        path: of the file.
        what: is in it, for messages.

    Raises:
        NotFound, StorageError: no such file, or one that may not be read.
        DamagedFile: no safetensors file.
    """
    content = read_bytes(path, what)
    try:
        return dict(sorted(safetensors.load(content).items()))  # it has no order of its own
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise DamagedFile(f"{path} is damaged, or no safetensors file: {error}") from error


def to_safetensors(state_dict: Mapping[str, Tensor]) -> bytes:
    """A safetensors file of these tensors. (Writing it ourselves gives it the umask's mode.)"""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    return safetensors.save(tensors, {"format": "pt"})
