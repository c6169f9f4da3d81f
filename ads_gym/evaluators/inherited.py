"""Inherited accuracy: an architecture with the supernet's weights, no training, BatchNorm statistics its own.

How it is computed. Pre-activation BatchNorm normalises raw feature maps channel by channel, so mean and variance belong
to a source and are the same for all its readers. One pass over the calibration images, layer by layer, leaves the
statistics of every source; then VALID is scored chunk by chunk with them. Only kept channels are computed. Masks are
sorted, so that neighbours in the batch share the stack of feature maps up to the first node at which they differ; every
operation on a mask is the same whatever else is in the batch, and so are its bits.

Shapes: n images, c channels, h x w pixels, E skip connections.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.splits import ImageSet, Split, network_input
from ads_gym.devices import resolve_device
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.base import Metrics, with_cost
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet, Layer, Transition, kept_channels, kept_sources, source_widths
from ads_gym.nets.scoring import score_logits
from ads_gym.topology import BoolArray, Scope, Topology

if TYPE_CHECKING:
    from ads_gym.tasks import Task

CHUNK_BYTES = 8 << 20  # of the widest concatenation in one chunk of VALID: about what a cache holds
Sources = tuple[int, ...]


class Moments(NamedTuple):
    """Statistics of feature maps over the calibration images, float [c]."""

    mean: Tensor
    biased: Tensor  # variance that a train-mode pass normalises by
    unbiased: Tensor  # variance that it stores, and an eval-mode pass normalises by


class Node(NamedTuple):
    """What one node is under one mask: feature maps of the images at hand, and statistics of the calibration's."""

    maps: Tensor  # [n, c, h, w]; logits [n, classes] at the classifier
    output: Moments | None  # of those maps; None at the classifier
    inner: Moments | None  # of what the node's own second BatchNorm reads (bottleneck layers, the ImageNet stem)


