"""The order of backward elimination by residuals: what a network tells without evaluations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import InstanceOf

from ads_gym.agents.base import Optimiser
from ads_gym.errors import InvalidValue
from ads_gym.problem import Problem, Scored
from ads_gym.records import Masks, Seed, checked
from ads_gym.topology import BoolArray

if TYPE_CHECKING:
    from ads_gym.nets.elimination import Dropped


def order_of(problem: Problem, seed: int) -> "list[Dropped]":
    """Of a task's skip connections, in which order they are dropped: see `ads_gym.nets.residual.elimination_order`.

    Args:
        problem: of a task with a trained network.
        seed: of what is drawn.

    Raises:
        InvalidValue: a problem without a network.
    """
    if problem.network is None or problem.task is None:
        raise InvalidValue(
            f"residuals are of the activations of a trained network, and {problem.name} has none: use another agent, "
            "or a task that was trained."
        )
    from ads_gym.data.images import network_input
    from ads_gym.nets.residual import elimination_order

    images = network_input(problem.task.calibration().images)
    return elimination_order(problem.network(), images, problem.topology.scope, seed=seed)


class Residual(Optimiser):
    """Drop the connections that the dense network says are needed least, without evaluating anything.

    The first mask that it asks for is the largest that fits the MACs limit, the others follow in the order of
    elimination, down to the chain. See `ads_gym.nets.residual`.

    Args:
        problem: what is searched; of a task with a trained network.
        seed: of the classes that are drawn from the network's predictions, and of positions of its images.

    Raises:
        InvalidValue: a problem without a network.
    """

    @checked
    def __init__(self, problem: InstanceOf[Problem], *, seed: Seed = 0) -> None:
        super().__init__(problem, seed=seed)
        from ads_gym.nets.residual import kept_within

        order = order_of(problem, seed)
        masks = np.ones((len(order) + 1, len(order)), np.bool_)
        for number, dropped in enumerate(order, start=1):
            masks[number:, dropped.part] = False
        self._masks = masks[problem.fits(masks)]
        self._masks[0] = kept_within(order, problem.cost.connection_macs, problem.room)

    @checked
    def ask(self, n: Masks) -> BoolArray:
        """Return the next masks, bool [at most n, E]."""
        asked, self._masks = self._masks[:n], self._masks[n:]
        return asked

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Scores change nothing."""
