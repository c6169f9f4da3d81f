"""A network without its weights: the configuration of a DenseNet, and the mask of the skip connections that it keeps.

numpy only: whoever plays on planted rewards needs no torch.
"""

from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ads_gym.errors import DamagedFile, InvalidValue, unknown_name
from ads_gym.files import from_json, naming, read_text, resolve, to_json
from ads_gym.topology import BoolArray, Scope, Topology

FORMAT = "ads-gym architecture"
FORMAT_VERSION = 1


class Stem(StrEnum):
    """How images become the first feature map."""

    CONV3 = "conv3"  # 3x3 convolution, stride 1: small images
    CONV3_STRIDE2 = "conv3-stride2"  # 3x3 convolution, stride 2
    CONV7_POOL = "conv7-pool"  # 7x7 convolution stride 2, BatchNorm, ReLU, 3x3 max pool stride 2: ImageNet

    @classmethod
    def _missing_(cls, value: object) -> "Stem":
        raise unknown_name("stem", value, list(cls))


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


@dataclass(frozen=True)
class DenseNetConfig:
    """A DenseNet or DenseNet-BC (Huang et al., "Densely Connected Convolutional Networks", CVPR 2017).

    Args:
        blocks: layers in each dense block.
        growth: channels that each layer adds (k in the paper).
        stem_channels: channels of the first feature map.
        stem: how images become that map.
        bottleneck: a 1x1 convolution to 4 x growth channels before each 3x3 (the B of DenseNet-BC).
        compression: share of channels that a transition lets through, in (0, 1] (the C).
        image_shape: (channels, height, width) of an input image, pixels.
        classes: how many.

    Raises:
        InvalidValue: a number out of range, or images too small for so many poolings.
    """

    blocks: tuple[int, ...]
    growth: int = 12
    stem_channels: int = 16
    stem: Stem = Stem.CONV3
    bottleneck: bool = False
    compression: float = 1.0
    image_shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        object.__setattr__(self, "stem", Stem(self.stem))
        whole = {"growth": self.growth, "stem_channels": self.stem_channels}
        whole |= {f"blocks[{i}]": layers for i, layers in enumerate(self.blocks)}
        whole |= dict(zip(("image channels", "image height", "image width"), self.image_shape, strict=True))
        for name, value in whole.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidValue(f"{name} must be a whole number of at least 1, got {value!r}.")
        if not self.blocks:
            raise InvalidValue("a DenseNet needs at least one block, got none.")
        if not isinstance(self.classes, int) or self.classes < 2:
            raise InvalidValue(f"a classifier needs at least two classes, got {self.classes!r}.")
        if not 0 < self.compression <= 1:
            raise InvalidValue(f"compression must lie in (0, 1], got {self.compression!r}.")
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

    def source_channels(self, block: int, src: int) -> int:
        """Channels of node `src` of a block."""
        return self.geometry[block].in_channels if src == 0 else self.growth

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self) | {"stem": str(self.stem)}

    @classmethod
    def from_dict(cls, values: Any) -> "DenseNetConfig":
        """The inverse of `to_dict`.

        Raises:
            DamagedFile: not what `to_dict` writes.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            got = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise DamagedFile(f"a network config has the entries {sorted(names)}, got {got}.")
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise DamagedFile(f"this network config cannot be used: {error}") from error


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network config, a scope and a mask: everything about a sparse network but its weights.

    Args:
        config: of the supernet.
        mask: bool[E], in the order of `topology`; True keeps a skip connection.
        scope: which skip connections the mask is about.
    """

    config: DenseNetConfig
    mask: BoolArray = field(repr=False)
    scope: Scope = Scope.LAYERS

    def __post_init__(self) -> None:
        object.__setattr__(self, "scope", Scope(self.scope))
        mask = self.topology.check_masks(self.mask).copy()
        if mask.ndim != 1:
            raise InvalidValue(f"an architecture has one mask, got an array of shape {mask.shape}.")
        mask.flags.writeable = False
        object.__setattr__(self, "mask", mask)

    @property
    def topology(self) -> Topology:
        """The skip connections that the mask is about."""
        return Topology(self.config.blocks, self.scope)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def to_json(self) -> str:
        """One line of JSON; the mask is a string of 0 and 1."""
        bits = "".join("1" if bit else "0" for bit in self.mask)
        values = {"scope": str(self.scope), "mask": bits, "config": self.config.to_dict()}
        return to_json(FORMAT, FORMAT_VERSION, values, indent=None)

    @classmethod
    def from_json(cls, text: str, source: str | Path = "this JSON") -> "Architecture":
        """The inverse of `to_json`.

        Args:
            text: JSON.
            source: where it is from, for messages.

        Raises:
            DamagedFile: no JSON, other JSON, or a newer version.
        """
        with naming(source, "architecture"):
            values = from_json(text, FORMAT, FORMAT_VERSION)
            bits = values.get("mask")
            if not isinstance(bits, str) or set(bits) - {"0", "1"}:
                raise DamagedFile(f"its mask should be a string of 0 and 1, got {bits!r:.60}.")
            config = DenseNetConfig.from_dict(values.get("config"))
            return cls(config, [bit == "1" for bit in bits], values.get("scope"))  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: str | Path) -> "Architecture":
        """The architecture stored in a JSON file.

        Raises:
            NotFound, DamagedFile, StorageError: no such file, not an architecture, or one that may not be read; the
                message names the file.
        """
        file = resolve(path)
        return cls.from_json(read_text(file, "architecture"), file)
