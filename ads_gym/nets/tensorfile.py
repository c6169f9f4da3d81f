"""Reading what `torch.save` wrote, without running what may be hidden in it."""

import warnings
from pathlib import Path
from typing import Any

import torch

from ads_gym.errors import DamagedFile, StorageError


def load_tensors(path: Path) -> Any:
    """Tensors, numbers and strings in lists and dicts, on the CPU.

    Raises:
        StorageError: a file that may not be read.
        DamagedFile: anything else, or more than that; nothing in it was run.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's doubts about a foreign pickle, before it refuses it
            return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, KeyError, ... on bad bytes
        raise DamagedFile(
            f"{path} is damaged, or holds more than tensors and plain values, and was not used."
        ) from error
