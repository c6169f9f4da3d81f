"""The limits of what is read from files and taken from users: each stands here and nowhere else. Imports nothing heavy.

Two kinds. Those of a value (`MAX_LAYERS`, ...) are part of its type and hold always: nobody means a network beyond
them, and a damaged or hostile file may claim anything. `MAX_MEMORY` and `MAX_DATA_MEMORY` are about this computer: what
would take more is refused with the number that it would take, unless `allow_large` says that it is meant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ads_gym.errors import InvalidValue, shown

# Networks
MAX_BLOCKS = 16
MAX_LAYERS = 512  # in one block; DenseNet-264 has 64
MAX_CONNECTIONS = 2**17  # skip connections of a network: one block of 512 layers has 130,816; DenseNet-264 has 3,225
MAX_GROWTH = 4_096  # channels
MAX_STEM_CHANNELS = 4_096
MAX_IMAGE_CHANNELS = 1_024
MAX_PIXELS = 8_192  # of one side of an image
MAX_CLASSES = 100_000
MAX_BN_SIZE = 64
MAX_MACS = 2**60  # of the dense network, for one image: sums of them fit 64 bits

# Data
MAX_IMAGES = 2**32 - 1  # of one split

# Training and search
MAX_EPOCHS = 100_000
MAX_STEPS = 1_000_000  # of distillation
MAX_SHIFT = 256  # pixels
MAX_BATCH_SIZE = 2**20  # images
MAX_MASKS_PER_STEP = 1_000
MAX_MASKS = 2**16  # that an agent has scored, or keeps, at once
MAX_SEED = 2**32 - 1  # what numpy, torch and Stable-Baselines3 all take
MAX_SEEDS = 1_000  # networks of one retraining
MAX_EVALUATIONS = 10**9
MAX_ENVIRONMENTS = 2**16  # of one vector environment
MAX_COST_WEIGHT = 100.0
MAX_SECONDS = 10**8  # of a time limit: three years

MAX_BATCH_TIMED = 4_096  # images whose latency is measured at once

# Files
MAX_JSON_BYTES = 2**22  # before it is parsed
MAX_OPTION = 2**17  # characters of one option of an agent on the command line
MAX_TENSORS_BYTES = 2**35  # of weights
MAX_POLICY_BYTES = 2**29  # of the weights of a policy
MAX_IMAGE_BYTES = 2**28  # of one image file, or one idx file unpacked
MAX_NESTING = 150  # lists and objects of JSON in each other, which the parser allows 200
MAX_TEXT = 4_096  # characters of a name, a path, an entry
MAX_ENTRIES = 50_000  # of a list or an object in JSON

# This computer
MAX_MEMORY = 2**33  # bytes that one network may need, with the feature maps of the images that it computes at once
MAX_DATA_MEMORY = 2**29  # bytes that the images of a user's own data set may take, unpacked and resized

_large: ContextVar[bool] = ContextVar("large", default=False)


@contextmanager
def allow_large(allowed: bool = True) -> Iterator[None]:
    """Lift `MAX_MEMORY` and `MAX_DATA_MEMORY` for the time of the block.

    Args:
        allowed: False changes nothing.
    """
    if not isinstance(allowed, bool):
        raise InvalidValue(f"allowed should be True or False, got {shown(allowed)}.")
    token = _large.set(allowed or _large.get())
    try:
        yield
    finally:
        _large.reset(token)


def is_large_allowed() -> bool:
    """Whether this is in a block of `allow_large`."""
    return _large.get()


def check_memory(what: str, needed: int, limit: int = MAX_MEMORY) -> None:
    """Check, before anything is allocated, that `what` needs no more memory than is meant.

    Args:
        what: needs it, for the message.
        needed: bytes.
        limit: bytes.

    Raises:
        InvalidValue: it needs more, outside `allow_large`.
    """
    if needed > limit and not is_large_allowed():
        raise InvalidValue(
            f"{what} would need {_size(needed)} of memory, and {_size(limit)} are allowed: make it smaller, or allow "
            "it by --allow-large (in Python: with ads_gym.allow_large():)."
        )


def _size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:,.1f} GiB" if count < 2**60 else f"more than {2**30:,} GiB"
