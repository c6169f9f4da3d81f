"""Closed-form repair: a sparse network's weights solved again, layer by layer, to give what the dense one gives.

A layer that lost inputs keeps weights that were meant for all of them. Least squares puts that right without labels and
without gradients: the new weights map what the repaired network before the layer gives to what the layer gave in the
dense network on the same images, and BatchNorm statistics are the repaired network's own. This is layer-wise
reconstruction as after channel pruning (J.-H. Luo et al., "ThiNet", and Y. He et al., "Channel Pruning for Accelerating
Very Deep Neural Networks", both ICCV 2017), in one pass in the network's order.

Shapes: n images, p positions of a feature map, r = n p rows, i inputs of one output (unknowns), o outputs.
"""

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.errors import InvalidValue
from ads_gym.nets.densenet import DenseNet, Transition, check_input
from ads_gym.nets.least_squares import RIDGES, NormalEquations, add_square, count_folds
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, calibrate
from ads_gym.records import Seed, checked
from ads_gym.torch_state import isolated

ROWS_PER_UNKNOWN = 10
CHUNK_ROWS = 4_096  # that are added to the normal equations at once
KEPT_BYTES = 1 << 28  # of what a module reads: so much is kept, and what is more is gathered three times

Solvable = nn.Conv2d | nn.Linear
LayerProgress = Callable[[int, int], None]  # layers done, of how many


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
    ridge: Annotated[float, Field(ge=1e-9, le=1e6)] | None = None,
    rows_per_unknown: Annotated[float, Field(gt=0, le=1e6)] = ROWS_PER_UNKNOWN,
    seed: Seed = 0,
    progress: LayerProgress | None = None,
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
        rows_per_unknown: of each convolution's equations, for each weight that one of its outputs has in the dense
            network: so many positions of the images are drawn, or all.
        seed: of the positions.
        progress: called after every layer with the layers done and their number.

    Returns:
        The layers that were solved, in the network's order; none where nothing was dropped.

    Raises:
        InvalidValue: networks of two configs, or images that they do not read.
    """
    architecture = network.architecture
    if not architecture.config.fits_in(supernet.config):
        raise InvalidValue(
            f"the sparse network is of {architecture.config}, and the supernet of {supernet.config}: give its own."
        )
    check_input(images, supernet.config)
    if len(images) < 2 or not torch.isfinite(images).all():
        raise InvalidValue(f"a repair needs at least two images of finite numbers, got {len(images)}.")
    dense = Architecture(supernet.config, architecture.topology.dense(), architecture.scope)
    sites = _changed(network, supernet.config)
    done = _Repair(len(images), rows_per_unknown, ridge, seed)

    def solve(site: _Site, module: Solvable, inputs: tuple[Tensor, ...]) -> None:
        done.solve(site, module, inputs)
        if progress is not None:
            progress(len(done.layers), len(sites))

    with isolated(images.device):
        reference = build_sparse(dense, supernet)
        with _hooked(reference, sites, lambda module, call: module.register_forward_hook(call), done.keep):
            calibrate(reference, images)
        with _hooked(network, sites, lambda module, call: module.register_forward_pre_hook(call), solve):
            calibrate(network, images)
    return done.layers


class _Site(NamedTuple):
    """A module that is solved again."""

    name: str
    number: int  # its position among all convolutions and the classifier; of its positions' seed
    outputs: int  # that are left: the first of the dense network's
    is_pooled: bool = False  # its outputs are averaged over 2x2 pixels before anybody reads them


class _Repair:
    """Keeps what the dense network's modules give, until the sparse network reaches them and they are solved.

    Args:
        images: how many.
        rows_per_unknown, ridge, seed: see `repair`.
    """

    def __init__(self, images: int, rows_per_unknown: float, ridge: float | None, seed: int) -> None:
        self.images, self.rows_per_unknown, self.ridge, self.seed = images, rows_per_unknown, ridge, seed
        self.layers: list[RepairedLayer] = []
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}  # by name: positions [n, p], targets [n, p, o]

    def keep(self, site: _Site, module: Solvable, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        """A forward hook of the dense network's module."""
        outputs = outputs[:, : site.outputs]
        if outputs.ndim == 2:
            self._kept[site.name] = torch.empty(0), outputs[:, None]
            return
        outputs = functional.avg_pool2d(outputs, 2) if site.is_pooled else outputs
        wanted = self.rows_per_unknown * module.weight[0].numel()
        at = draw_positions(self.images, outputs[0, 0].numel(), wanted, self.seed + site.number).to(outputs.device)
        index = at[:, None].expand(-1, outputs.shape[1], -1)
        self._kept[site.name] = at, outputs.flatten(2).gather(2, index).transpose(1, 2)

    def solve(self, site: _Site, module: Solvable, inputs: tuple[Tensor, ...]) -> None:
        """A forward pre-hook of the sparse network's module, which computes with its new weights then."""
        maps = functional.avg_pool2d(inputs[0], 2) if site.is_pooled else inputs[0]
        at, targets = self._kept.pop(site.name)

        def read(images: slice) -> Tensor:
            if isinstance(module, nn.Linear):
                return maps[images][:, None]
            return patches(maps[images], at[images], module.kernel_size[0])

        self.layers.append(_solve(module, site.name, _Rows(read, targets, module.weight[0].numel()), self.ridge))


