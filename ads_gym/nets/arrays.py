"""Arrays in safetensors files. No torch.

What a file says of itself is checked before anything is allocated for it.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from numpy.typing import NDArray
from pydantic import FailFast, Field

from ads_gym.errors import DamagedFile, InvalidValue, shown
from ads_gym.files import naming, read_bytes
from ads_gym.limits import MAX_ENTRIES, MAX_JSON_BYTES, MAX_TENSORS_BYTES
from ads_gym.records import Count, Text, check, parse_json, record

_ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
MAX_TENSORS = 100_000  # in one file


@record
class TensorEntry:
    """What the header of a safetensors file says of one tensor."""

    dtype: Literal["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"]
    shape: Annotated[tuple[Count, ...], Field(max_length=8), FailFast()]
    data_offsets: tuple[Count, Count]  # bytes behind the header: first, and behind the last

    def __post_init__(self) -> None:
        first, end = self.data_offsets
        if end - first != math.prod(self.shape) * _ITEM_SIZES[self.dtype]:
            raise InvalidValue(f"bytes {first} to {end} are no tensor {list(self.shape)} of {self.dtype}.")


def read_arrays(path: Path, what: str, limit: int = MAX_TENSORS_BYTES) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file by name.

    Args:
        path: of the file.
        what: is in it, for messages.
        limit: bytes that such a file has at most.

    Raises:
        NotFound, StorageError: no such file, or one that may not be read.
        DamagedFile: no safetensors file.
    """
    from safetensors import numpy as safetensors

    content = read_bytes(path, what, limit)
    with naming(path, what):
        check_header(content)
        try:
            return dict(safetensors.load(content))
        except Exception as error:  # SafetensorError, KeyError, ... on offsets that overlap or leave holes
            raise DamagedFile(f"it is damaged: {error!s:.200}.") from error


def to_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A safetensors file of arrays."""
    from safetensors import numpy as safetensors

    return bytes(safetensors.save(dict(arrays)))


def check_header(content: bytes) -> None:
    """Check what a safetensors file says of itself, before anything is allocated for it."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, MAX_JSON_BYTES):
        raise DamagedFile("it is damaged, or no safetensors file: its header does not fit into it.")
    header = parse_json(content[8 : 8 + length])
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise DamagedFile("it is damaged, or no safetensors file: its header is no object of tensors.")
    check(header.pop("__metadata__", {}), Annotated[dict[Text, Text], Field(max_length=MAX_ENTRIES)], "__metadata__")
    for name, values in header.items():
        if not isinstance(values, dict):
            raise DamagedFile(f"what its header says of {shown(name)} is no object.")
        entry = TensorEntry(**values)
        if entry.data_offsets[1] > len(content) - 8 - length:
            raise DamagedFile(f"it ends before the tensor {shown(name)} does.")
