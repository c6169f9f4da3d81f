"""Policies that read rows: they decide networks of any shape, one connection after another.

A network encodes all rows, then decides in order. At each connection it reads its code, the decision before, and what
was spent. Shapes as in `rows`; C numbers of a code, T connections that are decided at once.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ads_gym.agents.pretrained.rows import Rows
from ads_gym.choices import Choice
from ads_gym.nets.features import Feature

GLOBALS = 3  # room, cost weight, whether it explores
STATE = 5  # numbers that change with every decision: see `states`
ROW = len(Feature) + 1 + GLOBALS
MOST = 2.0  # of a ratio: more room than that is as good as no limit
TINY = 1e-6  # of relative cost: less is rounding
Memory = Tensor | None  # of earlier decisions


class Kind(Choice, what="kind of policy network"):
    """How a policy decides."""

    RECURRENT = "recurrent"
    FEEDFORWARD = "feedforward"
    LINEAR = "linear"


class PolicyNetwork(nn.Module, ABC):
    """The logit of keeping each connection.

    Its weights are float32 on the CPU, and torch's global random numbers are not used.
    """

    kind: ClassVar[Kind]

    def encode(self, rows: Rows, explores: Tensor) -> Tensor:
        """Return codes [n, E, C] of rows; here the rows themselves.

        Args:
            rows: of n networks.
            explores: bool [n]: whether the best of several masks counts, instead of the only one.
        """
        shared = torch.stack([rows.room, rows.cost_weight, explores.float()], dim=-1)
        mean = rows.costs * rows.is_real.sum(dim=1, keepdim=True)  # 1: as dear as the mean connection
        expanded = shared.unsqueeze(1).expand(-1, rows.costs.shape[1], -1)
        return torch.cat([2 * rows.ranks - 1, mean.unsqueeze(-1), expanded], dim=-1)

    @abstractmethod
    def decide(self, codes: Tensor, states: Tensor, memory: Memory = None) -> tuple[Tensor, Memory]:
        """Return logits [n, T], and the memory after the last.

        Args:
            codes: [n, T, C], of the connections that are decided.
            states: [n, T, 5], see `states`.
            memory: what was returned for the connection before; None: there is none.
        """

    def _draw(self, seed: int) -> None:
        """Draw the initial weights; those of `self.readout` are 0, so that all is as likely as not."""
        generator = torch.Generator("cpu").manual_seed(seed)
        self.to_empty(device="cpu")
        for name, weight in self.named_parameters():
            if weight.ndim < 2 or name.startswith("readout"):
                nn.init.zeros_(weight)
            else:
                nn.init.uniform_(weight, -(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5, generator=generator)


class RecurrentNetwork(PolicyNetwork):
    """A bidirectional GRU reads all rows, another one every decision.

    Args:
        seed: of the initial weights.
        hidden_size: units of each direction; the second GRU has half as many again.
    """

    kind = Kind.RECURRENT

    def __init__(self, seed: int = 0, hidden_size: int = 32) -> None:
        super().__init__()
        options: dict[str, Any] = {"dtype": torch.float32, "device": "meta"}  # draws nothing
        width, memory = 2 * hidden_size + STATE, hidden_size + hidden_size // 2
        self.embedding = nn.Linear(ROW, hidden_size, **options)
        self.encoder = nn.GRU(hidden_size, hidden_size, batch_first=True, bidirectional=True, **options)
        self.decoder = nn.GRU(width, memory, batch_first=True, **options)
        self.readout = nn.Linear(memory + width, 1, **options)
        self._draw(seed)

    def encode(self, rows: Rows, explores: Tensor) -> Tensor:
        """See `PolicyNetwork`."""
        embedded = torch.relu(self.embedding(super().encode(rows, explores)))
        lengths = rows.is_real.sum(dim=1)
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        codes, _ = nn.utils.rnn.pad_packed_sequence(
            self.encoder(packed)[0], batch_first=True, total_length=embedded.shape[1]
        )
        return codes

    def decide(self, codes: Tensor, states: Tensor, memory: Memory = None) -> tuple[Tensor, Memory]:
        """See `PolicyNetwork`."""
        read = torch.cat([codes, states], dim=-1)
        remembered, memory = self.decoder(read, memory)
        return self.readout(torch.cat([remembered, read], dim=-1)).squeeze(-1), memory


class FeedforwardNetwork(PolicyNetwork):
    """Two hidden layers that read one row: no connection knows of another, but for what was spent.

    Args:
        seed: of the initial weights.
        hidden_size: units of each layer.
    """

    kind = Kind.FEEDFORWARD

    def __init__(self, seed: int = 0, hidden_size: int = 48) -> None:
        super().__init__()
        options: dict[str, Any] = {"dtype": torch.float32, "device": "meta"}
        self.first = nn.Linear(ROW + STATE, hidden_size, **options)
        self.second = nn.Linear(hidden_size, hidden_size, **options)
        self.readout = nn.Linear(hidden_size, 1, **options)
        self._draw(seed)

    def decide(self, codes: Tensor, states: Tensor, memory: Memory = None) -> tuple[Tensor, Memory]:
        """See `PolicyNetwork`."""
        hidden = torch.relu(self.first(torch.cat([codes, states], dim=-1)))
        return self.readout(torch.relu(self.second(hidden))).squeeze(-1), None


class LinearNetwork(PolicyNetwork):
    """A linear function of a row, and another one where it explores.

    Args:
        seed: not used.
    """

    kind = Kind.LINEAR

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.readout = nn.Linear(ROW + STATE, 2, dtype=torch.float32, device="meta")
        self._draw(seed)

    def decide(self, codes: Tensor, states: Tensor, memory: Memory = None) -> tuple[Tensor, Memory]:
        """See `PolicyNetwork`."""
        best, several = self.readout(torch.cat([codes, states], dim=-1)).unbind(-1)
        return torch.where(codes[..., -1] > 0.5, several, best), None


NETWORKS: dict[Kind, type[RecurrentNetwork] | type[FeedforwardNetwork] | type[LinearNetwork]] = {
    each.kind: each for each in (RecurrentNetwork, FeedforwardNetwork, LinearNetwork)
}


def states(rows: Rows, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return what each decision is made from, [n, E, 5], and whether it could be KEEP, bool [n, E].

    The five: the decision before (1 kept, -1 dropped, 0 none); room left / relative cost that is undecided, at most 2;
    room left; relative cost so far; own relative cost / room left, at most 2.

    Args:
        rows: of n episodes.
        masks: bool [n, E]; of those that are not decided yet only the first has a meaning.
    """
    kept = masks.float()
    spent = (kept * rows.costs).cumsum(dim=1) - kept * rows.costs
    undecided = rows.costs.sum(dim=1, keepdim=True) - (rows.costs.cumsum(dim=1) - rows.costs)
    before = torch.cat([kept.new_zeros(len(kept), 1), 2 * kept[:, :-1] - 1], dim=1)
    left = rows.room.unsqueeze(1) - spent
    return _state(before, rows.costs, left, spent, undecided), _fits(rows.costs, left) & rows.is_real