class InheritedEvaluator:
    """Masks in, inherited metrics on VALID out, on a CPU or a GPU.

    Args:
        supernet: trained; its weights are copied.
        calibration: the images on which an architecture's BatchNorm statistics are re-estimated.
        valid: the images that are scored.
        scope: which skip connections a mask speaks of.
        device: "cpu", "cuda", "cuda:1", or "auto": CUDA where there is one.
        dtype: of weights and feature maps.

    Raises:
        DeviceUnavailable: this machine has no such device.
    """

    def __init__(
        self,
        supernet: DenseNet,
        calibration: ImageSet,
        valid: ImageSet,
        scope: Scope = Scope.LAYERS,
        device: str = "auto",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device, self.dtype = resolve_device(device), dtype
        self.config: DenseNetConfig = supernet.config
        self.topology = Topology(self.config.blocks, Scope(scope))
        self._cost = CostTable(self.config, self.topology.scope)
        self.fingerprint = _fingerprint(self, supernet, calibration, valid)
        self._stem, self._destinations = _parts(supernet, self.device, dtype)
        self._calibration = network_input(calibration.images.to(self.device), dtype)
        self._valid = network_input(valid.images.to(self.device), dtype)
        self._labels = valid.labels.to(self.device)
        self._chunk = chunk_images(self.config, dtype)

    @classmethod
    def of(
        cls,
        task: "Task",
        scope: Scope = Scope.LAYERS,
        device: str = "auto",
        split: Split = Split.VALID,
        dtype: torch.dtype = torch.float32,
    ) -> "InheritedEvaluator":
        """The evaluator of a task.

        Raises:
            InvalidValue: a split other than VALID: TRAIN was fitted, and TEST must never steer a search.
        """
        if split is not Split.VALID:
            raise InvalidValue(f"rewards come from VALID, got '{split}': TRAIN was fitted, TEST is read at the end.")
        return cls(task.supernet(), task.calibration(), task.images(split), scope, device, dtype)

    def evaluate(self, masks: BoolArray) -> list[Metrics]:
        """The metrics of masks bool[n, E], in their order."""
        masks = self.topology.check_masks(masks)
        if not len(masks):
            return []
        scores = torch.stack([score_logits(logits, self._labels) for logits in self._logits(masks)])
        return with_cost(self._cost, masks, scores.cpu().tolist())

    def logits(self, mask: BoolArray) -> Tensor:
        """[n, classes]: what one mask bool[E] gives the images of VALID."""
        return self._logits(self.topology.check_masks(mask)[None])[0]

    @torch.inference_mode()
    def _logits(self, masks: BoolArray) -> list[Tensor]:
        plans = [kept_sources(self.config, mask, self.topology.scope) for mask in masks]
        order = sorted(range(len(plans)), key=plans.__getitem__)
        ordered = [plans[i] for i in order]
        for destination in self._destinations:
            destination.slices.clear()
        nothing = torch.empty(0)  # for maps that only the calibration pass needed; a slice would keep them alive
        known = [[node._replace(maps=nothing) for node in path] for path in self._paths(self._calibration, ordered)]
        rows: list[list[Tensor]] = [[] for _ in plans]
        for images in torch.split(self._valid, self._chunk):
            for i, path in zip(order, self._paths(images, ordered, known), strict=True):
                rows[i].append(path[-1].maps)
        return [torch.cat(row) for row in rows]

    def _paths(
        self, images: Tensor, plans: Sequence[list[Sources]], known: Sequence[list[Node]] | None = None
    ) -> Iterator[list[Node]]:
        """For each of the sorted plans: its nodes, stem first, classifier last; neighbours share what they agree on.

        Args:
            images: [n, c, h, w].
            plans: for each mask, what each destination reads.
            known: for each mask, nodes with the statistics to normalise by; None: estimate them, on these images.
        """
        path: list[Node] = []
        previous: list[Sources] = []
        for number, plan in enumerate(plans):
            agree = next((i for i, (a, b) in enumerate(zip(plan, previous, strict=False)) if a != b), len(previous))
            del path[agree + 1 :]
            if not path:
                path.append(self._stem(images, known[number][0] if known else None))
            for i in range(len(path) - 1, len(plan)):
                path.append(self._destinations[i](plan[i], path, known[number][i + 1] if known else None))
            previous = plan
            yield path


class _Stem:
    """The first feature map; its statistics do not depend on the mask."""

    def __init__(self, modules: nn.Module) -> None:
        self.modules = modules

    def __call__(self, images: Tensor, known: Node | None) -> Node:
        inner, maps = None, images
        for module in self.modules.children():
            if isinstance(module, nn.BatchNorm2d):
                inner = known.inner if known else _moments(maps)
                maps = _normalise(maps, [cast(Moments, inner)], (module.weight, module.bias), module.eps, known is None)
            else:
                maps = module(maps)
        return Node(maps, known.output if known else _moments(maps), inner)


class _Destination:
    """A layer, a transition or the classifier, ready to read any choice of its sources.

    Args:
        module: with the weights for all sources.
        norm: its first BatchNorm.
        widths: channels of each node that it could read.
        first: position of its block's node 0 on a path.
    """

    def __init__(self, module: nn.Module, norm: nn.BatchNorm2d, widths: list[int], first: int) -> None:
        self.module, self.norm, self.widths, self.first = module, norm, widths, first
        self.slices: dict[Sources, tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, sources: Sources, path: Sequence[Node], known: Node | None) -> Node:
        """The node under a mask that keeps `sources`; `known` has its statistics, None: estimate them."""
        if sources not in self.slices:
            self.slices[sources] = self._slice(sources)
        weight, *affine = self.slices[sources]
        nodes = [path[self.first + src] for src in sources]
        maps = torch.cat([node.maps for node in nodes], dim=1) if len(nodes) > 1 else nodes[0].maps
        moments = [cast(Moments, node.output) for node in nodes]
        maps = functional.relu_(_normalise(maps, moments, (affine[0], affine[1]), self.norm.eps, known is None))
        inner = None
        if isinstance(self.module, nn.Linear):
            return Node(functional.linear(maps.mean(dim=(2, 3)), weight, self.module.bias), None, None)
        if isinstance(self.module, Transition):  # pooling and a 1x1 convolution commute; this way round is cheaper
            maps = functional.conv2d(functional.avg_pool2d(maps, 2), weight)
        else:
            layer = cast(Layer, self.module)
            maps = functional.conv2d(maps, weight, padding=weight.shape[-1] // 2)
            if layer.bottleneck:
                inner = known.inner if known else _moments(maps)
                own = (layer.norm2.weight, layer.norm2.bias)
                maps = functional.relu_(_normalise(maps, [cast(Moments, inner)], own, layer.norm2.eps, known is None))
                maps = functional.conv2d(maps, layer.conv2.weight, padding=1)
        return Node(maps, known.output if known else _moments(maps), inner)

    def _slice(self, sources: Sources) -> tuple[Tensor, Tensor, Tensor]:
        """(convolution weight, BatchNorm weight, BatchNorm bias) of the channels of `sources`."""
        channels = kept_channels(sources, self.widths).to(self.norm.weight.device)
        module = self.module
        reader = module if isinstance(module, nn.Linear) else module.conv if isinstance(module, Transition) else None
        weight = (reader or cast(Layer, module).conv1).weight
        return weight.index_select(1, channels), self.norm.weight[channels], self.norm.bias[channels]


def chunk_images(config: DenseNetConfig, dtype: torch.dtype) -> int:
    """How many images of VALID are scored at once: a number fixed by the network, so that it cannot move a result."""
    widest = max(block.concatenated(config.growth) * block.height * block.width for block in config.geometry)
    return max(1, CHUNK_BYTES // (widest * dtype.itemsize))


def _parts(supernet: DenseNet, device: torch.device, dtype: torch.dtype) -> tuple[_Stem, list[_Destination]]:
    """A copy of the supernet, taken apart: the stem, and every destination, block by block."""
    network = DenseNet(supernet.config)
    network.load_state_dict(supernet.state_dict())
    network.to(device, dtype).requires_grad_(False)
    stem, readers = nn.Sequential(), []
    for name, child in network.features.named_children():
        if isinstance(child, nn.Sequential):
            readers += [(layer, cast(Layer, layer).norm1) for layer in child]
        elif isinstance(child, Transition):
            readers.append((child, child.norm))
        elif name != "norm5":
            stem.add_module(name, child)
    readers.append((network.classifier, cast(nn.BatchNorm2d, network.features.norm5)))
    first, firsts = 0, []
    for block in supernet.config.geometry:
        firsts += [first] * (block.layers + 1)
        first += block.layers + 1
    rows = zip(readers, source_widths(supernet.config), firsts, strict=True)
    return _Stem(stem), [_Destination(module, norm, widths, first) for (module, norm), widths, first in rows]


def _moments(maps: Tensor) -> Moments:
    """Mean and variances of every channel of maps [n, c, h, w]; in two passes, ten times `torch.var_mean`'s speed."""
    mean = maps.mean(dim=(0, 2, 3))
    variance = (maps - mean[:, None, None]).square_().mean(dim=(0, 2, 3))
    count = maps.numel() // maps.shape[1]
    return Moments(mean, variance, variance * (count / max(1, count - 1)))


def _normalise(
    maps: Tensor, moments: Sequence[Moments], affine: tuple[Tensor, Tensor], eps: float, calibrating: bool
) -> Tensor:
    """BatchNorm of concatenated maps [n, c, h, w] with the moments of each of them, in order; a fresh tensor."""
    variances = [m.biased if calibrating else m.unbiased for m in moments]
    mean, variance = torch.cat([m.mean for m in moments]), torch.cat(variances)
    return functional.batch_norm(maps, mean, variance, affine[0], affine[1], training=False, eps=eps)


def _fingerprint(evaluator: InheritedEvaluator, supernet: DenseNet, calibration: ImageSet, valid: ImageSet) -> str:
    """Hex digest of weights, data and every setting that moves a metric."""
    settings = (evaluator.config, evaluator.topology.scope, evaluator.dtype, evaluator.device.type, torch.__version__)
    digest = hashlib.sha256(repr(settings).encode())
    for tensor in (calibration.images, valid.images, valid.labels, *supernet.state_dict().values()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
