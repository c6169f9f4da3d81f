"""Which channels between the two convolutions of bottleneck layers are needed least: layers become narrower.

Behind a bottleneck, the skip connections are not where the work is: densenet121 without any still needs 65 % of its
MACs. The 3x3 convolutions and the 4k channels that they read are. Channels go by backward elimination, as connections
do (`ads_gym.nets.residual`): those first whose loss the others make up for, for the MACs that are saved. Then the
network is repaired (`ads_gym.nets.repair`).

Any order of these channels gives the same network. So they are sorted, those that are needed most first, and a width
says which are kept (H. Cai et al., "Once-for-All", ICLR 2020, sorts channels for that purpose).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.errors import InvalidValue
from ads_gym.limits import MAX_GROWTH, MAX_MACS
from ads_gym.nets.cost import dense_cost, destinations
from ads_gym.nets.densenet import DenseNet, Layer, check_input
from ads_gym.nets.elimination import Dropped, Elimination, merged
from ads_gym.nets.repair import LayerProgress
from ads_gym.nets.sensitivity import sensitivities
from ads_gym.nets.sparse import build_sparse, calibrate
from ads_gym.records import Seed, checked
from ads_gym.topology import Topology
from ads_gym.torch_state import isolated


@dataclass(frozen=True, eq=False)
class SortedChannels:
    """A network whose bottleneck channels are sorted, and what each of them is worth."""

    supernet: DenseNet  # gives what it gave before, up to rounding; of each layer, what is needed most comes first
    orders: tuple[tuple[Dropped, ...], ...]  # of each layer, its channels as they go, from the last one on
    savings: tuple[int, ...]  # MACs that a channel of each layer takes

    @property
    def channels(self) -> tuple[tuple[int, ...], ...]:
        """Of each layer: where its channels were before, those that are needed most first; see `reordered`."""
        return tuple(tuple(each.part for each in reversed(order)) for order in self.orders)

    @checked
    def narrowed(
        self,
        max_macs: Annotated[int, Field(ge=0, le=MAX_MACS)],
        multiple: Annotated[int, Field(ge=1, le=MAX_GROWTH)] = 1,
    ) -> DenseNetConfig:
        """Return the config with as many channels as a limit on MACs allows; every connection is kept.

        Args:
            max_macs: for one image.
            multiple: of which widths are: 8 where a GPU is to be fast. Each layer keeps so many at least.

        Raises:
            InvalidValue: a limit below what the narrowest network needs.
        """
        config = self.supernet.config
        widths = list(chain.from_iterable(config.bottleneck_channels))
        queues = [_grouped(order, multiple) for order in self.orders]
        groups = [(layer, each) for layer, each in merged(queues)]
        macs, dropped = dense_cost(config)[0], []
        for layer, group in groups:
            if macs <= max_macs:
                break
            widths[layer] -= group.part
            macs -= group.part * self.savings[layer]
            dropped.append((layer, group))
        if macs > max_macs:
            raise InvalidValue(
                f"at most {max_macs:,} MACs are asked for, and with {multiple} channels in each layer this network "
                f"still needs {macs:,}, {macs / dense_cost(config)[0]:.1%} of all: raise the limit."
            )
        for layer, group in reversed(dropped):  # what fits is put back; of a layer, what went last is first
            more = group.part * self.savings[layer]
            if macs + more <= max_macs:
                macs, widths[layer] = macs + more, widths[layer] + group.part
        return replace(config, widths=tuple(widths)) if macs < dense_cost(config)[0] else config


@checked
def sort_channels(
    supernet: DenseNet,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    seed: Seed = 0,
    progress: LayerProgress | None = None,
) -> SortedChannels:
    """Sort the channels between the two convolutions of each bottleneck layer by how much they are needed.

    The squared error of what a layer gives counts by how much the loss rises with it.

    Args:
        supernet: a trained network with bottlenecks; not changed.
        images: float [n, c, h, w] as it reads them, at least two, on its device.
        labels: int64 [n], for the loss; None: classes are drawn from what the network predicts.
        seed: of what is drawn.
        progress: called after every layer with the layers done and their number.

    Raises:
        InvalidValue: a network without bottlenecks, or images that it does not read.
    """
    config = supernet.config
    if not config.bottleneck:
        raise InvalidValue(f"{config} has no bottlenecks, so there are no channels inside its layers to be dropped.")
    check_input(images, config)
    if len(images) < 2 or not torch.isfinite(images).all():
        raise InvalidValue(f"residuals need at least two images of finite numbers, got {len(images)}.")
    rises = sensitivities(supernet, images, labels, seed=seed)
    network = build_sparse(Architecture(config, Topology(config.blocks).dense()), supernet)
    savings = _savings(config)
    orders: list[tuple[Dropped, ...]] = []
    handles = []
    for number, (name, layer) in enumerate(_layers(network)):

        def eliminate(module: nn.Conv2d, inputs: tuple[Tensor], number: int = number, name: str = name) -> None:
            channels = module.in_channels
            elimination = Elimination(module, [1] * channels, inputs[0], seed + number, rises[f"{name}.conv2"])
            orders.append(tuple(elimination.order(dict.fromkeys(range(channels), float(savings[number])))))
            if progress is not None:
                progress(len(orders), len(savings))

        handles.append(layer.conv2.register_forward_pre_hook(eliminate))
    with isolated(images.device):
        calibrate(network, images)
    for handle in handles:
        handle.remove()
    made = SortedChannels(supernet, tuple(orders), tuple(savings))
    return replace(made, supernet=reordered(supernet, made.channels))


@checked
@torch.no_grad()
def reordered(supernet: DenseNet, channels: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...]) -> DenseNet:
    """Return a copy of a network with its bottleneck channels in another order: it gives the same, up to rounding.

    Args:
        supernet: is not changed.
        channels: of each layer, where each of its channels was.

    Raises:
        InvalidValue: no order of its channels.
    """
    network = copy.deepcopy(supernet)
    layers = _layers(network)
    widths = [width for block in network.config.bottleneck_channels for width in block]
    if [sorted(order) for order in channels] != [list(range(width)) for width in widths]:
        raise InvalidValue(f"channels should be {len(widths)} orders, each of all bottleneck channels of a layer.")
    for (_, layer), order in zip(layers, channels, strict=True):
        index = torch.tensor(order, device=layer.conv1.weight.device)
        layer.conv1.weight.copy_(layer.conv1.weight[index])
        layer.conv2.weight.copy_(layer.conv2.weight[:, index])
        for tensor in (*layer.norm2.parameters(), *layer.norm2.buffers()):
            if tensor.ndim:
                tensor.copy_(tensor[index])
    return network


def _layers(network: nn.Module) -> list[tuple[str, Layer]]:
    return [(name, module) for name, module in network.named_modules() if isinstance(module, Layer)]


def _savings(config: DenseNetConfig) -> list[int]:
    """MACs of one channel of each layer: of what it is computed from, and of the 3x3 that reads it."""
    readers = iter(destinations(config))
    savings = []
    for layers in config.blocks:
        here = [next(readers) for _ in range(layers + 1)][:layers]
        savings += [(reader.channels + 9 * config.growth) * reader.pixels for reader in here]
    return savings


def _grouped(order: Sequence[Dropped], multiple: int) -> list[Dropped]:
    """So many channels at once (`part`), all but the last group; the first one makes their number a multiple."""
    sizes = [len(order) % multiple] * (len(order) % multiple > 0) + [multiple] * (len(order) // multiple)
    ends = list(accumulate(sizes))[:-1]
    return [
        Dropped(end - low, sum(each.growth for each in group), sum(each.price for each in group) / (end - low))
        for low, end in zip([0, *ends], ends, strict=False)
        if (group := order[low:end])
    ]
