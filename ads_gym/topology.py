"""Skip connections of a DenseNet, their order, and conversions between masks, adjacency matrices and bytes.

Within block b, node 0 is the block's input, 1..L are its layers and L+1 is its output (transition or classifier).
Shapes: E skip connections, B blocks, N nodes (most layers in a block + 2). numpy only.
"""

from collections.abc import Iterator
from enum import IntEnum
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, FailFast, Field

from ads_gym.choices import Choice
from ads_gym.errors import InvalidValue, shown
from ads_gym.limits import MAX_BLOCKS, MAX_CONNECTIONS, MAX_LAYERS
from ads_gym.records import record

BoolArray = NDArray[np.bool_]
Int8Array = NDArray[np.int8]
IntArray = NDArray[np.int64]


class Scope(Choice, what="scope"):
    """Which destinations have skip connections that are decided about."""

    LAYERS = "layers"  # layers only
    ALL = "all"  # block outputs (transitions and the classifier) too


class Action(IntEnum):
    """What can be done with a skip connection."""

    DROP = 0
    KEEP = 1


class Connection(NamedTuple):
    """A connection src -> dst inside one block."""

    block: int
    dst: int
    src: int


UNDECIDED = -1

ScopeName = Annotated[Scope, BeforeValidator(Scope)]  # or its value
Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
Blocks = Annotated[tuple[Layers, ...], Field(min_length=1, max_length=MAX_BLOCKS), FailFast()]


