"""A network without its weights: the configuration of a DenseNet, and what its layers read of those before them.

numpy only: whoever plays on planted rewards needs no torch.
"""

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field

from ads_gym.choices import Choice
from ads_gym.errors import InvalidValue, shown
from ads_gym.files import exists, is_folder, naming, resolve
from ads_gym.limits import (
    MAX_BLOCKS,
    MAX_BN_SIZE,
    MAX_CLASSES,
    MAX_CONNECTIONS,
    MAX_GROWTH,
    MAX_IMAGE_CHANNELS,
    MAX_LAYERS,
    MAX_STEM_CHANNELS,
)
from ads_gym.records import Format, Pixels, check, record
from ads_gym.topology import Blocks, BoolArray, Scope, ScopeName, Topology


class Stem(Choice, what="stem"):
    """How images become the first feature map."""

    CONV3 = "conv3"  # 3x3 convolution, stride 1: small images
    CONV3_STRIDE2 = "conv3-stride2"  # 3x3 convolution, stride 2
    CONV7_POOL = "conv7-pool"  # 7x7 convolution stride 2, BatchNorm, ReLU, 3x3 max pool stride 2: ImageNet


class Block(NamedTuple):
    """The widths and sizes of one dense block."""

    layers: int
    in_channels: int  # of node 0
    out_channels: int  # of the transition behind it, or the number of classes
    height: int  # pixels, inside the block
    width: int

    def concatenated(self, growth: int) -> int:
        """Channels of all nodes of the block together."""
        return self.in_channels + self.layers * growth


StemName = Annotated[Stem, BeforeValidator(Stem)]  # or its value
ImageShape = tuple[Annotated[int, Field(ge=1, le=MAX_IMAGE_CHANNELS)], Pixels, Pixels]


@record
class DenseNetConfig:
    """A DenseNet or DenseNet-BC (Huang et al., "Densely Connected Convolutional Networks", CVPR 2017).

    Args:
        blocks: layers in each dense block.
        growth: channels that each layer adds (k in the paper).
        stem_channels: channels of the first feature map.
        stem: how images become that map.
        bottleneck: a 1x1 convolution to bn_size x growth channels before each 3x3 (the B of DenseNet-BC).
        compression: share of channels that a transition lets through, in (0, 1] (the C).
        image_shape: (channels, height, width) of an input image, pixels.
        classes: how many.
        bn_size: of bottlenecks, as torchvision calls it.
        widths: channels that the 1x1 convolution of each layer gives, where some of the bn_size x growth were dropped;
            None: all.

    Raises:
        InvalidValue: a number out of range, or images too small for so many poolings.
    """

    blocks: Blocks
    growth: Annotated[int, Field(ge=1, le=MAX_GROWTH)] = 12
    stem_channels: Annotated[int, Field(ge=1, le=MAX_STEM_CHANNELS)] = 16
    stem: StemName = Stem.CONV3
    bottleneck: bool = False
    compression: Annotated[float, Field(gt=0, le=1)] = 1.0
    image_shape: ImageShape = (3, 32, 32)
    classes: Annotated[int, Field(ge=2, le=MAX_CLASSES)] = 10
    bn_size: Annotated[int, Field(ge=1, le=MAX_BN_SIZE)] = 4
    widths: tuple[Annotated[int, Field(ge=1, le=MAX_BN_SIZE * MAX_GROWTH)], ...] | None = None

    def __post_init__(self) -> None:
        self._check_widths()
        last = self.geometry[-1]
        if min(last.height, last.width) < 1:
            raise InvalidValue(
                f"images of {self.image_shape[1]}x{self.image_shape[2]} pixels are too small for {len(self.blocks)} "
                f"blocks behind a '{self.stem}' stem: nothing is left of them in the last block. "
                "Use fewer blocks or larger images."
            )

    @cached_property
    def geometry(self) -> tuple[Block, ...]:
        """Widths and sizes, block by block."""
        _, height, width = self.image_shape
        if self.stem is not Stem.CONV3:
            height, width = (height + 1) // 2, (width + 1) // 2
        if self.stem is Stem.CONV7_POOL:
            height, width = (height + 1) // 2, (width + 1) // 2
        channels, geometry = self.stem_channels, []
        for index, layers in enumerate(self.blocks):
            reads = channels + layers * self.growth
            is_last = index == len(self.blocks) - 1
            out = self.classes if is_last else max(1, int(reads * self.compression))
            geometry.append(Block(layers, channels, out, height, width))
            channels, height, width = out, height // 2, width // 2
        return tuple(geometry)

    def _check_widths(self) -> None:
        if self.widths is None:
            return
        most, layers = self.bn_size * self.growth, sum(self.blocks)
        if not self.bottleneck or len(self.widths) != layers or max(self.widths) > most:
            raise InvalidValue(
                f"widths should be {layers} numbers from 1 to {most}, one for each layer of a network with "
                f"bottlenecks, got {shown(self.widths)}."
            )

    @cached_property
    def bottleneck_channels(self) -> tuple[tuple[int, ...], ...]:
        """Of each layer of each block: channels between its two convolutions; 0: it has one."""
        widths = iter(self.widths or [self.bn_size * self.growth if self.bottleneck else 0] * sum(self.blocks))
        return tuple(tuple(islice(widths, layers)) for layers in self.blocks)

    @cached_property
    def source_widths(self) -> tuple[tuple[int, ...], ...]:
        """Of every destination, block by block, layers then output: the channels of each node before it."""
        return tuple(
            (block.in_channels, *[self.growth] * (dst - 1))
            for block in self.geometry
            for dst in range(1, block.layers + 2)
        )

    @property
    def node_widths(self) -> tuple[tuple[int, ...], ...]:
        """Of each block: the channels of its input and of its layers."""
        return tuple((block.in_channels, *[self.growth] * block.layers) for block in self.geometry)

    @property
    def full(self) -> "DenseNetConfig":
        """The config with every channel."""
        return replace(self, widths=None)

    def fits_in(self, other: "DenseNetConfig") -> bool:
        """Whether this config differs from the other in narrower layers at most, so that weights can be inherited."""
        if self.full != other.full:
            return False
        pairs = zip(chain(*self.bottleneck_channels), chain(*other.bottleneck_channels), strict=True)
        return all(width <= most for width, most in pairs)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self) | {"stem": str(self.stem)}