@torch.no_grad()
def play(
    network: PolicyNetwork,
    rows: Rows,
    explores: Tensor,
    generator: torch.Generator | None,
    temperature: float = 1.0,
) -> Tensor:
    """Play an episode of each network and return the masks, bool [n, E].

    Args:
        network: that decides.
        rows: of n networks.
        explores: bool [n], see `PolicyNetwork.encode`.
        generator: of the draws; None: the more probable action is taken.
        temperature: that logits are divided by.
    """
    codes, memory = network.encode(rows, explores), None
    left, spent = rows.room.clone(), torch.zeros_like(rows.room)
    undecided, before = rows.costs.sum(dim=1), torch.zeros_like(rows.room)
    decided = []
    for place, cost in enumerate(rows.costs.T):
        state = _state(before, cost, left, spent, undecided)
        logits, memory = network.decide(codes[:, place : place + 1], state.unsqueeze(1), memory)
        chance = torch.sigmoid(logits[:, 0] / temperature)
        threshold = 0.5 if generator is None else torch.rand(len(chance), generator=generator)
        keep = (chance > threshold) & _fits(cost, left) & rows.is_real[:, place]
        decided.append(keep)
        left, spent, undecided = left - keep * cost, spent + keep * cost, undecided - cost
        before = 2 * keep.float() - 1
    return torch.stack(decided, dim=1)


def _state(before: Tensor, cost: Tensor, left: Tensor, spent: Tensor, undecided: Tensor) -> Tensor:
    enough = (left / (undecided + TINY)).clamp(0, MOST)
    share = (cost / (left + TINY)).clamp(0, MOST)
    return torch.stack([before, enough, left, spent, share], dim=-1)


def _fits(cost: Tensor, left: Tensor) -> Tensor:
    return cost <= left + TINY
