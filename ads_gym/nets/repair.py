"""Closed-form repair: a sparse network's weights solved again, layer by layer, to give what the dense one gives.

A layer that lost inputs keeps weights that were meant for all of them. Least squares puts that right without labels and
without gradients: the new weights map what the repaired network before the layer gives to what the layer gave in the
dense network on the same images, and BatchNorm statistics are the repaired network's own. This is layer-wise
reconstruction as after channel pruning (J.-H. Luo et al., "ThiNet", and Y. He et al., "Channel Pruning for Accelerating
Very Deep Neural Networks", both ICCV 2017), in one pass in the network's order.

Shapes: n images, p positions of a feature map, r = n p rows, i inputs of one output (unknowns), o outputs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from ads_gym.architecture import Architecture
from ads_gym.errors import InvalidValue
from ads_gym.nets.densenet import DenseNet, Transition, check_input
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, calibrate
from ads_gym.records import Seed, checked
from ads_gym.torch_state import isolated

RIDGE = 1e-3
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of which cross-validation takes the best
FEW_IMAGES = 500  # below which there is one
FOLDS = 4
ROWS_PER_UNKNOWN = 10
CHUNK_ROWS = 4_096  # that are added to the normal equations at once

Solvable = nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class RepairedLayer:
    """How a convolution, or the classifier, was repaired."""

    name: str  # of the module
    unknowns: int  # weights of one output
    rows: int  # equations
    ridge: float
    before: float  # squared error with the old weights and the best shift, as a share of the variance of the targets
    after: float  # with the new ones, on the same rows

    @property
    def is_underdetermined(self) -> bool:
        """Whether there were fewer equations than unknowns, so that the ridge decided."""
        return self.rows <= self.unknowns


@checked
def repair(
    network: SparseDenseNet,
    supernet: DenseNet,
    images: Tensor,
    *,
    ridge: Annotated[float, Field(gt=0, le=1e6)] | None = None,
    seed: Seed = 0,
) -> list[RepairedLayer]:
    """Solve a sparse network's weights so that its layers give what the dense network's give; no labels are needed.

    Every convolution of layers and transitions, and the classifier, that reads something else than in the dense network
    is solved again. BatchNorm statistics are re-estimated in the same pass, as `calibrate` does it.

    Args:
        network: with the supernet's weights (`build_sparse`), or trained further; changed in place, in eval mode then.
        supernet: the dense network; not changed.
        images: float [n, c, h, w] as the network reads them, at least two, on the device of both networks.
        ridge: how strongly new weights are held to the old ones, as a share of the mean square of a layer's inputs.
            None: 1e-3, or with fewer than 500 images, for each layer, the best in a cross-validation over images.
        seed: of the positions that stand for a feature map.

    Returns:
        The layers that were solved, in the network's order; none where nothing was dropped.

    Raises:
        InvalidValue: networks of two configs, or images that they do not read.
    """
    architecture = network.architecture
    if architecture.config != supernet.config:
        raise InvalidValue(
            f"the sparse network is of {architecture.config}, and the supernet of {supernet.config}: give its own."
        )
    check_input(images, architecture.config)
    if len(images) < 2 or not torch.isfinite(images).all():
        raise InvalidValue(f"a repair needs at least two images of finite numbers, got {len(images)}.")
    dense = Architecture(architecture.config, architecture.topology.dense(), architecture.scope)
    names = _changed(network)
    rows = {name: _Rows(network.get_submodule(name), len(images), seed + index) for index, name in enumerate(names)}
    targets: dict[str, Tensor] = {}
    solved: list[RepairedLayer] = []

    def keep(name: str, module: Solvable, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        targets[name] = rows[name].of_outputs(outputs)

    def solve(name: str, module: Solvable, inputs: tuple[Tensor, ...]) -> None:
        equations = _Equations(module, rows[name], inputs[0], targets.pop(name))
        chosen = ridge or (RIDGE if len(images) >= FEW_IMAGES else equations.best_ridge())
        solved.append(equations.solve_into(module, name, chosen))

    with isolated(images.device):
        reference = build_sparse(dense, supernet)
        with _hooked(reference, names, lambda module, call: module.register_forward_hook(call), keep):
            calibrate(reference, images)
        with _hooked(network, names, lambda module, call: module.register_forward_pre_hook(call), solve):
            calibrate(network, images)
    return solved


class _Rows:
    """Which positions of a module's output stand for all: the same ones in both networks.

    Args:
        module: of the sparse network.
        images: how many there are.
        seed: of the positions.
    """

    def __init__(self, module: nn.Module, images: int, seed: int) -> None:
        self._images, self._seed = images, seed
        self._wanted = -(-ROWS_PER_UNKNOWN * cast(Tensor, module.weight)[0].numel() // images)
        self._places = torch.empty(0)  # int64 [n, p] of pixels, from the first outputs on

    def of_outputs(self, outputs: Tensor) -> Tensor:
        """[r, o] of what a module gave, [n, o, h, w] or [n, o]."""
        if outputs.ndim == 2:
            return outputs
        self._places = self._draw(outputs.shape[2] * outputs.shape[3]).to(outputs.device)
        image, place = self._chosen(0, self._images)
        return outputs.flatten(2)[image, :, place]

    def of_inputs(self, inputs: Tensor, module: Solvable, low: int, high: int) -> Tensor:
        """float64 [rows, i + 1] of what a module read, for the images from `low` to `high`; the last column is 1."""
        part = inputs[low:high]
        if isinstance(module, nn.Linear):
            found = part
        else:
            size, edge = module.kernel_size[0], cast(tuple[int, ...], module.padding)[0]
            width = part.shape[3]
            image, place = self._chosen(low, high)
            patches = functional.pad(part, [edge] * 4).unfold(2, size, 1).unfold(3, size, 1)  # a view
            found = patches[image - low, :, place // width, place % width].flatten(1)
        return torch.cat([found.double(), torch.ones_like(found[:, :1], dtype=torch.float64)], dim=1)

    def _chosen(self, low: int, high: int) -> tuple[Tensor, Tensor]:
        """Indices of images and of their pixels, int64 [r] each, of the images from `low` to `high`."""
        places = self._places[low:high]
        images = torch.arange(low, high, device=places.device)
        return images.repeat_interleave(places.shape[1]), places.flatten()

    def _draw(self, pixels: int) -> Tensor:
        """int64 [n, p]: the positions of each image, of so many."""
        if self._wanted >= pixels:
            return torch.arange(pixels).expand(self._images, pixels)
        generator = torch.Generator().manual_seed(self._seed)
        drawn = torch.rand(self._images, pixels, generator=generator, device="cpu")
        return drawn.topk(self._wanted, dim=1).indices


class _Equations:
    """The normal equations of a module: for what its new weights must add to its old outputs, by fold of the images.

    The last unknown is a shift of each output. It is not held to anything.

    Args:
        module: with the old weights.
        rows: which rows there are.
        inputs: what it reads, [n, c, h, w] or [n, i].
        targets: what it should give, [r, o].
    """

    def __init__(self, module: Solvable, rows: _Rows, inputs: Tensor, targets: Tensor) -> None:
        count = targets.shape[0] // len(inputs)
        self.folds = min(FOLDS, len(inputs))
        step = max(1, min(CHUNK_ROWS // count, len(inputs) // self.folds))
        weight = module.weight.flatten(1).double()  # [o, i]
        unknowns = weight.shape[1] + 1
        self.grams = weight.new_zeros(self.folds, unknowns, unknowns)
        self.moments = weight.new_zeros(self.folds, unknowns, len(weight))
        self.squares = weight.new_zeros(self.folds)
        self.variance = float(targets.double().var(dim=0, correction=0).sum()) * len(targets)
        self.rows, self.unknowns = len(targets), unknowns - 1
        for low in range(0, len(inputs), step):
            high = min(low + step, len(inputs))
            read = rows.of_inputs(inputs, module, low, high)
            missing = targets[low * count : high * count].double() - read[:, :-1] @ weight.T
            fold = low // step % self.folds
            self.grams[fold] += read.T @ read
            self.moments[fold] += read.T @ missing
            self.squares[fold] += missing.square().sum()

    def solve(self, ridge: float, left_out: int | None = None) -> Tensor:
        """float64 [i + 1, o]: what is added to weights and shift; without one fold where it is left out."""
        gram, moment = self.grams.sum(0), self.moments.sum(0)
        if left_out is not None:
            gram, moment = gram - self.grams[left_out], moment - self.moments[left_out]
        diagonal = gram.diagonal()
        penalty = ridge * float(diagonal[:-1].mean()) or 1.0  # inputs that are all 0: nothing to add
        diagonal[:-1] += penalty
        return torch.cholesky_solve(moment, torch.linalg.cholesky(gram))

    def error(self, added: Tensor, folds: slice = slice(None)) -> float:
        """Squared error of the outputs in some folds."""
        gram, moment = self.grams[folds].sum(0), self.moments[folds].sum(0)
        return float(self.squares[folds].sum() - 2 * (added * moment).sum() + (added * (gram @ added)).sum())

    def best_ridge(self) -> float:
        """Of `RIDGES`, by cross-validation over images."""

        def error(ridge: float) -> float:
            return sum(self.error(self.solve(ridge, fold), slice(fold, fold + 1)) for fold in range(self.folds))

        return min(RIDGES, key=error)

    def solve_into(self, module: Solvable, name: str, ridge: float) -> RepairedLayer:
        """Give a module its new weights."""
        added = self.solve(ridge)
        shift = torch.zeros_like(added)
        shift[-1] = self.moments.sum(0)[-1] / self.rows  # BatchNorm takes it out behind any convolution
        weight = module.weight
        weight.copy_((weight.double() + added[:-1].T.reshape(weight.shape)).to(weight.dtype))
        if isinstance(module, nn.Linear):
            module.bias.add_(added[-1].to(weight.dtype))
        scale = self.variance or 1.0
        before, after = self.error(shift) / scale, self.error(added) / scale
        return RepairedLayer(name, self.unknowns, self.rows, ridge, before, after)


def _changed(network: SparseDenseNet) -> list[str]:
    """The convolutions, and the classifier, that read something else than in the dense network, in order."""
    sources, names, whole = iter(network.sources), [], True
    for block, child in network.features.named_children():
        if isinstance(child, nn.Sequential):
            nodes = [whole]  # whether they give what they give in the dense network
            for index, layer in enumerate(child, start=1):
                nodes.append(_is_whole(next(sources), nodes))
                if not nodes[-1]:
                    names += [f"features.{block}.denselayer{index}.{conv}" for conv in _convolutions(layer)]
            whole = _is_whole(next(sources), nodes)
        elif isinstance(child, Transition) and not whole:
            names.append(f"features.{block}.conv")
    return names if whole else [*names, "classifier"]


def _is_whole(sources: tuple[int, ...], nodes: list[bool]) -> bool:
    return len(sources) == len(nodes) and all(nodes)


def _convolutions(layer: nn.Module) -> list[str]:
    return [name for name, module in layer.named_children() if isinstance(module, nn.Conv2d)]


@contextmanager
def _hooked(
    network: nn.Module,
    names: list[str],
    register: Callable[[nn.Module, Callable[..., None]], RemovableHandle],
    call: Callable[..., None],
) -> Iterator[None]:
    """Have a function called with a module's name in front of a hook's own arguments."""

    def named(name: str) -> Callable[..., None]:
        return lambda *arguments: call(name, *arguments)

    handles = [register(network.get_submodule(name), named(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