@record
class Topology:
    """The skip connections of a DenseNet, in the order in which they are decided: (block, dst, src) ascending.

    Args:
        blocks: layers in each block.
        scope: whether block outputs are destinations too.

    Raises:
        InvalidValue: numbers out of range, no skip connection, or more of them than `limits.MAX_CONNECTIONS`.
    """

    blocks: Blocks
    scope: ScopeName = Scope.LAYERS

    def __post_init__(self) -> None:
        if not self.size:
            raise InvalidValue(
                f"blocks {self.blocks} in scope '{self.scope}' have no skip connection to decide about; "
                "use a block of two layers or more."
            )
        if self.size > MAX_CONNECTIONS:
            raise InvalidValue(
                f"blocks {self.blocks} have {self.size:,} skip connections, and {MAX_CONNECTIONS:,} are the most that "
                "are decided about: use fewer layers."
            )

    @cached_property
    def connections(self) -> IntArray:
        """int64[E, 3]: (block, dst, src) of every skip connection."""
        table = np.concatenate([_block(block, last) for block, last in enumerate(self._last)])
        table.flags.writeable = False
        return table

    @cached_property
    def size(self) -> int:
        """E, the number of skip connections."""
        return sum(last * (last - 1) // 2 for last in self._last)

    @property
    def _last(self) -> list[int]:
        """The last destination of each block."""
        return [layers + (self.scope is Scope.ALL) for layers in self.blocks]

    @property
    def nodes(self) -> int:
        """N, the side of an adjacency matrix."""
        return max(self.blocks) + 2

    @cached_property
    def destinations(self) -> tuple[slice, ...]:
        """For every destination that has skip sources: where its skip connections lie among the E."""
        heads = self.connections[:, :2]
        starts = np.flatnonzero(np.r_[True, (heads[1:] != heads[:-1]).any(axis=1)])
        return tuple(slice(int(a), int(b)) for a, b in zip(starts, np.r_[starts[1:], self.size], strict=True))

    def __iter__(self) -> Iterator[Connection]:
        return (Connection(*map(int, row)) for row in self.connections)

    @cached_property
    def _fixed(self) -> Int8Array:
        """int8[B, N, N]: 1 where a connection is always kept, 0 elsewhere."""
        fixed = np.zeros((len(self.blocks), self.nodes, self.nodes), dtype=np.int8)
        for block, layers in enumerate(self.blocks):
            for dst in range(1, layers + 2):
                fixed[block, dst, dst - 1] = 1
            if self.scope is Scope.LAYERS:
                fixed[block, layers + 1, :layers] = 1
        return fixed

    def check_masks(self, masks: Any) -> BoolArray:
        """Return `masks` as bool[..., E].

        Raises:
            InvalidValue: wrong length, a type that is neither bool nor 0/1 integers, other values than 0 and 1.
        """
        array = as_array("a mask", masks)
        if array.dtype != np.bool_:
            if not np.issubdtype(array.dtype, np.integer) or not np.isin(array, (0, 1)).all():
                raise InvalidValue(
                    f"a mask holds bools (or integers 0 and 1), got dtype {array.dtype} of {shown(array)}."
                )
            array = array.astype(np.bool_)
        if not array.ndim or array.shape[-1] != self.size:
            raise InvalidValue(
                f"a mask of blocks {self.blocks} in scope '{self.scope}' has {self.size} bits, got shape {array.shape}."
            )
        return array

    def check_mask(self, mask: Any) -> BoolArray:
        """Return one mask as bool[E]; errors as `check_masks`, and for several masks."""
        checked = self.check_masks(mask)
        if checked.ndim != 1:
            raise InvalidValue(f"one mask has {self.size} bits, got shape {checked.shape}.")
        return checked

    def as_masks(self, masks: Any) -> BoolArray:
        """`check_masks`, where an array of bools of the right length was most likely checked before."""
        is_mask = isinstance(masks, np.ndarray) and masks.dtype == np.bool_ and masks.shape[-1:] == (self.size,)
        return masks if is_mask else self.check_masks(masks)

    def check_decisions(self, decisions: Any) -> Int8Array:
        """Return `decisions` as int8[..., E] with 1 kept, 0 dropped, -1 undecided.

        Raises:
            InvalidValue: wrong length, type or values.
        """
        array = as_array("decisions", decisions)
        if (
            array.dtype == np.bool_
            or not np.issubdtype(array.dtype, np.integer)
            or not np.isin(array, (-1, 0, 1)).all()
        ):
            raise InvalidValue(f"decisions are integers -1 (free), 0 and 1, got dtype {array.dtype} of {shown(array)}.")
        if not array.ndim or array.shape[-1] != self.size:
            raise InvalidValue(
                f"decisions of blocks {self.blocks} in scope '{self.scope}' have {self.size} entries, "
                f"got shape {array.shape}."
            )
        return array.astype(np.int8)

    def adjacency(self, decisions: Any) -> Int8Array:
        """int8[..., B, N, N], row dst, column src: 1 kept, 0 dropped or no such connection, -1 undecided.

        Args:
            decisions: [..., E], a mask or partial decisions (1 kept, 0 dropped, -1 undecided).

        Raises:
            InvalidValue: another shape or type.
        """
        bits = as_array("decisions", decisions)
        if bits.dtype.kind not in "biu" or bits.shape[-1:] != (self.size,):
            raise InvalidValue(f"decisions are integers [..., {self.size}], got {bits.dtype} {list(bits.shape)}.")
        matrix = np.broadcast_to(self._fixed, (*bits.shape[:-1], *self._fixed.shape)).copy()
        matrix[..., self.connections[:, 0], self.connections[:, 1], self.connections[:, 2]] = bits
        return matrix

    def decisions(self, adjacency: Any) -> Int8Array:
        """int8[..., E]: what `adjacency` wrote down; its inverse.

        Raises:
            InvalidValue: not an adjacency of this topology.
        """
        matrix = as_array("an adjacency", adjacency)
        if matrix.shape[-3:] != self._fixed.shape:
            raise InvalidValue(f"an adjacency of this topology has shape {self._fixed.shape}, got {matrix.shape}.")
        bits = matrix[..., self.connections[:, 0], self.connections[:, 1], self.connections[:, 2]]
        if not np.array_equal(self.adjacency(bits), matrix):
            raise InvalidValue("the adjacency keeps a connection that this topology does not have, or lacks its chain.")
        return bits.astype(np.int8)

    def key(self, mask: BoolArray) -> bytes:
        """A mask as the bytes under which it is stored.

        Raises:
            InvalidValue: no bools or integers.
        """
        try:
            return np.packbits(mask).tobytes()
        except Exception as error:
            raise InvalidValue(f"a mask holds bools, got {shown(mask)}.") from error

    def is_key(self, key: bytes) -> bool:
        """Whether these bytes are what `key` makes of some mask."""
        spare = -self.size % 8  # bits at the end, which are 0
        return len(key) == (self.size + spare) // 8 and not key[-1] & ((1 << spare) - 1)

    def mask(self, key: bytes) -> BoolArray:
        """The mask of a key: the inverse of `key`.

        Raises:
            InvalidValue: no key of this topology.
        """
        if not isinstance(key, bytes) or not self.is_key(key):
            raise InvalidValue(f"a key is the bytes that `Topology.key` makes of a mask, got {shown(key)}.")
        return np.unpackbits(np.frombuffer(key, np.uint8), count=self.size).astype(np.bool_)

    def dense(self) -> BoolArray:
        """The mask that keeps every skip connection."""
        return np.ones(self.size, dtype=np.bool_)

    def chain(self) -> BoolArray:
        """The mask that keeps none."""
        return np.zeros(self.size, dtype=np.bool_)


def _block(block: int, last: int) -> IntArray:
    """int64[n, 3]: (block, dst, src) of all skip connections of a block whose last destination is `last`."""
    dst, src = np.tril_indices(last + 1, -2)
    return np.stack([np.full_like(dst, block), dst, src], axis=1).astype(np.int64)


def as_array(what: str, values: Any) -> NDArray[Any]:
    """Return `values` as an array.

    Raises:
        InvalidValue: a ragged sequence, or anything else that numpy makes no array of.
    """
    try:
        return np.asarray(values)
    except Exception as error:  # a ragged sequence, a tensor with a gradient, whatever an object's own `__array__` does
        raise InvalidValue(f"{what} should be one array, got {shown(values)}: {error}.") from error