def draw_positions(images: int, pixels: int, wanted: float, seed: int) -> Tensor:
    """int64 [n, p]: pixels of each image that stand for a feature map, ascending; at least `wanted` in all, or all."""
    count = int(-(-wanted // images))
    if count >= pixels:
        return torch.arange(pixels, device="cpu").expand(images, pixels)
    drawn = torch.rand(images, pixels, generator=torch.Generator().manual_seed(seed), device="cpu")
    return drawn.topk(count, dim=1).indices.sort(dim=1).values


def patches(maps: Tensor, places: Tensor, size: int) -> Tensor:
    """[n, p, i]: what a convolution with a kernel of `size` reads at `places` int64 [n, p] of maps [n, c, h, w]."""
    padded = functional.pad(maps, [size // 2] * 4)
    patches = padded.unfold(2, size, 1).unfold(3, size, 1)  # a view [n, c, h, w, k, k]
    image, width = torch.arange(len(maps), device=maps.device)[:, None], maps.shape[3]
    return patches[image, :, places // width, places % width].flatten(2)


class _Rows:
    """The equations of a layer, some rows at a time; image n is in fold n mod folds.

    Args:
        read: what the layer reads, [n, p, i], of a slice of the images.
        targets: what it should give, [n, p, o].
        unknowns: i.
    """

    def __init__(self, read: Callable[[slice], Tensor], targets: Tensor, unknowns: int) -> None:
        self._read, self.targets, self.unknowns = read, targets, unknowns
        self.count, self.folds = targets.shape[0] * targets.shape[1], count_folds(len(targets))
        is_kept = self.count * (unknowns + 1) * targets.itemsize <= KEPT_BYTES
        self._kept = [*self._chunks()] if is_kept else None

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(fold, what is read [r, i + 1], the last of it 1, what should be given [r, o])."""
        return self._chunks() if self._kept is None else iter(self._kept)

    def _chunks(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        images, places, _ = self.targets.shape
        step = max(1, CHUNK_ROWS // places) * self.folds
        for fold in range(self.folds):
            for low in range(fold, images, step):
                chosen = slice(low, low + step, self.folds)
                inputs, wanted = self._read(chosen).flatten(0, 1), self.targets[chosen].flatten(0, 1)
                yield fold, torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1), wanted

    def gram(self, *, exact: bool) -> Tensor:
        """Products of what is read, float64 [f, i + 1, i + 1]; summed in float64, or in the network's precision."""
        size = self.unknowns + 1
        gram = torch.zeros(self.folds, size, size, dtype=torch.float64, device=self.targets.device)
        for fold, inputs, _ in self:
            add_square(gram[fold], inputs.double() if exact else inputs)
        return gram.triu() + gram.triu(1).transpose(1, 2)

    def lacking(self, weights: Tensor) -> tuple[Tensor, float]:
        """Moments float64 [f, i + 1, o] of what is read and what outputs lack with weights [i + 1, o]; its square."""
        moments, squares = weights.new_zeros(self.folds, *weights.shape), 0.0
        for fold, inputs, wanted in self:
            exact = inputs.double()
            lacks = wanted.double() - exact @ weights
            moments[fold] += exact.T @ lacks
            squares += float(lacks.square().sum())
        return moments, squares

    def variance(self) -> float:
        """Of what should be given: the sum of squares around the means; 1 where that is 0."""
        return float(self.targets.flatten(0, 1).double().var(dim=0, correction=0).sum()) * self.count or 1.0


def _solve(module: Solvable, name: str, rows: _Rows, ridge: float | None) -> RepairedLayer:
    """Give a module its new weights.

    Args:
        module: with the old weights.
        name: of it.
        rows: its equations.
        ridge: None: choose it.
    """
    weight = module.weight.flatten(1).double()  # [o, i]
    shift = weight.new_zeros(len(weight)) if module.bias is None else module.bias.double()
    old = torch.cat([weight.T, shift[None]])
    gram = rows.gram(exact=ridge is not None and ridge < RIDGES[0])  # float32 would not be positive definite then
    moments, before = rows.lacking(old)
    before -= float(moments.sum(0)[-1].square().sum()) / rows.count  # BatchNorm takes a shift out
    equations = NormalEquations(gram, moments)
    factor = equations.factor(equations.choose_ridge() if ridge is None else ridge)
    added = factor.solve(moments.sum(0))
    moments, after = rows.lacking(old + added)
    rest = moments.sum(0)
    rest[:-1] -= factor.penalty * added[:-1]
    added += factor.solve(rest)  # for products were summed in the network's precision
    module.weight.copy_((weight + added[:-1].T).view_as(module.weight).to(module.weight.dtype))
    if module.bias is not None:
        module.bias.add_(added[-1].to(module.bias.dtype))
    variance = rows.variance()
    return RepairedLayer(name, rows.unknowns, rows.count, factor.ridge, before / variance, after / variance)


def _changed(network: SparseDenseNet, dense: DenseNetConfig) -> list[_Site]:
    """The convolutions, and the classifier, that read something else than in the dense network, in order."""
    reads = map(operator.eq, network.architecture.channels, dense.source_widths)  # whether each reads everything
    between = chain.from_iterable(dense.bottleneck_channels)
    changed, whole, number = [], True, 0
    for block, child in network.features.named_children():
        if isinstance(child, nn.Sequential):
            nodes = [whole]  # whether they give what they give in the dense network
            for index, layer in enumerate(child, start=1):
                reads_all, width = next(reads) and all(nodes), next(between)
                convolutions = [(name, part) for name, part in layer.named_children() if isinstance(part, nn.Conv2d)]
                for (name, module), full in zip(convolutions, [width, dense.growth][not width :], strict=True):
                    site = _Site(f"features.{block}.denselayer{index}.{name}", number, module.out_channels)
                    changed += [] if reads_all else [site]
                    reads_all = reads_all and module.out_channels == full
                    number += 1
                nodes.append(reads_all)
            whole = next(reads) and all(nodes)
        elif isinstance(child, Transition):
            changed += [] if whole else [_Site(f"features.{block}.conv", number, child.conv.out_channels, True)]
            number += 1
    return changed if whole else [*changed, _Site("classifier", number, dense.classes)]


@contextmanager
def _hooked(
    network: nn.Module,
    sites: list[_Site],
    register: Callable[[nn.Module, Callable[..., None]], RemovableHandle],
    call: Callable[..., None],
) -> Iterator[None]:
    """Have a function called with a module's site in front of a hook's own arguments."""

    def at(site: _Site) -> Callable[..., None]:
        return lambda *arguments: call(site, *arguments)

    handles = [register(network.get_submodule(site.name), at(site)) for site in sites]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
