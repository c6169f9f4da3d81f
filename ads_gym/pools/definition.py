"""What a pool consists of: a JSON file with a line for each supernet. Imports no torch."""

from collections import Counter
from typing import Annotated

from pydantic import BeforeValidator, FailFast, Field

from ads_gym.architecture import DenseNetConfig
from ads_gym.choices import Choice
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.table import MOST_CONNECTIONS
from ads_gym.limits import MAX_EPOCHS, MAX_GROWTH, MAX_STEM_CHANNELS
from ads_gym.records import Format, Seed, record
from ads_gym.topology import Blocks, Topology

# In scikit-learn's digits, images of one hand follow each other; where the next hand begins (images).
WRITERS = (0, 130, 256, 386, 516, 646, 776, 915, 1029, 1157, 1287, 1415, 1545, 1667, 1797)
LEAST_IMAGES = 200  # of a supernet


class Role(Choice, what="role of a supernet"):
    """What a supernet of a pool is for."""

    TRAINING = "training"  # the policy learns on it
    VALIDATION = "validation"  # chooses among policies
    HELD_OUT = "held-out"  # read once, at the end


Writer = Annotated[int, Field(ge=0, lt=len(WRITERS) - 1)]
Digit = Annotated[int, Field(ge=0, le=9)]


@record
class Member:
    """A supernet of a pool.

    Args:
        name: of its folder.
        role: what it is for.
        blocks, growth, stem_channels, bottleneck, compression: see `DenseNetConfig`.
        seed: of its training, and of how its images are divided.
        writers: whose images it sees, by their place in scikit-learn's digits.
        classes: of which digits; class k of the network is the k-th of them.
        epochs: of its training.
    """

    name: Annotated[str, Field(pattern="^[a-z0-9-]{1,64}$")]
    role: Annotated[Role, BeforeValidator(Role)]
    blocks: Blocks
    growth: Annotated[int, Field(ge=1, le=MAX_GROWTH)]
    writers: Annotated[tuple[Writer, ...], Field(min_length=1)]
    classes: Annotated[tuple[Digit, ...], Field(min_length=2)]
    seed: Seed = 0
    stem_channels: Annotated[int, Field(ge=1, le=MAX_STEM_CHANNELS)] = 8
    bottleneck: bool = False
    compression: Annotated[float, Field(gt=0, le=1)] = 1.0
    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = 40

    def __post_init__(self) -> None:
        for what, values in (("writers", self.writers), ("classes", self.classes)):
            if list(values) != sorted(set(values)):
                raise InvalidValue(f"the {what} of supernet {self.name!r} ascend, each once, got {list(values)}.")
        if (size := Topology(self.blocks).size) > MOST_CONNECTIONS:
            raise InvalidValue(
                f"supernet {self.name!r} has {size} skip connections, and a table holds networks of at most "
                f"{MOST_CONNECTIONS}: use fewer layers."
            )

    @property
    def config(self) -> DenseNetConfig:
        """Of the network."""
        return DenseNetConfig(
            self.blocks,
            self.growth,
            self.stem_channels,
            bottleneck=self.bottleneck,
            compression=self.compression,
            image_shape=(1, 8, 8),
            classes=len(self.classes),
        )


@record
class Pool:
    """Supernets by their names.

    Args:
        members: all of them.
    """

    members: Annotated[tuple[Member, ...], Field(min_length=1), FailFast()]

    def __post_init__(self) -> None:
        name, times = Counter(member.name for member in self.members).most_common(1)[0]
        if times > 1:
            raise InvalidValue(f"the supernets of a pool have names of their own, and {times} are called {name!r}.")

    def of(self, role: Role) -> tuple[Member, ...]:
        """Those of a role."""
        return tuple(member for member in self.members if member.role is role)


POOL = Format("ads-gym pool", 1, "pool of supernets", Pool)
