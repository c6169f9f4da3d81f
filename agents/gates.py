"""Learned gates: how far to close each connection, by gradient descent on the trained network, whose weights stay.

Each gate is a relaxed Bernoulli variable (E. Jang et al., "Categorical Reparameterization with Gumbel-Softmax", 2017),
open or closed in the forward pass and soft in the backward pass; the cost of what is open is held at the limit by a
multiplier, as in C. Louizos et al., "Learning Sparse Neural Networks through L0 Regularization", 2018.
Shape: E skip connections.
"""

import copy
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, InstanceOf

from ads_gym.agents.base import AtLeastTwo, Floats, Needs, Positive
from ads_gym.agents.rankings import Ranking
from ads_gym.data.spec import Split
from ads_gym.errors import InvalidValue
from ads_gym.limits import MAX_EPOCHS
from ads_gym.problem import Problem
from ads_gym.records import Seed, checked

if TYPE_CHECKING:
    from ads_gym.data.images import ImageSet
    from ads_gym.nets.densenet import DenseNet

WITH_GRADIENT = 3  # forward passes that a forward and a backward pass count as
TARGET = 0.5  # relative cost, where there is no limit
TEMPERATURE = 0.5


class Gates(Ranking):
    """Drop first what learned gates close.

    TRAIN is read, with its labels; the steps are charged as evaluations.

    Args:
        problem: what is searched; of a task with a trained network.
        seed: of the order of images and of the gates' noise.
        steps: of Adam.
        batch_size: images of a step.
        learning_rate: of the gates' logits.

    Raises:
        InvalidValue: a problem without a network, or an option out of range.
    """

    needs = Needs.NETWORK
    source = "Louizos et al. 2018"

    @checked
    def __init__(
        self,
        problem: InstanceOf[Problem],
        *,
        seed: Seed = 0,
        steps: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = 100,
        batch_size: AtLeastTwo = 64,
        learning_rate: Positive = 0.3,
    ) -> None:
        self._steps, self._batch_size, self._learning_rate = steps, batch_size, learning_rate
        super().__init__(problem, seed=seed)

    def _values(self) -> Floats:
        """Logits of the gates after learning, float64 [E]."""
        problem = self.problem
        if problem.network is None or problem.task is None:
            raise InvalidValue(f"gates are learned on a trained network, and {problem.name} has none.")
        problem.charge_macs("gates", WITH_GRADIENT * self._steps * self._batch_size * problem.cost.dense_macs)
        with problem.charged_time():
            return self._learned(problem.task.images(Split.TRAIN), problem.network())

    def _learned(self, train: "ImageSet", network: "DenseNet") -> Floats:
        """Learn gates of a network on labelled images."""
        import torch
        from torch.nn import functional

        from ads_gym.data.images import network_input
        from ads_gym.torch_state import isolated

        problem, size = self.problem, self._steps * self._batch_size
        order = np.concatenate([self.rng.permutation(len(train)) for _ in range(-(-size // len(train)))])
        noise = torch.from_numpy(self.rng.logistic(size=(self._steps, problem.topology.size)).astype(np.float32))
        prices = torch.from_numpy(problem.cost.relative_costs.astype(np.float32))
        target = TARGET if problem.macs_limit is None else float(problem.room / problem.cost.connection_macs.sum())
        network = copy.deepcopy(network).requires_grad_(False).train()
        logits, multiplier = torch.zeros(problem.topology.size, requires_grad=True), 0.0
        with isolated(torch.device("cpu")), torch.inference_mode(False), torch.enable_grad():
            adam = torch.optim.Adam([logits], self._learning_rate)
            for step in range(self._steps):
                chosen = torch.from_numpy(order[step * self._batch_size : (step + 1) * self._batch_size])
                soft = torch.sigmoid((logits + noise[step]) / TEMPERATURE)
                gates = (soft > 0.5).float() + soft - soft.detach()  # open or closed, with the gradient of `soft`
                loss = functional.cross_entropy(
                    network(network_input(train.images[chosen]), gates, problem.topology.scope), train.labels[chosen]
                )
                cost = torch.sigmoid(logits) @ prices
                adam.zero_grad()
                torch.autograd.backward(loss + multiplier * (cost - target))
                adam.step()
                multiplier = max(0.0, multiplier + float(cost.detach()) - target)
        return np.asarray(logits.detach().double().numpy())
