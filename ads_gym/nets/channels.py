"""Which channels are needed least: of what each layer reads, and between the two convolutions of bottleneck layers.

A skip connection is a coarse thing to drop: a layer that can do without most of what another one gives may need some
channels of it. So each layer, transition and the classifier reads as many channels of each node before it as it needs.
Behind a bottleneck, most of the work goes with the 4k channels between the two convolutions of a layer; those of them
that go make it narrower.

Channels go by backward elimination (`ads_gym.nets.elimination`): those first whose loss the others make up for, for the
MACs that are saved. Then the network is repaired (`ads_gym.nets.repair`). Any order of a node's channels, and of those
within a bottleneck, gives the same network. So they are sorted, those that are needed most first, and numbers say how
many are kept (H. Cai et al., "Once-for-All", ICLR 2020, sorts channels for that purpose).
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, cycle, islice
from typing import Annotated, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.errors import InvalidValue
from ads_gym.limits import MAX_GROWTH, MAX_MACS
from ads_gym.nets.cost import Destination, architecture_cost, dense_cost, destinations
from ads_gym.nets.densenet import DenseNet, Layer, Transition
from ads_gym.nets.elimination import Elimination, merged
from ads_gym.nets.elimination_pass import Eliminations
from ads_gym.nets.repair import LayerProgress
from ads_gym.records import Seed, checked
from ads_gym.topology import Topology

Permutation = tuple[Annotated[int, Field(ge=0)], ...]  # where each channel was
PUT_BACK = 256  # groups of channels of which it is tried whether they fit again
KEPT_BYTES = 1 << 30  # that eliminations of one block may take together; those of larger ones are made twice


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
        """Return the architecture that is left when channels go until the network is within a limit on MACs.

        Those that went last are put back as far as they fit.

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
    eliminations = Eliminations(supernet, images, labels, seed=seed)
    orders = _Orders(supernet.config, multiple, seed, progress)
    eliminations.visit(orders.take)
    if orders.is_missing:
        eliminations.visit(orders.take)
    nodes, bottlenecks = tuple(orders.nodes), tuple(orders.bottlenecks)
    reads = tuple(orders.reads[number] for number in range(len(orders.reads)))
    return ChannelOrders(reordered(supernet, nodes, bottlenecks), reads, tuple(orders.between), nodes, bottlenecks)


