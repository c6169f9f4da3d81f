"""How long repairing, choosing and distilling will take on this machine: a rough guess, from some tenths of a second.

Networks take their time for passes of images, and least squares for the cube of the unknowns of each convolution.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ads_gym.nets.least_squares import count_folds
from ads_gym.nets.repair import ROWS_PER_UNKNOWN
from ads_gym.torch_state import isolated

SIZE = 512  # of a product of matrices that is timed
IMAGES = 8  # that are timed
FEW_FACTORS, MANY_FACTORS = 1, 20  # of a Gram matrix that are computed: once, or for each fold and ridge
ELIMINATION = 2  # cubes of the unknowns that it takes besides the Gram matrix: a factor, its inverse, steps


class Pace(NamedTuple):
    """Seconds that pieces of work take on one device."""

    image: float  # one image through the dense network, without gradients
    solving: float  # least squares of all convolutions of the dense network
    eliminating: float  # the order in which all convolutions of the dense network lose what they read

    def choosing(self, images: int) -> float:
        """Seconds that elimination takes."""
        return 4 * images * self.image + self.eliminating

    def repairing(self, images: int) -> float:
        """Seconds that a repair takes."""
        return 4 * images * self.image + self.solving

    def distilling(self, steps: int, batch: int) -> float:
        """Seconds that distillation takes."""
        return 4 * steps * batch * self.image


@torch.no_grad()
def measure_pace(network: nn.Module, images: Tensor) -> Pace:
    """Time a network and a product of matrices, each three times.

    Args:
        network: dense, in eval mode.
        images: float [n, c, h, w], on its device.
    """
    device, some = images.device, images[:IMAGES]
    square = torch.ones(SIZE, SIZE, dtype=torch.float64, device=device)
    with isolated(device):
        image = min(_seconds(lambda: network(some), device) for _ in range(3)) / len(some)
        product = min(_seconds(lambda: square @ square, device) for _ in range(3)) / SIZE**3
    unknowns = sum(module.weight[0].numel() ** 3 for module in network.modules() if isinstance(module, nn.Conv2d))
    factors = MANY_FACTORS if count_folds(len(images)) > 1 else FEW_FACTORS
    cubes = unknowns * product
    return Pace(image, (ROWS_PER_UNKNOWN + factors / 3) * cubes, (ROWS_PER_UNKNOWN + ELIMINATION) * cubes)


def _seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
