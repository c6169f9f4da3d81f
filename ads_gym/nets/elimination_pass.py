"""One pass through a trained network, in which each of its convolutions can be asked what it could do without."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ads_gym.architecture import Architecture
from ads_gym.errors import InvalidValue
from ads_gym.nets.densenet import DenseNet, check_input
from ads_gym.nets.elimination import Elimination
from ads_gym.nets.repair import Solvable
from ads_gym.nets.sensitivity import sensitivities
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.topology import Scope, Topology
from ads_gym.torch_state import isolated

Visit = Callable[[str, Callable[[int], Elimination]], None]


class Eliminations:
    """The elimination of each convolution of a trained network but the first, and of the classifier.

    Args:
        supernet: not changed.
        images: float [n, c, h, w] as it reads them, at least two, on its device.
        labels: int64 [n], for the loss; None: classes are drawn from what the network predicts.
        seed: of the classes that are drawn.

    Raises:
        InvalidValue: images that the network does not read.
    """

    def __init__(self, supernet: DenseNet, images: Tensor, labels: Tensor | None = None, *, seed: int = 0) -> None:
        check_input(images, supernet.config)
        if len(images) < 2 or not torch.isfinite(images).all():
            raise InvalidValue(f"residuals need at least two images of finite numbers, got {len(images)}.")
        dense = Topology(supernet.config.blocks, Scope.ALL).dense()
        self._network = build_sparse(Architecture(supernet.config, dense, Scope.ALL), supernet)
        self._images, self._rises = images, sensitivities(supernet, images, labels, seed=seed)

    def visit(self, take: Visit) -> None:
        """Go through the network.

        Args:
            take: called with the name of each of them, in order, and with what makes its elimination of a seed.
        """
        modules = {name: module for name, module in self._network.named_modules() if name in self._rises}

        def reach(name: str, module: Solvable, inputs: tuple[Tensor]) -> None:
            take(name, lambda seed: Elimination(module, inputs[0], seed, self._rises[name]))

        handles = [module.register_forward_pre_hook(partial(reach, name)) for name, module in modules.items()]
        try:
            with isolated(self._images.device):
                calibrate(self._network, self._images)
        finally:
            for handle in handles:
                handle.remove()
