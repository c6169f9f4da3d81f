"""What to drop behind bottlenecks: channels by several rules, or skip connections, all repaired alike.

    cd examples && python benchmark_channels.py FOLDERS [--limits 0.8 0.65 0.5 0.35] [--choices channels ...] [--test]

FOLDERS are tasks of networks with bottlenecks (`ads-gym train-supernet --bottleneck`), of several seeds. At each limit
on relative MACs: `channels`, as `sparsify` chooses them; `within`, those within bottlenecks alone; the same number of
these in every layer, those with the least weights (`magnitude`) or any (`random`); and `connections`, chosen by
residuals. Where a limit cannot be met that way, there is no row.
Each network is repaired with the same unlabelled TRAIN images, and distilled. Accuracy on VALID and, with --test, once
on TEST, which the results file counts. Writes results/channels-NAME.json and .md here.
"""

import os
from collections.abc import Iterator
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
from compare.networks import Choice, Maker, compare, parser

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.nets.channels import least_macs, order_channels, reordered
from ads_gym.nets.cost import CostTable, dense_cost, kept_within
from ads_gym.nets.residual import elimination_order
from ads_gym.topology import Topology

CHOICES = ["channels", "within", "magnitude", "random", "connections"]


class WithFewer(Maker):
    """Networks whose layers have fewer channels."""

    def choices(self, limit: float) -> Iterator[Choice]:
        """See `Maker`; only those that were asked for."""
        return (each for each in self.all_choices(limit) if each[0] in self.args.choices)

    def all_choices(self, limit: float) -> Iterator[Choice]:
        """Every network within a limit on relative MACs."""
        config, most = self.task.config, int(limit * self.dense_macs)
        all_kept, cost = Topology(config.blocks).dense(), CostTable(config)
        made = order_channels(self.supernet, self.images)
        yield "channels", 0, made.within(most), made.supernet
        if least_macs(config, 1, reads=False) <= most:
            yield "within", 0, made.within(most, reads=False), made.supernet
        layers = [module for name, module in self.supernet.named_modules() if name.rpartition(".")[2] == "conv2"]
        sizes = [layer.weight.abs().sum((0, 2, 3)).argsort(descending=True).tolist() for layer in layers]
        as_it_is = tuple(tuple(tuple(range(len(order))) for order in block) for block in made.nodes)
        generator = torch.Generator().manual_seed(0)
        drawn = [torch.randperm(len(size), generator=generator).tolist() for size in sizes]
        for name, orders in {"magnitude": sizes, "random": drawn}.items():
            supernet = reordered(self.supernet, as_it_is, tuple(map(tuple, orders)))
            if least_macs(config, 1, reads=False) <= most:
                yield name, 0, Architecture(uniform(config, most), all_kept), supernet
        if cost.least_macs <= most:
            order = elimination_order(self.supernet, self.images)
            mask = kept_within([each.part for each in order], cost.connection_macs, most - cost.least_macs)
            yield "connections", 0, Architecture(config, mask), self.supernet


def uniform(config: DenseNetConfig, macs: int) -> DenseNetConfig:
    """The widest layers, all of one width, within a limit on MACs."""
    layers, most = sum(config.blocks), config.bn_size * config.growth
    narrow = (replace(config, widths=(width,) * layers) for width in range(most, 0, -1))
    return next(each for each in narrow if dense_cost(each)[0] <= macs)


if __name__ == "__main__":
    arguments = parser(__doc__, "fashion-mnist-bc", [0.8, 0.65, 0.5, 0.35])
    arguments.add_argument("--choices", nargs="+", choices=CHOICES, default=CHOICES)
    compare(WithFewer, arguments.parse_args(), "channels")
