"""Which channels are needed least: of what each layer reads, and between the two convolutions of bottleneck layers.

A skip connection is a coarse thing to drop: a layer that can do without most of what another one gives may need some
channels of it. So each layer, transition and the classifier reads as many channels of each node before it as it needs.
Behind a bottleneck, half of the work is in the 3x3 convolutions and the 4k channels that they read; those of them that
go make a layer narrower.

Channels go by backward elimination (`ads_gym.nets.elimination`): those first whose loss the others make up for, for the
MACs that are saved. Then the network is repaired (`ads_gym.nets.repair`). Any order of a node's channels, and of those
within a bottleneck, gives the same network. So they are sorted, those that are needed most first, and numbers say how
many are kept (H. Cai et al., "Once-for-All", ICLR 2020, sorts channels for that purpose).
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, chain, islice, pairwise
from typing import Annotated, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.errors import InvalidValue
from ads_gym.limits import MAX_GROWTH, MAX_MACS
from ads_gym.nets.cost import architecture_cost, dense_cost, destinations
from ads_gym.nets.densenet import DenseNet, Layer, Transition, check_input
from ads_gym.nets.elimination import Elimination, merged
from ads_gym.nets.repair import LayerProgress, Solvable
from ads_gym.nets.sensitivity import sensitivities
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.records import Seed, checked
from ads_gym.topology import Topology
from ads_gym.torch_state import isolated

Permutation = tuple[Annotated[int, Field(ge=0)], ...]  # where each channel was
PUT_BACK = 256  # groups of channels of which it is tried whether they fit again


class Group(NamedTuple):
    """Channels of one node, or of one bottleneck, that go together."""

    node: int  # of which a destination reads them; 0 for a bottleneck
    channels: int
    price: float  # by how much the loss rises, for each MAC that is saved


@dataclass(frozen=True, eq=False)
class ChannelOrders:
    """In which order a network's channels are best dropped, and what each of them is worth."""

    supernet: DenseNet  # gives what it gave before, up to rounding; what is needed most comes first everywhere
    reads: tuple[tuple[Group, ...], ...]  # of each destination, block by block, layers then output: as they go
    between: tuple[tuple[Group, ...], ...]  # of each layer with a bottleneck: channels between its two convolutions
    nodes: tuple[tuple[Permutation, ...], ...]  # of each block, of its input and its layers; see `reordered`
    bottlenecks: tuple[Permutation, ...]  # of each layer with a bottleneck

    @checked
    def within(self, max_macs: Annotated[int, Field(ge=0, le=MAX_MACS)], *, reads: bool = True) -> Architecture:
        """Return the architecture with as many channels as a limit on MACs allows.

        Args:
            max_macs: for one image.
            reads: whether channels that layers read go, too; else only those within bottlenecks.

        Raises:
            InvalidValue: a limit below what the smallest network needs.
        """
        config = self.supernet.config
        order = list(merged([*(self.reads if reads else [()] * len(self.reads)), *self.between]))
        low, high = 0, len(order)  # the fewest groups that have to go
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._macs(order[:middle]) <= max_macs else (middle + 1, high)
        dropped = order[:low]
        if (macs := self._macs(dropped)) > max_macs:
            raise InvalidValue(
                f"at most {max_macs:,} MACs are asked for, and this network still needs {macs:,}, "
                f"{macs / dense_cost(config)[0]:.1%} of all, with as few channels as there can be: raise the limit."
            )
        for place in reversed(range(max(0, low - PUT_BACK), low)):  # what fits is put back
            queue, group = dropped[place]
            is_last = all((queue, group.node) != (other, later.node) for other, later in dropped[place + 1 :])
            if is_last and self._macs(dropped[:place] + dropped[place + 1 :]) <= max_macs:
                del dropped[place]
        return self._without(dropped)

    def _macs(self, dropped: Sequence[tuple[int, Group]]) -> int:
        return architecture_cost(self._without(dropped))[0]

    def _without(self, dropped: Sequence[tuple[int, Group]]) -> Architecture:
        """The network without some groups; each with the number of its queue: of `reads`, then of `between`."""
        config = self.supernet.config
        counts = [list(widths) for widths in config.source_widths]
        widths = list(chain.from_iterable(config.bottleneck_channels))
        for queue, group in dropped:
            if queue < len(counts):
                counts[queue][group.node] -= group.channels
            else:
                widths[queue - len(counts)] -= group.channels
        if config.bottleneck and widths != list(chain.from_iterable(config.bottleneck_channels)):
            config = replace(config, widths=tuple(widths))
        if all(queue >= len(counts) for queue, _ in dropped):
            return Architecture(config, Topology(config.blocks).dense())
        return Architecture.reading(config, tuple(map(tuple, counts)))


