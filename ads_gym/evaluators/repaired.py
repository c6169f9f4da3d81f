"""Repaired accuracy: an architecture whose weights are solved again in closed form, as `ads_gym.nets.repair` does it.

The repaired weights of a destination depend on the mask up to there only, so masks share prefixes as they do in
inherited evaluation. Contributions of single sources do not exist behind a dropped connection, for the weights depend
on all sources; but the sums over rows of the normal equations do: a block of the Gram matrix belongs to two versions of
two sources and to their reader. Blocks are computed apart, in one shape each, so that their bits do not depend on what
else is in the batch.

Shapes: n images, r rows, i inputs of one source (its channels times the kernel's pixels), o outputs, f folds.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from ads_gym.evaluators.decomposition import (
    ClassifierDestination,
    Decomposition,
    Destination,
    Estimates,
    Input,
    LayerDestination,
    Memory,
    Node,
    TransitionDestination,
)
from ads_gym.evaluators.inherited import CACHE_FRACTION, InheritedEvaluator
from ads_gym.evaluators.kernels import LAYOUT, Affine, Convolution, Moments, moments
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.least_squares import NormalEquations, count_folds
from ads_gym.nets.repair import ROWS_PER_UNKNOWN, draw_positions

CHUNK_ROWS = 256  # that are summed in float32
COLUMNS = 128  # of a Gram matrix that are computed at once, for it is symmetric
REPAIR = 2  # goes up when the last bits of repaired metrics may change


class Rows:
    """Rows of a module's equations: positions of its output, fold by fold, filled up with rows of zeros.

    Args:
        places: int64 [n, p], pixels of each image.
        size: h, w of the maps that it reads.
        kernel: its size, in pixels.
        device, dtype: of rows.
    """

    def __init__(
        self, places: Tensor, size: tuple[int, int], kernel: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        (images, count), (height, width), folds = places.shape, size, count_folds(len(places))
        in_fold = -(-images // folds) * count
        chunks = -(-in_fold // CHUNK_ROWS)
        chunk = -(-in_fold // chunks)
        offsets = torch.arange(kernel) - kernel // 2
        y = (places // width)[..., None, None] + offsets[:, None]  # [n, p, k, 1]
        x = (places % width)[..., None, None] + offsets  # [n, p, 1, k]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        image = torch.arange(images)[:, None, None, None]
        index = (image * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
        by_fold = index.new_zeros(folds, chunks * chunk, kernel**2)
        weights = torch.zeros(by_fold.shape, dtype=dtype)
        for fold in range(folds):
            rows = len(places[fold::folds]) * count
            by_fold[fold, :rows] = index[fold::folds].reshape(rows, -1)
            weights[fold, :rows] = inside[fold::folds].reshape(rows, -1).to(dtype)
        self.folds, self._chunk = folds, chunk
        self._index = by_fold.flatten(0, 1).to(device)  # [r, k * k], of pixels of all images
        self._inside = weights.flatten(0, 1)[..., None].to(device)  # [r, k * k, 1]: 0 outside of the maps
        self.real = self._inside[:, kernel**2 // 2]  # [r, 1]: 1, and 0 of rows that fill up

    def read(self, maps: Tensor, affine: Affine | None = None, reader: int = 0) -> Tensor:
        """[r, i]: maps [n, c, h, w] where the module reads them, after BatchNorm and ReLU if an affine is given."""
        pixels = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
        found = pixels.index_select(0, self._index.flatten()).view(*self._index.shape, -1).to(self._inside.dtype)
        if affine is not None:
            found = torch.addcmul(affine.shift[reader, :, 0, 0], found, affine.scale[reader, :, 0, 0]).relu_()
        return (found * self._inside).flatten(1)

    def targets(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """[r, o], the module's outputs [n, o, h, w] at the rows, less their mean; and that mean, float64 [o]."""
        pixels = outputs.permute(0, 2, 3, 1).reshape(-1, outputs.shape[1])
        found = pixels.index_select(0, self._index[:, self._index.shape[1] // 2]).double()
        mean = (found * self.real).sum(0) / self.real.sum()
        return ((found - mean) * self.real).to(self.real.dtype), mean

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """float64 [f, i, j]: sums over the rows of each fold of products of rows [r, i] and [r, j]."""
        a, b = (rows.reshape(self.folds, -1, rows.shape[1]) for rows in (a, b))
        return torch.bmm(a.transpose(1, 2), b).double()

    def square(self, a: Tensor) -> Tensor:
        """`product` of rows [r, i] with themselves: what is above the diagonal, and more or less of the rest."""
        total = torch.zeros(self.folds, a.shape[1], a.shape[1], dtype=torch.float64, device=a.device)
        for low in range(0, a.shape[1], COLUMNS):
            part = slice(low, low + COLUMNS)
            total[:, part, low:] = self.product(a[:, part], a[:, low:])
        return total

    def sums(self, rows: Tensor) -> Tensor:
        """float64 [f, i]: sums of the rows [r, i] of each fold."""
        return rows.view(self.folds, -1, rows.shape[1]).sum(1).double()

    def moments(self, lacks: Tensor, rows: Tensor) -> Tensor:
        """float64 [f, i, o]: sums of products of what outputs lack, [o, r], and rows [r, i], exact to some 1e-7.

        (With few outputs, this order of factors is six times as fast as the other.)
        """
        chunks = lacks.view(len(lacks), -1, self._chunk).transpose(0, 1)
        products = torch.bmm(chunks, rows.view(-1, self._chunk, rows.shape[1])).double()
        return products.view(self.folds, -1, *products.shape[1:]).sum(1).transpose(1, 2)


class Site:
    """A convolution, or the classifier, that is solved again.

    Args:
        rows: of its equations.
        outputs: what it gives in the dense network, [n, o, h, w].
        weights: the supernet's, of each source, [o, c, k, k].
    """

    def __init__(self, rows: Rows, outputs: Tensor, weights: Sequence[Tensor]) -> None:
        self.rows, self._dtype = rows, weights[0].dtype
        targets, self._mean = rows.targets(outputs)
        self._targets = targets.T.contiguous()  # [o, r]
        last_channel = [weight.permute(0, 2, 3, 1) for weight in weights]
        self._shapes = [weight.shape for weight in last_channel]
        self._weights = [weight.flatten(1).T.double() for weight in last_channel]  # [i, o]

    @property
    def nbytes(self) -> int:
        """Bytes that solving it takes at most."""
        unknowns = sum(map(len, self._weights)) + 1
        return unknowns * (self.rows.real.nbytes + 3 * 8 * self.rows.folds * unknowns)

    def solve(
        self, inputs: Sequence[Input], read: Callable[[Input], Tensor], memory: Memory
    ) -> tuple[list[Tensor], Tensor]:
        """The new weights of each input, [o, c, k, k], and the shift, [o].

        The Gram matrix is a sum in float32. So what it gives is corrected once, by what the outputs lack then.

        Args:
            inputs: that the module reads.
            read: makes the rows [r, i] of one.
            memory: keeps rows and products of them.
        """
        rows = [memory.get(each.node, ("rows", each.reader), partial(read, each)) for each in inputs]
        old = torch.cat([self._weights[each.src] for each in inputs])
        ends = list(accumulate((each.shape[1] for each in rows), initial=0))
        spans = [slice(*pair) for pair in pairwise(ends)]
        gram = self._gram(inputs, rows, spans, memory)
        equations = NormalEquations(gram, self._moments(rows, spans, old, old.new_zeros(len(old) + 1, old.shape[1])))
        factor = equations.factor(equations.choose_ridge())
        added = factor.solve(equations.moments.sum(0))
        lacking = self._moments(rows, spans, old, added).sum(0)
        lacking[:-1] -= factor.penalty * added[:-1]
        added += factor.solve(lacking)
        solved = (old + added[:-1]).to(self._dtype)
        parts = [
            solved[span].T.reshape(self._shapes[each.src]).permute(0, 3, 1, 2)
            for each, span in zip(inputs, spans, strict=True)
        ]
        return parts, (self._mean + added[-1]).to(self._dtype)

    def _gram(self, inputs: Sequence[Input], rows: Sequence[Tensor], spans: Sequence[slice], memory: Memory) -> Tensor:
        """float64 [f, i + 1, i + 1]: sums over the rows of products of the inputs, the last of which is 1."""
        real, size = self.rows.real, spans[-1].stop + 1
        gram = torch.zeros(self.rows.folds, size, size, dtype=torch.float64, device=real.device)
        for later, (each, span) in enumerate(zip(inputs, spans, strict=True)):
            for earlier in range(later):
                product = partial(self.rows.product, rows[earlier], rows[later])
                gram[:, spans[earlier], span] = memory.get(each.node, (inputs[earlier].src, each.reader), product)
            square = partial(self.rows.square, rows[later])
            gram[:, span, span] = memory.get(each.node, ("square", each.reader), square)
            gram[:, span, -1] = self.rows.sums(rows[later])
        gram[:, -1:, -1] = self.rows.sums(real)
        return gram.triu() + gram.triu(1).transpose(1, 2)

    def _moments(self, rows: Sequence[Tensor], spans: Sequence[slice], old: Tensor, added: Tensor) -> Tensor:
        """float64 [f, i + 1, o], of the inputs and of what the outputs lack with the weights `old` + `added`."""
        added = added.to(self._targets.dtype)
        weights, real = old.to(added.dtype) + added[:-1], self.rows.real
        lacks = self._targets - added[-1][:, None] * real.T
        for each, span in zip(rows, spans, strict=True):
            lacks.addmm_(weights[span].T, each.T, alpha=-1)
        return torch.cat([self.rows.moments(lacks, each) for each in (*rows, real)], dim=1)


class Repaired(Destination):
    """A destination whose weights are solved again where it reads something else than in the dense network.

    Args:
        plain: with the supernet's weights.
        sites: its convolutions, in order.
    """

    def __init__(self, plain: Destination, sites: Sequence[Site]) -> None:
        self.block, self.plain, self.sites = plain.block, plain, sites

    def node(self, inputs: Sequence[Input], memory: Memory, known: Estimates | None) -> Node:
        """See `Destination`."""
        if len(inputs) == inputs[-1].src + 1 and all(each.node.is_whole for each in inputs):
            return self.plain.node(inputs, memory, known)
        node = self.changed(inputs, memory, known)
        node.is_whole = False
        return node

    def changed(self, inputs: Sequence[Input], memory: Memory, known: Estimates | None) -> Node:
        """The node with weights of its own: `known`, or solved on these images, those of calibration."""
        raise NotImplementedError


class RepairedLayer(Repaired):
    """A layer: a sum of convolutions; with a bottleneck, a second one."""

    plain: LayerDestination

    def changed(self, inputs: Sequence[Input], memory: Memory, known: Estimates | None) -> Node:
        """See `Repaired`."""
        weights = known.weights if known else (self._solve(inputs, memory),)
        maps, inner = self._convolve(inputs, weights[0]), None
        if self.plain.norm2:
            inner = cast(Moments, known.inner) if known else moments(maps)
            affine = self.plain.norm2(inner, known is None)
            if known is None:
                weights = (*weights, self._solve_second(maps, inner, affine))
            maps = self.plain.second_convolution(maps, affine, weights[1])
        return self.plain.make_node(maps, known, inner, weights)

    def _solve(self, inputs: Sequence[Input], memory: Memory) -> list[Convolution]:
        rows = self.sites[0].rows
        parts, _ = self.sites[0].solve(
            inputs, lambda each: rows.read(each.node.maps, cast(Affine, each.node.affine), each.reader), memory
        )
        return [self.block.convolution(part) for part in parts]

    def _solve_second(self, maps: Tensor, inner: Moments, affine: Affine) -> Convolution:
        node = Node(maps, Estimates(inner), affine)
        rows = self.sites[1].rows
        (part,), _ = self.sites[1].solve([Input(0, node, 0)], lambda each: rows.read(maps, affine), Memory(0))
        return self.block.convolution(part)

    def _convolve(self, inputs: Sequence[Input], convolutions: Sequence[Convolution]) -> Tensor:
        """The sum of what each input gives, few images at a time."""
        parts = []
        for low in range(0, len(inputs[0].node.maps), self.block.chunk):
            total: Tensor | None = None
            for each, convolve in zip(inputs, convolutions, strict=True):
                maps = each.node.maps[low : low + self.block.chunk]
                term = convolve(cast(Affine, each.node.affine).relu(maps, each.reader))
                total = term if total is None else total.add_(term)
            parts.append(convolutions[0].maps(cast(Tensor, total)))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class RepairedTransition(Repaired):
    """A transition: its contributions are pooled maps, from which its convolution is solved."""

    plain: TransitionDestination

    def changed(self, inputs: Sequence[Input], memory: Memory, known: Estimates | None) -> Node:
        """See `Repaired`."""
        terms = self.plain.terms(inputs, memory)
        weights = known.weights if known else (self._solve(inputs, terms, memory),)
        return self.plain.make_node(self.plain.convolve(terms, weights[0]), known, None, weights)

    def _solve(self, inputs: Sequence[Input], terms: Sequence[Tensor], memory: Memory) -> Tensor:
        by_src = {each.src: term for each, term in zip(inputs, terms, strict=True)}
        parts, _ = self.sites[0].solve(inputs, lambda each: self.sites[0].rows.read(by_src[each.src]), memory)
        return torch.cat(parts, dim=1)


class RepairedClassifier(Repaired):
    """The classifier: its contributions are means over pixels."""

    plain: ClassifierDestination

    def changed(self, inputs: Sequence[Input], memory: Memory, known: Estimates | None) -> Node:
        """See `Repaired`."""
        terms = self.plain.terms(inputs, memory)
        if known is None:
            by_src = {each.src: term[..., None, None] for each, term in zip(inputs, terms, strict=True)}
            parts, bias = self.sites[0].solve(inputs, lambda each: self.sites[0].rows.read(by_src[each.src]), memory)
            known = Estimates(None, weights=(torch.cat(parts, dim=1).flatten(1), bias))
        return Node(functional.linear(torch.cat(terms, dim=1), *known.weights), known, None)


class RepairedDecomposition(Decomposition):
    """A decomposed copy of a supernet that repairs what masks change.

    Args:
        supernet, device, dtype, chunk: see `Decomposition`.
        images: of calibration, float [n, c, h, w] scaled to [-1, 1].
        rows_per_unknown: see `ads_gym.nets.repair.repair`.
    """

    def __init__(
        self,
        supernet: DenseNet,
        device: torch.device,
        dtype: torch.dtype,
        chunk: int,
        images: Tensor,
        rows_per_unknown: float,
    ) -> None:
        super().__init__(supernet, device, dtype, chunk)
        path, memory = [self.stem(images.contiguous(memory_format=LAYOUT), None)], Memory(0)
        plain, self.destinations, draw = self.destinations, [], _Draw(len(images), rows_per_unknown)
        for destination in plain:
            first = destination.block.first
            inputs = [Input(src, node, len(path) - 1 - first - src) for src, node in enumerate(path[first:])]
            node = destination.node(inputs, memory, None)
            path.append(node)
            self.destinations.append(_repaired(destination, inputs, node, draw))


class _Draw:
    """Draws the rows of one module after the other, as `ads_gym.nets.repair.repair` does with seed 0."""

    def __init__(self, images: int, rows_per_unknown: float) -> None:
        self._images, self._per_unknown, self._number = images, rows_per_unknown, -1

    def __call__(self, weights: Sequence[Tensor], size: tuple[int, int]) -> Rows:
        """Rows of a module with these weights that reads maps of `size`."""
        self._number += 1
        unknowns, weight = sum(weight[0].numel() for weight in weights), weights[0]
        places = draw_positions(self._images, size[0] * size[1], self._per_unknown * unknowns, self._number)
        return Rows(places, size, weight.shape[-1], weight.device, torch.promote_types(weight.dtype, torch.float32))


def _repaired(plain: Destination, inputs: Sequence[Input], node: Node, draw: _Draw) -> Destination:
    """A destination with its sites, from what it reads and gives in the dense network."""
    size = plain.block.size
    if isinstance(plain, LayerDestination):
        sites = [Site(draw(plain.weights, size), plain.first_convolution(inputs, Memory(0)), plain.weights)]
        if plain.weight2 is not None:
            sites.append(Site(draw([plain.weight2], size), node.maps, [plain.weight2]))
        return RepairedLayer(plain, sites)
    if isinstance(plain, TransitionDestination):
        return RepairedTransition(
            plain, [Site(draw(plain.weights, (size[0] // 2, size[1] // 2)), node.maps, plain.weights)]
        )
    weights = [weight[..., None, None] for weight in cast(ClassifierDestination, plain).weights]
    return RepairedClassifier(plain, [Site(draw(weights, (1, 1)), node.maps[..., None, None], weights)])


class RepairedEvaluator(InheritedEvaluator):
    """Computes the metrics of masks on VALID with repaired weights, on a CPU or a GPU.

    The calibration images are those from which weights are solved. Arguments and errors are `InheritedEvaluator`'s.
    """

    def _decompose(self, supernet: DenseNet) -> Decomposition:
        arguments = supernet, self.device, self.dtype, self._chunk, self._calibration, ROWS_PER_UNKNOWN
        (made,) = self._workers.map(lambda each: RepairedDecomposition(*each), [arguments], 1)  # on one thread
        solved = [destination for destination in made.destinations if isinstance(destination, Repaired)]
        self._bytes_beside = max(site.nbytes for destination in solved for site in destination.sites)
        weights = sum(destination.plain.nbytes for destination in solved)
        self._masks_at_once = max(1, self._memory_limit // CACHE_FRACTION // weights)
        return made

    def _settings(self) -> list[str]:
        return [*super()._settings(), f"repaired {REPAIR}, {ROWS_PER_UNKNOWN} rows an unknown"]
