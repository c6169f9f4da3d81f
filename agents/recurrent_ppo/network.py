"""Actor and critic that share an LSTM; actions that are not legal have probability 0.

Shapes: T steps, N environments, O numbers of an observation, H hidden units, A = sum of the numbers of actions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]  # of the LSTM: hidden and cell, [N, H] each
ILLEGAL = -1e9  # a logit


class Judged(NamedTuple):
    """What the network says of steps."""

    log_probability: Tensor  # [T, N]: of the actions
    entropy: Tensor  # [T, N], nats
    value: Tensor  # [T, N]


class ActorCritic(nn.Module):
    """Encoder, LSTM, and a linear layer each for the logits of actions and the value.

    Its weights are float32 on the CPU, and torch's global random numbers are not used.

    Args:
        observation_size: O.
        choices: how many actions each part of an action chooses among; one number for a discrete action.
        hidden_size: H.
        seed: of the initial weights.
    """

    def __init__(self, observation_size: int, choices: Sequence[int], hidden_size: int, seed: int) -> None:
        super().__init__()
        self.choices, self.hidden_size = tuple(choices), hidden_size
        options: dict[str, Any] = {"dtype": torch.float32, "device": "meta"}  # draws nothing
        self.encoder = nn.Linear(observation_size, hidden_size, **options)
        self.lstm = nn.LSTMCell(hidden_size, hidden_size, **options)
        self.actor = nn.Linear(2 * hidden_size, sum(self.choices), **options)
        self.critic = nn.Linear(2 * hidden_size, 1, **options)
        self.to_empty(device="cpu")
        generator = torch.Generator("cpu").manual_seed(seed)
        gains = {self.encoder: 2**0.5, self.lstm: 1.0, self.actor: 0.01, self.critic: 1.0}
        for module, gain in gains.items():
            for weight in module.parameters():
                if weight.ndim > 1:
                    nn.init.orthogonal_(weight, gain, generator=generator)
                else:
                    nn.init.zeros_(weight)

    def initial_state(self, environments: int) -> State:
        """Zeros [N, H] twice."""
        zeros = torch.zeros(environments, self.hidden_size, dtype=torch.float32, device="cpu")
        return zeros, zeros

    def features(self, observations: Tensor, starts: Tensor, state: State) -> tuple[Tensor, State]:
        """What actor and critic read, [T, N, 2H], and the state after the last step.

        Args:
            observations: float32 [T, N, O].
            starts: bool [T, N]: where an episode begins, and the state is forgotten.
            state: before the first step.
        """
        encoded, remembered = torch.tanh(self.encoder(observations)), []
        for step, is_first in zip(encoded, starts, strict=True):
            goes_on = (~is_first).unsqueeze(-1)
            state = self.lstm(step, (state[0] * goes_on, state[1] * goes_on))
            remembered.append(state[0])
        return torch.cat([encoded, torch.stack(remembered)], dim=-1), state

    def values(self, features: Tensor) -> Tensor:
        """[T, N] of features [T, N, 2H]."""
        return torch.as_tensor(self.critic(features).squeeze(-1))

    def logits(self, features: Tensor, masks: Tensor) -> list[Tensor]:
        """Log probabilities of each part of the action, [T, N, choices] each.

        Args:
            features: [T, N, 2H].
            masks: bool [T, N, A]: what is legal.
        """
        logits = self.actor(features).masked_fill(~masks, ILLEGAL)
        return [part.log_softmax(-1) for part in logits.split(self.choices, dim=-1)]

    def judge(self, features: Tensor, masks: Tensor, actions: Tensor) -> Judged:
        """Log probabilities and entropies of actions int64 [T, N, parts], and values."""
        parts = self.logits(features, masks)
        chosen = [part.gather(-1, actions[..., index : index + 1]).squeeze(-1) for index, part in enumerate(parts)]
        entropies = [-(part.exp() * part.clamp(min=-1e4)).sum(-1) for part in parts]  # 0 times a finite number
        return Judged(sum(chosen, chosen[0] * 0), sum(entropies, entropies[0] * 0), self.values(features))


def draw(logits: Sequence[Tensor], rng: np.random.Generator | None) -> Tensor:
    """Actions int64 [T, N, parts]: drawn, or with no generator the most probable ones."""
    chosen = []
    for part in logits:
        if rng is None:
            chosen.append(part.argmax(-1))
            continue
        noise = torch.from_numpy(rng.gumbel(size=tuple(part.shape)).astype(np.float32))
        chosen.append((part + noise).argmax(-1))
    return torch.stack(chosen, dim=-1)