@checked
def least_macs(
    config: DenseNetConfig, multiple: Annotated[int, Field(ge=1, le=MAX_GROWTH)] = 1, *, reads: bool = True
) -> int:
    """MACs of the smallest network that `ChannelOrders.within` gives.

    Each layer reads so many channels (or all, where there are fewer) of the node before it, and has so many within its
    bottleneck.
    """
    widths = [min(width, multiple) for block in config.bottleneck_channels for width in block]
    narrow = replace(config, widths=tuple(widths)) if config.bottleneck else config
    if not reads:
        return dense_cost(narrow)[0]
    counts = tuple((*[0] * (len(each) - 1), min(each[-1], multiple)) for each in config.source_widths)
    return architecture_cost(Architecture.reading(narrow, counts))[0]


@checked
def order_channels(
    supernet: DenseNet,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    multiple: Annotated[int, Field(ge=1, le=MAX_GROWTH)] = 1,
    seed: Seed = 0,
    progress: LayerProgress | None = None,
) -> ChannelOrders:
    """Order the channels that each layer reads, and those within each bottleneck, by how much they are needed.

    The squared error of what a convolution gives counts by how much the loss rises with it.

    Args:
        supernet: a trained network; not changed.
        images: float [n, c, h, w] as it reads them, at least two, on its device.
        labels: int64 [n], for the loss; None: classes are drawn from what the network predicts.
        multiple: so many channels go together: 8 where a GPU is to be fast.
        seed: of what is drawn.
        progress: called after every convolution with those done and their number.

    Raises:
        InvalidValue: images that the network does not read.
    """
    config = supernet.config
    check_input(images, config)
    if len(images) < 2 or not torch.isfinite(images).all():
        raise InvalidValue(f"residuals need at least two images of finite numbers, got {len(images)}.")
    network = build_sparse(Architecture(config, Topology(config.blocks).dense()), supernet)
    modules = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and not name.endswith("conv0")
    }
    orders = _Orders(config, sensitivities(supernet, images, labels, seed=seed), multiple, seed)

    def eliminate(name: str, module: Solvable, inputs: tuple[Tensor]) -> None:
        orders.add(name, module, inputs[0])
        if progress is not None:
            progress(orders.done, len(modules))

    for name, module in modules.items():
        module.register_forward_pre_hook(partial(eliminate, name))
    with isolated(images.device):
        calibrate(network, images)
    nodes, bottlenecks = tuple(orders.nodes), tuple(orders.bottlenecks)
    return ChannelOrders(
        reordered(supernet, nodes, bottlenecks), tuple(orders.reads), tuple(orders.between), nodes, bottlenecks
    )


class _Orders:
    """Orders channels, a convolution after the other; those that are read, when a block has been gone through.

    First each destination eliminates channels as it likes. How long it keeps each, mean over all that read it, is the
    order of a node's channels. Then it eliminates once more, and of each node those first that come last.
    """

    def __init__(self, config: DenseNetConfig, rises: dict[str, Tensor], multiple: int, seed: int) -> None:
        self.done = 0  # convolutions
        self.reads: list[tuple[Group, ...]] = []
        self.between: list[tuple[Group, ...]] = []
        self.nodes: list[tuple[Permutation, ...]] = []
        self.bottlenecks: list[Permutation] = []
        self._config, self._rises, self._multiple, self._seed = config, rises, multiple, seed
        self._destinations = list(zip(destinations(config), config.source_widths, strict=True))
        self._block: list[Elimination] = []  # of the block's destinations so far

    def add(self, name: str, module: Solvable, inputs: Tensor) -> None:
        """Go on with a convolution, or the classifier, and what it reads."""
        elimination = Elimination(module, inputs, self._seed + self.done, self._rises[name])
        self.done += 1
        if name.endswith(".conv2"):
            self._add_bottleneck(elimination, inputs.shape[1])
            return
        self._block.append(elimination)
        if not self._destinations[len(self.reads) + len(self._block) - 1][0].is_layer:
            self._end_block()

    def _add_bottleneck(self, elimination: Elimination, channels: int) -> None:
        reader, _ = self._destinations[len(self.reads) + len(self._block) - 1]
        saving = (reader.channels + 9 * self._config.growth) * reader.pixels  # what computes a channel, and reads it
        order = list(
            elimination.order([[channel] for channel in range(channels)], dict.fromkeys(range(channels), saving))
        )
        self.bottlenecks.append(tuple(each.part for each in reversed(order)))
        sizes = _sizes(channels, self._multiple)[::-1]
        prices = iter(each.price for each in order)
        groups = [Group(0, size, sum(islice(prices, size)) / size) for size in sizes]
        self.between.append(tuple(groups[:-1]))

    def _end_block(self) -> None:
        widths = [*self._destinations[len(self.reads) + len(self._block) - 1][1]]
        starts = list(accumulate(widths, initial=0))
        ranks = torch.zeros(starts[-1], dtype=torch.float64, device="cpu")
        for number, elimination in enumerate(self._block, start=1):
            channels = starts[number]
            free = elimination.order([[channel] for channel in range(channels)], dict.fromkeys(range(channels), 1.0))
            for place, each in enumerate(free):
                ranks[each.part] += place / channels
        nodes = [ranks[start:end].argsort(descending=True, stable=True) for start, end in pairwise(starts)]
        self.nodes.append(tuple(tuple(order.tolist()) for order in nodes))
        found = [
            tuple(
                self._groups(
                    elimination,
                    [(start + order).tolist() for start, order in zip(starts, nodes[:number], strict=False)],
                )
            )
            for number, elimination in enumerate(self._block, start=1)
        ]
        self.reads += found
        self._block = []

    def _groups(self, elimination: Elimination, channels: list[list[int]]) -> Iterator[Group]:
        """What a destination can do without, as it goes; of the last node it keeps a group.

        Args:
            elimination: of it.
            channels: of each node that it reads, those that are needed most first.
        """
        reader, _ = self._destinations[len(self.reads) + len(channels) - 1]
        parts: list[list[int]] = []
        nodes: list[int] = []
        after: dict[int, int] = {}
        for node, each in enumerate(channels):
            rest = iter(each)
            sizes = _sizes(len(each), self._multiple)
            first = len(parts)
            parts += [list(islice(rest, size)) for size in sizes]
            nodes += [node] * len(sizes)
            after |= {part: part + 1 for part in range(first, len(parts) - 1)}
        savings = {part: float(len(some) * reader.weights * reader.pixels) for part, some in enumerate(parts)}
        del savings[first]
        for dropped in elimination.order(parts, savings, after):
            yield Group(nodes[dropped.part], len(parts[dropped.part]), dropped.price)


