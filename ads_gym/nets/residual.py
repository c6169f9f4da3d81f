"""In which order connections are best dropped, from what the dense network computes: no masks are scored.

Without some of its sources a destination cannot give what it gave. Backward elimination (`ads_gym.nets.elimination`)
drops, again and again, the connection for which its destination's squared error, weighted by how much the loss rises
with it (`ads_gym.nets.sensitivity`), grows least for each MAC that is saved.
"""

from collections.abc import Callable
from itertools import accumulate

from torch import Tensor

from ads_gym.nets.cost import CostTable, destinations
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.elimination import Dropped, Elimination, merged
from ads_gym.nets.elimination_pass import Eliminations
from ads_gym.nets.repair import LayerProgress
from ads_gym.records import Seed, checked
from ads_gym.topology import Scope, ScopeName


@checked
def elimination_order(
    supernet: DenseNet,
    images: Tensor,
    scope: ScopeName = Scope.LAYERS,
    *,
    seed: Seed = 0,
    progress: LayerProgress | None = None,
) -> list[Dropped]:
    """All skip connections (`part`: their numbers), in the order in which backward elimination drops them.

    Args:
        supernet: the trained network; not changed.
        images: float [n, c, h, w] as it reads them, at least two, on its device; no labels are needed.
        scope: which skip connections are dropped.
        seed: of what is drawn: positions of the images, and classes from the network's predictions.
        progress: called after every destination with those done and their number.

    Raises:
        InvalidValue: images that the network does not read.
    """
    config, cost = supernet.config, CostTable(supernet.config, scope)
    numbers = {tuple(connection): number for number, connection in enumerate(cost.topology.connections.tolist())}
    readers = list(zip(destinations(config), config.source_widths, strict=True))
    coming, queues = iter(enumerate(readers, start=1)), list[list[Dropped]]()

    def take(name: str, make: Callable[[int], Elimination]) -> None:
        if name.endswith(".conv2"):  # reads no other layer
            return
        number, (reader, widths) = next(coming)
        place = reader.block, len(widths)
        skips = {src: numbers[*place, src] for src in range(len(widths)) if (*place, src) in numbers}
        if skips:
            starts = list(accumulate(widths, initial=0))
            parts = [range(start, start + width) for start, width in zip(starts, widths, strict=False)]
            savings = {src: float(cost.connection_macs[skip]) for src, skip in skips.items()}
            order = make(seed + len(queues)).order(parts, savings)
            queues.append([each._replace(part=skips[each.part]) for each in order])
        if progress is not None:
            progress(number, len(readers))

    Eliminations(supernet, images, seed=seed).visit(take)
    return [each for _, each in merged(queues)]