Channels = Annotated[int, Field(ge=0, le=max(MAX_GROWTH, MAX_STEM_CHANNELS) * MAX_LAYERS)]
Counts = Annotated[tuple[Channels, ...], Field(max_length=MAX_LAYERS + 1, fail_fast=True)]
CheckedReads = Annotated[  # `Reads`, however large what is given is
    tuple[Counts, ...], Field(max_length=MAX_BLOCKS * (MAX_LAYERS + 1), fail_fast=True)
]
Reads = tuple[tuple[int, ...], ...]  # of each destination: how many channels of each node before it


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network config, a scope and a mask: everything about a sparse network but its weights.

    A destination (a layer, or the output of a block) reads the nodes before it whole, as the mask says, or only the
    first of their channels: then the mask follows from that, and what nobody reads is not computed.

    Args:
        config: of the supernet.
        mask: bool[E], in the order of `topology`; True keeps a skip connection.
        scope: which skip connections the mask is about.
        reads: of every destination, block by block, layers then output: how many channels it reads, the first ones, of
            each node before it; of the last one, at least one. None: whole nodes. See `reading`.
    """

    config: DenseNetConfig
    mask: BoolArray = field(repr=False)
    scope: Scope = Scope.LAYERS
    reads: Reads | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_config(self.config)
        object.__setattr__(self, "scope", Scope(self.scope))
        mask = self.topology.check_mask(self.mask).copy()
        mask.flags.writeable = False
        object.__setattr__(self, "mask", mask)
        if self.reads is None:
            return
        counts = _checked_reads(self.config, self.reads)
        if mask.tolist() != _kept(counts, self.topology):
            raise InvalidValue(
                "mask and reads are of two networks: a connection is kept if any of its channels is read "
                "(Architecture.reading makes the mask)."
            )
        object.__setattr__(self, "reads", None if counts == self.config.source_widths else counts)

    @classmethod
    def reading(cls, config: DenseNetConfig, reads: Reads, scope: Scope = Scope.LAYERS) -> "Architecture":
        """The architecture whose destinations read so many channels; a connection is kept if it reads any.

        Args:
            config, reads, scope: see the class.

        Raises:
            InvalidValue: other numbers of channels than there can be.
        """
        _check_config(config)
        counts = _checked_reads(config, reads)
        mask = _kept(counts, Topology(config.blocks, scope))
        return cls(config, mask, scope, counts)  # type: ignore[arg-type]

    @property
    def topology(self) -> Topology:
        """The skip connections that the mask is about."""
        return Topology(self.config.blocks, self.scope)

    @property
    def dense(self) -> "Architecture":
        """What nothing was dropped of: every connection, and every channel."""
        return Architecture(self.config.full, self.topology.dense(), self.scope)

    @cached_property
    def channels(self) -> Reads:
        """Of every destination: how many channels it reads, the first ones, of each node before it; see `reads`."""
        if self.reads is not None:
            return self.reads
        adjacency = self.topology.adjacency(self.mask) == 1
        return tuple(
            tuple(int(width) * bool(kept) for width, kept in zip(widths, adjacency[place], strict=False))
            for place, widths in zip(_places(self.config.blocks), self.config.source_widths, strict=True)
        )

    @cached_property
    def node_widths(self) -> tuple[tuple[int, ...], ...]:
        """Of each block: channels of its input and of its layers, which are computed because somebody reads them."""
        widths = []
        for block, layers in enumerate(self.config.blocks):
            reads = [
                each for (of, _), each in zip(_places(self.config.blocks), self.channels, strict=True) if of == block
            ]
            widths.append(tuple(max(each[node] for each in reads if node < len(each)) for node in range(layers + 1)))
        return tuple(widths)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def to_json(self) -> str:
        """One line of JSON; the mask is a string of 0 and 1."""
        return ARCHITECTURE.text(self.to_record(), indent=None)

    def to_record(self) -> "ArchitectureRecord":
        """As files hold it."""
        bits = "".join("1" if bit else "0" for bit in self.mask)
        return ArchitectureRecord(self.scope, bits, self.config, self.reads)

    @classmethod
    def from_record(cls, stored: "ArchitectureRecord") -> "Architecture":
        """The inverse of `to_record`.

        Raises:
            InvalidValue: a mask of another length than the config has skip connections, or channels that do not fit.
        """
        mask = [bit == "1" for bit in stored.mask]
        return cls(stored.config, mask, stored.scope, stored.reads)  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, text: bytes | str, source: str | Path = "this JSON") -> "Architecture":
        """The inverse of `to_json`.

        Args:
            text: JSON.
            source: where it is from, for messages.

        Raises:
            DamagedFile: no JSON, other JSON, or a newer version.
        """
        stored = ARCHITECTURE.parse(text, source)
        with naming(source, ARCHITECTURE.what):
            return cls.from_record(stored)

    @classmethod
    def read(cls, path: str | Path) -> "Architecture":
        """The architecture stored in a JSON file.

        Raises:
            NotFound, DamagedFile, StorageError: no such file, not an architecture, or one that may not be read; the
                message names the file.
        """
        file = resolve(path)
        stored = ARCHITECTURE.read(file)
        with naming(file, ARCHITECTURE.what):
            return cls.from_record(stored)


def find_architecture(path: str | Path) -> Path:
    """The JSON file of an architecture.

    Args:
        path: that file; a saved network, by the file of its weights or without an ending; or a run folder.

    Raises:
        InvalidValue: the folder of a run of `sparsify` that is not over.
    """
    file = resolve(path)
    if is_folder(file):
        best = file / "best.json"
        if exists(file / "sparsify.json") and not exists(best):
            raise InvalidValue(f"the run in {file} is not over: make the same call again, and it goes on.")
        return best
    if file.suffix == ".safetensors":
        return file.with_suffix(".json")
    return file if file.suffix == ".json" or exists(file) else file.with_name(file.name + ".json")


def _places(blocks: tuple[int, ...]) -> list[tuple[int, int]]:
    """(block, dst) of every destination, layers then output."""
    return [(block, dst) for block, layers in enumerate(blocks) for dst in range(1, layers + 2)]


def _kept(counts: Reads, topology: Topology) -> list[bool]:
    """The mask that follows from what destinations read."""
    reads = dict(zip(_places(topology.blocks), counts, strict=True))
    return [reads[block, dst][src] > 0 for block, dst, src in topology.connections.tolist()]


def _check_config(config: object) -> None:
    if not isinstance(config, DenseNetConfig):
        raise InvalidValue(f"config of an architecture should be a DenseNetConfig, got {shown(config)}.")


def _checked_reads(config: DenseNetConfig, reads: Any) -> Reads:
    counts: Reads = check(reads, CheckedReads, "reads")
    most = config.source_widths
    is_fine = tuple(map(len, counts)) == tuple(map(len, most)) and all(
        all(count <= width for count, width in zip(read, widths, strict=True)) and read[-1] > 0
        for read, widths in zip(counts, most, strict=True)
    )
    if not is_fine:
        raise InvalidValue(
            f"reads should be {len(most)} lists, one for each destination: how many channels it reads of each node "
            f"before it, of the last one at least 1; got {shown(reads)}."
        )
    return counts


@record
class ArchitectureRecord:
    """An architecture as files hold it."""

    scope: ScopeName
    mask: Annotated[str, Field(pattern="^[01]*$", max_length=MAX_CONNECTIONS)]  # a 0 or 1 for each skip connection
    config: DenseNetConfig
    reads: CheckedReads | None = None  # see `Architecture`


ARCHITECTURE = Format("ads-gym architecture", 1, "architecture", ArchitectureRecord)
