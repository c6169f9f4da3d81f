"""The recurrent policy: an LSTM that reads decisions as they are made, under one free logit a connection.

Shapes, here and in `reinforce`: E skip connections, B episodes, T steps (most free connections in one of them),
H hidden units, D numbers in an embedding.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ads_gym.agents.base import Game, first_undecided
from ads_gym.topology import UNDECIDED, BoolArray, Int8Array

State = tuple[Tensor, Tensor]  # of the LSTM: hidden and cell, [1, B, H] each


class Look(NamedTuple):
    """What the policy reads, T times for B episodes."""

    news: Tensor  # float [T, B, E]: 1 kept, -1 dropped where decided since the last look, 0 elsewhere
    cost: Tensor  # float [T, B]: relative cost so far
    turn: Tensor  # int64 [T, B]: which connection is decided now
    legal: Tensor  # bool [T, B]: whether KEEP is


class Steps(NamedTuple):
    """Whole episodes, as the policy saw them."""

    look: Look
    kept: Tensor  # float [T, B]: 1 kept, 0 dropped
    open: Tensor  # bool [T, B]: False where the episode was over, or KEEP not legal: nothing to learn there
    spent: Tensor  # float [T, B]: relative cost of keeping


def look(game: Game, shown: Int8Array, decisions: Int8Array, legal: NDArray[np.generic]) -> Look:
    """One look (T = 1) at decisions int8[B, E], after a look at `shown` int8[B, E]; legal [B] is whether KEEP is."""
    news = np.where(shown == UNDECIDED, decisions + (decisions == 0) * -1 + (decisions == UNDECIDED), 0)
    return Look(
        torch.from_numpy(news.astype(np.float32)).unsqueeze(0),
        torch.from_numpy(((decisions == 1) @ game.costs).astype(np.float32)).unsqueeze(0),
        torch.from_numpy(first_undecided(decisions)).unsqueeze(0),
        torch.from_numpy(legal.astype(np.bool_)).unsqueeze(0),
    )


def replay(game: Game, given: Int8Array, masks: BoolArray) -> Steps:
    """The steps of episodes that began with `given` int8[B, E] (-1 free) and came to `masks` bool[B, E]."""
    free = given == UNDECIDED
    lengths = free.sum(axis=1)
    steps, episodes = int(lengths.max()), len(masks)
    index = np.argsort(~free, axis=1, kind="stable")[:, :steps]  # [B, T]: the free ones, ascending, then padding
    row = np.arange(episodes)[:, None]
    going = np.arange(steps) < lengths[:, None]
    signs = np.where(masks, 1, -1).astype(np.float32)
    news = np.zeros((steps, episodes, game.size), np.float32)
    news[0] = np.where(free, 0, signs)
    later = np.arange(1, steps)[None, :]
    news[later, row, index[:, :-1]] = np.where(going[:, 1:], signs[row, index[:, :-1]], 0)
    kept = masks[row, index] & going
    spent = game.costs[index]
    before = np.cumsum(kept * spent, axis=1) - kept * spent + ((given == 1) @ game.costs)[:, None]
    legal = game.choices(given, masks)[row, index] & going
    turned = [np.ascontiguousarray(a.T) for a in (before.astype(np.float32), index, legal, kept, spent)]
    cost, where, choice, bits, price = (torch.from_numpy(a) for a in turned)
    return Steps(Look(torch.from_numpy(news), cost, where, choice), bits.float(), choice, price.float())


class RecurrentPolicy(nn.Module):
    """Probability of KEEP, step by step.

    logit of connection i = free[i] + readout[i] . h, where h has read every earlier decision. `readout` starts at zero:
    what the LSTM has to say comes on top of the free logits as it learns, and a bit that follows a remembered one is
    linear in h.

    Args:
        size: E.
        hidden: H, and D too.
        start: the free logits' first value.
        floor: least probability of either action where both are legal.
        seed: of the first weights.
    """

    def __init__(self, size: int, hidden: int, start: float, floor: float, seed: int) -> None:
        super().__init__()
        self.floor = floor
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Parameter(torch.randn(size, hidden))
            self.lstm = nn.LSTM(hidden + 1, hidden)
        self.readout = nn.Parameter(torch.zeros(size, hidden))
        self.free = nn.Parameter(torch.full((size,), start))

    def blank(self, episodes: int) -> State:
        """The state before the first look."""
        zeros = torch.zeros(1, episodes, self.lstm.hidden_size)
        return zeros, zeros

    def forward(self, seen: Look, state: State | None = None) -> tuple[Tensor, State]:
        """Probability of KEEP [T, B], 0 where it is illegal, and the state after the last look."""
        read = torch.cat([seen.news @ self.embedding, seen.cost.unsqueeze(-1)], dim=-1)  # [T, B, D + 1]
        if len(read) == 1 and state is not None:  # the cell alone costs a fifth of a sequence of one
            step = torch.lstm_cell(read[0], [part[0] for part in state], *self.lstm.all_weights[0])
            hidden, state = step[0].unsqueeze(0), (step[0].unsqueeze(0), step[1].unsqueeze(0))
        else:
            hidden, state = self.lstm(read, state)  # [T, B, H]
        logits = self.free[seen.turn] + (self.readout[seen.turn] * hidden).sum(-1)
        keep = self.floor + (1 - 2 * self.floor) * torch.sigmoid(logits)
        return keep * seen.legal, state