def _sizes(channels: int, multiple: int) -> list[int]:
    """Of groups of channels; only the last one, which goes first, may be smaller."""
    return [min(multiple, channels - low) for low in range(0, channels, multiple)]


@checked
@torch.no_grad()
def reordered(
    supernet: DenseNet, nodes: tuple[tuple[Permutation, ...], ...], bottlenecks: tuple[Permutation, ...]
) -> DenseNet:
    """Return a copy of a network with its channels in another order: it gives the same, up to rounding.

    Args:
        supernet: is not changed.
        nodes: of each block, of its input and of each layer, where each of its channels was.
        bottlenecks: of each layer with a bottleneck, likewise.

    Raises:
        InvalidValue: no order of its channels.
    """
    network, config = copy.deepcopy(supernet), supernet.config
    expected = [config.source_widths[end - 1] for end in accumulate(layers + 1 for layers in config.blocks)]
    between = [width for block in config.bottleneck_channels for width in block if width]
    found = [*chain.from_iterable(nodes), *bottlenecks]
    if [sorted(order) for order in found] != [
        list(range(width)) for width in [*chain.from_iterable(expected), *between]
    ]:
        raise InvalidValue("channels should be orders, each of all channels of a node, and of a bottleneck.")
    device = supernet.classifier.weight.device
    of_bottlenecks = (torch.tensor(order, device=device) for order in bottlenecks)
    block, read = -1, torch.empty(0)
    for child in network.features:
        if isinstance(child, nn.Sequential):
            block += 1
            orders = [torch.tensor(order, device=device) for order in nodes[block]]
            starts = list(accumulate(expected[block], initial=0))
            if block == 0:
                _give(network.features.get_submodule("conv0"), orders[0])
                if hasattr(network.features, "norm0"):
                    _normalise(network.features.get_submodule("norm0"), orders[0])
            for number, layer in enumerate(cast(list[Layer], list(child)), start=1):
                read = torch.cat([start + order for start, order in zip(starts, orders[:number], strict=False)])
                _normalise(layer.norm1, read)
                _read(layer.conv1, read)
                if layer.bottleneck:
                    within = next(of_bottlenecks)
                    _give(layer.conv1, within)
                    _normalise(layer.norm2, within)
                    _read(layer.conv2, within)
                _give(layer.conv2 if layer.bottleneck else layer.conv1, orders[number])
            read = torch.cat([start + order for start, order in zip(starts, orders, strict=False)])
        elif isinstance(child, Transition):
            _normalise(child.norm, read)
            _read(child.conv, read)
            _give(child.conv, torch.tensor(nodes[block + 1][0], device=device))
    _normalise(network.features.get_submodule("norm5"), read)
    _read(network.classifier, read)
    return network


def _give(module: nn.Module, order: Tensor) -> None:
    weight = cast(Tensor, module.weight)
    weight.copy_(weight[order])


def _read(module: nn.Module, order: Tensor) -> None:
    weight = cast(Tensor, module.weight)
    weight.copy_(weight[:, order])


def _normalise(norm: nn.Module, order: Tensor) -> None:
    for tensor in (*norm.parameters(), *norm.buffers()):
        if tensor.ndim:
            tensor.copy_(tensor[order])