class _Orders:
    """Orders channels, a convolution after the other; those that are read, when a block has been gone through.

    First each destination eliminates channels as it likes. How long it keeps each, summed over all that read it, is the
    order of a node's channels. Then it eliminates once more, and of each node those first that come last. A block whose
    eliminations take too much memory to be kept does that when the network is gone through once more.
    """

    def __init__(self, config: DenseNetConfig, multiple: int, seed: int, progress: LayerProgress | None) -> None:
        self.reads: dict[int, tuple[Group, ...]] = {}  # by destination
        self.between: list[tuple[Group, ...]] = []
        self.nodes: list[tuple[Permutation, ...]] = []
        self.bottlenecks: list[Permutation] = []
        self._config, self._multiple, self._progress = config, multiple, progress
        self._destinations = list(zip(destinations(config), config.source_widths, strict=True))
        self._modules = len(self._destinations) + sum(
            width > 0 for each in config.bottleneck_channels for width in each
        )
        self._seeds = cycle(range(seed, seed + self._modules))
        self._numbers = cycle(range(len(self._destinations)))
        self._number = 0  # of the destination that came last
        self._kept: dict[int, Elimination] = {}  # of this block's destinations, as long as there is room for them
        self._bytes = 0  # that all of them take
        self._ranks = torch.empty(0)  # of the block's channels

    @property
    def is_missing(self) -> bool:
        """Whether the network has to be gone through once more."""
        return len(self.reads) < len(self._destinations)

    def take(self, name: str, make: Callable[[int], Elimination]) -> None:
        """Go on with a convolution, or the classifier: see `Eliminations.visit`."""
        is_again = len(self.nodes) == len(self._config.blocks)  # the network is gone through once more
        seed = next(self._seeds)
        if name.endswith(".conv2"):
            if not is_again:
                self._add_bottleneck(make(seed))
            return
        number = self._number = next(self._numbers)
        reader, widths = self._destinations[number]
        if is_again:
            if number not in self.reads:
                self._eliminate(number, make(seed))
            return
        if len(widths) == 1:
            last = sum(self._config.node_widths[reader.block])
            self._kept, self._bytes, self._ranks = {}, 0, torch.zeros(last, dtype=torch.float64, device="cpu")
        elimination = make(seed)
        channels = reader.channels
        free = elimination.order([[channel] for channel in range(channels)], dict.fromkeys(range(channels), 1.0))
        for place, each in enumerate(free):
            self._ranks[each.part] += place / channels
        self._bytes += elimination.nbytes
        self._kept = {} if self._bytes > KEPT_BYTES else self._kept | {number: elimination}
        if not reader.is_layer:
            parts = torch.split(self._ranks, list(self._config.node_widths[reader.block]))
            orders = [part.argsort(descending=True, stable=True).tolist() for part in parts]
            self.nodes.append(tuple(map(tuple, orders)))
            for destination, kept in self._kept.items():
                self._eliminate(destination, kept)
            self._kept = {}

    def _add_bottleneck(self, elimination: Elimination) -> None:
        reader, widths = self._destinations[self._number]
        channels = self._config.bottleneck_channels[reader.block][len(widths) - 1]
        saving = (reader.channels + 9 * self._config.growth) * reader.pixels  # what computes a channel, and reads it
        order = list(
            elimination.order([[channel] for channel in range(channels)], dict.fromkeys(range(channels), float(saving)))
        )
        self.bottlenecks.append(tuple(each.part for each in reversed(order)))
        sizes = _sizes(channels, self._multiple)[::-1]
        prices = iter(each.price for each in order)
        groups = [Group(0, size, sum(islice(prices, size)) / size) for size in sizes]
        self.between.append(tuple(groups[:-1]))
        self._advance()

    def _eliminate(self, number: int, elimination: Elimination) -> None:
        """What a destination can do without, now that the order of its nodes' channels is known."""
        reader, widths = self._destinations[number]
        starts = accumulate(widths, initial=0)
        orders = zip(starts, self.nodes[reader.block], widths, strict=False)
        channels = [[start + channel for channel in order] for start, order, _ in orders]
        self.reads[number] = tuple(self._groups(reader, elimination, channels))
        self._advance()

    def _advance(self) -> None:
        if self._progress is not None:
            self._progress(len(self.reads) + len(self.between), self._modules)

    def _groups(self, reader: Destination, elimination: Elimination, channels: list[list[int]]) -> Iterator[Group]:
        """What a destination can do without, as it goes; of the last node it keeps a group.

        Args:
            reader, elimination: of it.
            channels: of each node that it reads, those that are needed most first.
        """
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
    widths = [width for block in config.bottleneck_channels for width in block if width]
    are_nodes = [[len(order) for order in block] for block in nodes] == [list(block) for block in config.node_widths]
    are_orders = all(sorted(order) == list(range(len(order))) for order in (*chain.from_iterable(nodes), *bottlenecks))
    if not are_nodes or not are_orders or [len(order) for order in bottlenecks] != widths:
        raise InvalidValue("channels should be orders, each of all channels of a node, and of a bottleneck.")
    device = supernet.classifier.weight.device
    of_bottlenecks = (torch.tensor(order, device=device) for order in bottlenecks)
    block, read = -1, torch.empty(0)
    for child in network.features:
        if isinstance(child, nn.Sequential):
            block += 1
            orders = [torch.tensor(order, device=device) for order in nodes[block]]
            starts = list(accumulate(config.node_widths[block], initial=0))
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
