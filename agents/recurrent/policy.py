"""The recurrent policy: an LSTM that reads earlier decisions, plus a learned bias for each connection.

Shapes, here and in `policy_gradient`: E skip connections, B episodes, T steps (of the longest episode), H hidden units.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ads_gym.agents.recurrent.rollout import choices, first_undecided
from ads_gym.problem import Problem
from ads_gym.topology import UNDECIDED, BoolArray, Int8Array

State = tuple[Tensor, Tensor]  # of the LSTM: hidden and cell, [1, B, H] each


class PolicyInput(NamedTuple):
    """What the policy reads in T steps of B episodes."""

    new_decisions: Tensor  # float32 [T, B, E]: 1 kept, -1 dropped since the last step, 0 elsewhere
    relative_cost: Tensor  # float32 [T, B]: so far
    connection: Tensor  # int64 [T, B]: index of the one that is decided next
    keep_is_legal: Tensor  # bool [T, B]


class EpisodeBatch(NamedTuple):
    """Whole episodes, for training."""

    inputs: PolicyInput
    kept: Tensor  # float32 [T, B]: 1 kept, 0 dropped
    is_choice: Tensor  # bool [T, B]: False after the episode's end and where KEEP is not legal: nothing to learn
    price: Tensor  # float32 [T, B]: relative cost of keeping


def step_input(
    problem: Problem, previous: Int8Array, decisions: Int8Array, keep_is_legal: NDArray[np.generic]
) -> PolicyInput:
    """Return the input of one step (T = 1).

    Args:
        problem: with E skip connections.
        previous: int8 [B, E]: decisions one step earlier, all -1 at the first step.
        decisions: int8 [B, E].
        keep_is_legal: bool [B].
    """
    signs = np.where(decisions == UNDECIDED, 0, np.where(decisions == 1, 1, -1))
    return PolicyInput(
        torch.from_numpy(np.where(previous == UNDECIDED, signs, 0).astype(np.float32)).unsqueeze(0),
        torch.from_numpy(((decisions == 1) @ problem.cost.relative_costs).astype(np.float32)).unsqueeze(0),
        torch.from_numpy(first_undecided(decisions)).unsqueeze(0),
        torch.from_numpy(keep_is_legal.astype(np.bool_)).unsqueeze(0),
    )


def episode_batch(problem: Problem, given: Int8Array, masks: BoolArray) -> EpisodeBatch:
    """Return the steps of episodes that began with `given` int8 [B, E] (-1 free) and ended with masks bool [B, E]."""
    free, costs = given == UNDECIDED, problem.cost.relative_costs
    lengths = free.sum(axis=1)
    steps, episodes = int(lengths.max()), len(masks)
    index = np.argsort(~free, axis=1, kind="stable")[:, :steps]  # [B, T]: the free ones, ascending, then padding
    row = np.arange(episodes)[:, None]
    is_running = np.arange(steps) < lengths[:, None]
    signs = np.where(masks, 1, -1).astype(np.float32)
    new = np.zeros((steps, episodes, problem.topology.size), np.float32)
    new[0] = np.where(free, 0, signs)
    later = np.arange(1, steps)[None, :]
    new[later, row, index[:, :-1]] = np.where(is_running[:, 1:], signs[row, index[:, :-1]], 0)
    kept = masks[row, index] & is_running
    price = costs[index]
    before = np.cumsum(kept * price, axis=1) - kept * price + ((given == 1) @ costs)[:, None]
    is_choice = choices(problem, given, masks)[row, index] & is_running
    transposed = [np.ascontiguousarray(a.T) for a in (before.astype(np.float32), index, is_choice, kept, price)]
    cost, connection, choice, bits, prices = (torch.from_numpy(a) for a in transposed)
    inputs = PolicyInput(torch.from_numpy(new), cost, connection, choice)
    return EpisodeBatch(inputs, bits.to(torch.float32), choice, prices.to(torch.float32))


class RecurrentPolicy(nn.Module):
    """The probability of keeping each connection, step by step.

    logit of connection i = logits[i] + readout[i] . h, where h has read every earlier decision. `readout` starts at
    zero: the LSTM's part is added to the logits as it learns, and a bit that follows a remembered one is linear in h.

    Its weights are float32 on the CPU whatever torch's defaults are, and torch's global random numbers are not used.

    Args:
        size: E.
        hidden_size: H, and the width of the embedding of decisions.
        initial_logit: of every connection.
        min_probability: of either action where both are legal.
        seed: of the initial weights.
    """

    def __init__(self, size: int, hidden_size: int, initial_logit: float, min_probability: float, seed: int) -> None:
        super().__init__()
        self.min_probability = min_probability
        generator = torch.Generator("cpu").manual_seed(seed)
        embedding = torch.empty(size, hidden_size, dtype=torch.float32, device="cpu")
        self.embedding = nn.Parameter(embedding.normal_(generator=generator))
        lstm = nn.LSTM(hidden_size + 1, hidden_size, dtype=torch.float32, device="meta")  # draws nothing
        self.lstm = lstm.to_empty(device="cpu")
        for weight in self.lstm.parameters():
            nn.init.uniform_(weight, -(hidden_size**-0.5), hidden_size**-0.5, generator=generator)
        self.readout = nn.Parameter(torch.zeros_like(embedding))
        self.logits = nn.Parameter(embedding.new_full((size,), initial_logit))

    def initial_state(self, episodes: int) -> State:
        """Return the state before the first step, two tensors [1, B, H]."""
        zeros = self.readout.new_zeros(1, episodes, self.readout.shape[1])
        return zeros, zeros

    def forward(self, inputs: PolicyInput, state: State | None = None) -> tuple[Tensor, State]:
        """Return the probability of KEEP [T, B], 0 where it is illegal, and the state after the last step."""
        cost = inputs.relative_cost.unsqueeze(-1)
        read = torch.cat([inputs.new_decisions @ self.embedding, cost], dim=-1)  # [T, B, H + 1]
        if len(read) == 1 and state is not None:  # the cell alone takes a fifth of the time of a sequence of one
            step = torch.lstm_cell(read[0], [part[0] for part in state], *self.lstm.all_weights[0])
            hidden, state = step[0].unsqueeze(0), (step[0].unsqueeze(0), step[1].unsqueeze(0))
        else:
            hidden, state = self.lstm(read, state)  # [T, B, H]
        logits = self.logits[inputs.connection] + (self.readout[inputs.connection] * hidden).sum(-1)
        keep = self.min_probability + (1 - 2 * self.min_probability) * torch.sigmoid(logits)
        return keep * inputs.keep_is_legal, state
