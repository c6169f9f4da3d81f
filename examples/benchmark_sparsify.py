"""How much smaller without labels: choosing connections, repairing and distilling, side by side.

    cd examples && python benchmark_sparsify.py FOLDERS [--limits 0.7 0.5] [--evaluations 64] [--test]

FOLDERS are tasks of one kind, trained with several seeds. For each and each limit on relative MACs, `channels` are
chosen as `sparsify` chooses them, and connections by `residual` (neither evaluates any), at random, and by searches of
N evaluations (`bayes`, `recurrent`; rewarded with the repaired or with the inherited loss), where the limit can be met
by them. Every network is then repaired with the same unlabelled TRAIN images, and the
first of each kind distilled. Accuracy on VALID. With --test nothing is made any more: the networks that are there are
scored on TEST, once, and the results file counts it. Writes results/sparsify-NAME.json and .md here; networks and
searches lie in runs/sparsify; a stopped benchmark goes on where it was.
"""

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from compare.networks import Choice, Maker, compare, parser

import ads_gym
from ads_gym.architecture import Architecture
from ads_gym.nets.channels import order_channels
from ads_gym.nets.cost import CostTable, kept_within
from ads_gym.nets.residual import elimination_order
from ads_gym.runs.comparison import masks_that_cost

SEARCHES = {  # agent, and the weights with which it is rewarded
    "bayes": ("bayes", "repaired"),
    "recurrent": ("recurrent", "repaired"),
    "bayes, inherited": ("bayes", "inherited"),
}


class Chosen(Maker):
    """Networks without some skip connections."""

    def choices(self, limit: float) -> Iterator[Choice]:
        """See `Maker`."""
        made, most = order_channels(self.supernet, self.images), int(limit * self.dense_macs)
        yield "channels", 0, made.within(most), made.supernet
        for choice, number, mask in self.masks(limit) if CostTable(self.task.config).least_macs <= most else ():
            yield choice, number, Architecture(self.task.config, mask), self.supernet

    def masks(self, limit: float) -> Iterator[tuple[str, int, np.ndarray]]:
        """(choice, number, mask) within a limit on relative MACs."""
        cost, most = CostTable(self.task.config), int(limit * self.dense_macs)
        order = elimination_order(self.supernet, self.images)
        yield "residual", 0, kept_within([each.part for each in order], cost.connection_macs, most - cost.least_macs)
        masks = masks_that_cost(cost, most, self.args.random, np.random.default_rng(0))
        yield from (("random", number, mask) for number, mask in enumerate(masks))
        for name in self.args.searches:
            agent, weights = SEARCHES[name]
            run = self.runs / f"{self.name}-{limit}-{agent}-{weights}"
            settings = {"reward": "loss", "cost_weight": 0.0, "max_macs": limit, "device": "cpu", "progress": False}
            found = ads_gym.search(self.task, agent, self.args.evaluations, weights=weights, run=run, **settings)
            yield name, 0, found.architecture.mask


def main() -> None:
    arguments = parser(__doc__, "fashion-mnist", [0.7, 0.5])
    arguments.add_argument("--searches", nargs="*", choices=SEARCHES, default=list(SEARCHES))
    arguments.add_argument("--evaluations", type=int, default=64)
    arguments.add_argument("--random", type=int, default=16)
    compare(Chosen, arguments.parse_args(), "sparsify")


if __name__ == "__main__":
    main()
