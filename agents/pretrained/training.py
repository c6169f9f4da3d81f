"""Train a policy on games: policy gradient, each episode judged within its group.

(J. Schulman et al., "Proximal Policy Optimization Algorithms", 2017, for the policy gradient with an entropy bonus; one
step is taken on each batch, so nothing is clipped. Z. Shao et al., "DeepSeekMath", 2024, for groups instead of a value
network.) gamma is 1: an episode is judged as a whole.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.agents.base import AtLeastTwo, NotNegative, Positive
from ads_gym.agents.pretrained.groups import Game, Group, advantages
from ads_gym.agents.pretrained.network import NETWORKS, Kind, PolicyNetwork, play, states
from ads_gym.agents.pretrained.rows import Inputs, Rows
from ads_gym.errors import InvalidValue
from ads_gym.limits import MAX_EVALUATIONS
from ads_gym.records import Seed, Share, record

UNLIMITED = 1 / 3  # of the groups have no limit
ROOM = 0.1, 0.8  # relative cost that may be kept, least and most, where there is one
RATES = {Kind.RECURRENT: 0.003, Kind.FEEDFORWARD: 0.003, Kind.LINEAR: 0.02}  # learning rates
LAST_RATE = 0.05  # of the learning rate, at the end
SCALE = 0.1  # of the policy gradient beside the entropy bonus
Progress = Callable[[int, int], None]  # updates done, of how many
Updates = Annotated[int, Field(ge=1, le=MAX_EVALUATIONS)]


@record
class TrainingSettings:
    """How a policy is trained."""

    kind: Annotated[Kind, BeforeValidator(Kind)] = Kind.RECURRENT
    inputs: Annotated[Inputs, BeforeValidator(Inputs)] = Inputs.ALL
    updates: Updates = 600
    groups: Annotated[int, Field(ge=1, le=4096)] = 16  # in an update
    episodes: AtLeastTwo = 32  # in a group
    best_of: AtLeastTwo = 8  # masks, of which the best counts in half of the groups
    learning_rate: Positive | None = None  # of Adam, at first; it falls to a twentieth. None: see `RATES`
    weight_decay: NotNegative = 1e-4
    entropy: NotNegative = 0.05  # weight of the entropy of a decision (nats), at first
    last_entropy: NotNegative = 0.03  # at the end, where the best of several counts; elsewhere 0
    noise: NotNegative = 0.1  # standard deviation of what is added to ranks
    spread: Share = 0.7  # cost weights are up to exp(spread) times, and down to exp(-spread) times, the even one
    seed: Seed = 0


def train(games: Sequence[Game], settings: TrainingSettings, progress: Progress | None = None) -> PolicyNetwork:
    """Train a policy.

    Args:
        games: that groups are drawn from.
        settings: how.
        progress: called after every update.

    Raises:
        InvalidValue: no games, or groups smaller than `best_of`.
    """
    if not games or settings.episodes < settings.best_of:
        raise InvalidValue(
            f"a policy is trained on at least one supernet, and on groups of at least best_of episodes; got "
            f"{len(games)} supernets, groups of {settings.episodes}, best_of {settings.best_of}."
        )
    network = NETWORKS[settings.kind](settings.seed)
    rate = settings.learning_rate or RATES[settings.kind]
    adam = torch.optim.AdamW(network.parameters(), rate, weight_decay=settings.weight_decay)
    rng = np.random.default_rng(settings.seed)
    generator = torch.Generator("cpu").manual_seed(settings.seed)
    for update in range(settings.updates):
        progressed = update / settings.updates
        for parameters in adam.param_groups:
            parameters["lr"] = rate * (1 - (1 - LAST_RATE) * progressed)
        groups = [_draw(games, settings, rng) for _ in range(settings.groups)]
        loss = _loss(network, groups, settings, progressed, generator)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        if progress is not None:
            progress(update + 1, settings.updates)
    return network.eval()


def judge(network: PolicyNetwork, rows: Rows, explores: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log probability of each mask and the mean entropy of its decisions (nats), [n] each.

    Decisions with one legal action have neither.

    Args:
        network: the policy.
        rows: of n episodes.
        explores: bool [n].
        masks: bool [n, E].
    """
    numbers, is_choice = states(rows, masks)
    logits, _ = network.decide(network.encode(rows, explores), numbers)
    kept = masks.float()
    log_probabilities = -functional.binary_cross_entropy_with_logits(logits, kept, reduction="none")
    entropies = functional.softplus(logits) - logits * torch.sigmoid(logits)
    choices = is_choice.sum(dim=1).clamp(min=1)
    return (log_probabilities * is_choice).sum(dim=1), (entropies * is_choice).sum(dim=1) / choices


def _draw(games: Sequence[Game], settings: TrainingSettings, rng: np.random.Generator) -> Group:
    game = games[int(rng.integers(len(games)))]
    room = 1.0 if rng.random() < UNLIMITED else float(rng.uniform(*ROOM))
    weight = game.even * float(np.exp(rng.uniform(-settings.spread, settings.spread)))
    return Group(game, room, weight, settings.best_of if rng.random() < 0.5 else 1)


def _loss(
    network: PolicyNetwork,
    groups: Sequence[Group],
    settings: TrainingSettings,
    progressed: float,
    generator: torch.Generator,
) -> Tensor:
    """Play the groups, and return the loss of what was played."""
    count = settings.episodes
    rows = Rows.stack([group.rows(settings.noise, generator) for group in groups]).repeat(count)
    explores = torch.tensor([group.best_of > 1 for group in groups]).repeat_interleave(count)
    masks = play(network, rows, explores, generator)
    worth = np.concatenate([_worth(group, masks[i * count : (i + 1) * count]) for i, group in enumerate(groups)])
    log_probabilities, entropies = judge(network, rows, explores, masks)
    last = torch.where(explores, settings.last_entropy, 0.0)
    bonus = settings.entropy * (1 - progressed) + last * progressed
    gain = torch.from_numpy(worth.astype(np.float32)) * log_probabilities
    return -(SCALE * gain + bonus * entropies).mean()


def _worth(group: Group, masks: Tensor) -> np.ndarray:
    """The advantages [n] of a group's masks bool [n, E]."""
    played = masks[:, : len(group.game.costs)].numpy()
    return advantages(group.game.objectives(played, group.cost_weight), group.best_of)
