"""How networks are trained: a plain recipe for any of them, and connection dropout for a supernet.

Shapes: n images, c channels, h x w pixels.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.data.images import ImageSet, network_input
from ads_gym.errors import DamagedFile, InvalidValue
from ads_gym.files import exists
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.tensorfile import read_tensors, write_tensors
from ads_gym.topology import BoolArray, Scope

Progress = Callable[[int, float], None]  # epochs done, mean loss of the last one in nats


@dataclass(frozen=True)
class ConnectionDropout:
    """How a supernet is trained to do without connections: each step, some random masks instead of the whole network.

    Args:
        low, high: relative cost of the masks, drawn uniformly; 0 to 1.
        masks_per_step: their gradients are summed.
        whole_share: share of the steps that train the whole network, 0 to 1.
        scope: which skip connections are dropped.
    """

    low: float = 0.5
    high: float = 1.0
    masks_per_step: int = 2
    whole_share: float = 0.25
    scope: Scope = Scope.LAYERS

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise InvalidValue(f"a cost range is two numbers 0 <= LOW <= HIGH <= 1, got {self.low} {self.high}.")
        if self.masks_per_step < 1:
            raise InvalidValue(f"there must be at least one mask a step, got {self.masks_per_step}.")


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum 0.9; the learning rate rises for 5 % of the steps and falls on a cosine to zero.

    Args:
        epochs: passes over TRAIN.
        batch_size: images a step.
        learning_rate: its peak.
        weight_decay: on every parameter.
        shift: pixels; each image is moved by up to so many in both directions, at random.
        flip: whether each image is mirrored with probability one half.
        dropout: of connections, for a supernet; None trains the plain network.
        seed: of weights, order, augmentation and masks.
    """

    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    shift: int = 1
    flip: bool = False
    dropout: ConnectionDropout | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        whole = {"epochs": (self.epochs, 1), "batch size": (self.batch_size, 2), "shift": (self.shift, 0)}
        whole["seed"] = self.seed, 0
        for name, (value, least) in whole.items():
            if value < least:
                raise InvalidValue(f"{name} must be at least {least}, got {value}.")
        if not 0 < self.learning_rate < math.inf or not 0 <= self.weight_decay < math.inf:
            raise InvalidValue(
                "learning rate must be above 0 and weight decay at least 0, got "
                f"{self.learning_rate} and {self.weight_decay}."
            )

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def fit(
    network: nn.Module,
    train: ImageSet,
    recipe: Recipe,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Train `network` in place on its own device; it is left in eval mode.

    Args:
        network: takes float [n, c, h, w] in [-1, 1]; with `recipe.dropout`, a `DenseNet`.
        train: uint8 images and their labels.
        recipe: how.
        checkpoint: a file written after every epoch; if it is there already, training goes on from it. It is left for
            the caller to remove when the network is safe elsewhere.
        progress: called after every epoch.

    Raises:
        InvalidValue: fewer images than one batch, a loss that is no longer a number.
        DamagedFile, StorageError: a checkpoint that cannot be read or written.
    """
    device = next(network.parameters()).device
    train = train.to(device)
    steps = len(train) // recipe.batch_size
    if not steps:
        raise InvalidValue(f"TRAIN has {len(train)} images, fewer than one batch of {recipe.batch_size}.")
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True
    )
    started = _resume(checkpoint, network, optimizer) if checkpoint and exists(checkpoint) else 0
    for epoch in range(started, recipe.epochs):
        network.train()
        total = torch.zeros((), device=device)
        for step, (images, labels, masks) in enumerate(_batches(network, train, recipe, epoch)):
            _set_rate(optimizer, recipe, (epoch * steps + step) / (recipe.epochs * steps))
            optimizer.zero_grad(set_to_none=True)
            for mask in masks:
                logits = network(images) if mask is None else network(images, mask, _scope(recipe))
                loss = functional.cross_entropy(logits, labels)
                torch.autograd.backward(loss)
                total += loss.detach() / (steps * len(masks))
            if recipe.dropout is not None:
                nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimizer.step()
        mean_loss = float(total)
        if not math.isfinite(mean_loss):
            raise InvalidValue(f"the loss of epoch {epoch + 1} is {mean_loss}: use a lower learning rate.")
        if checkpoint is not None:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
            write_tensors(checkpoint, state)
        if progress is not None:
            progress(epoch + 1, mean_loss)
    network.eval()


def augment(images: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """uint8 [n, c, h, w], each image moved by up to `shift` pixels (black comes in) and mirrored, on its own draw."""
    n, _, height, width = images.shape
    if shift:
        moves = torch.randint(0, 2 * shift + 1, (2, n), generator=generator).to(images.device)
        rows = moves[0, :, None] + torch.arange(height, device=images.device)
        columns = moves[1, :, None] + torch.arange(width, device=images.device)
        padded = functional.pad(images, [shift] * 4)
        index = torch.arange(n, device=images.device)[:, None, None]
        images = padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if flip:
        mirrored = torch.rand(n, generator=generator).to(images.device) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


def settings_digest(*settings: object) -> str:
    """Eight hex digits that stand for settings: for the names of files that belong to them."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:8]


def _batches(
    network: nn.Module, train: ImageSet, recipe: Recipe, epoch: int
) -> Iterator[tuple[Tensor, Tensor, list[BoolArray | None]]]:
    """Images float [batch, c, h, w], labels, and the masks of the step; a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    rng = np.random.default_rng([recipe.seed, epoch])
    dropout = recipe.dropout
    table = CostTable(network.config, dropout.scope) if dropout and isinstance(network, DenseNet) else None
    order = torch.randperm(len(train), generator=generator).to(train.images.device)
    for chosen in torch.split(order, recipe.batch_size):
        if len(chosen) < recipe.batch_size:
            break
        images = augment(train.images[chosen], recipe.shift, recipe.flip, generator)
        masks: list[BoolArray | None] = [None]
        if dropout and table and rng.random() >= dropout.whole_share:
            costs = rng.uniform(dropout.low, dropout.high, dropout.masks_per_step)
            masks = [table.random_mask(rng, cost) for cost in costs]
        yield network_input(images), train.labels[chosen], masks


def _scope(recipe: Recipe) -> Scope:
    return recipe.dropout.scope if recipe.dropout else Scope.LAYERS


def _set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, share: float) -> None:
    factor = min(1.0, (share + 1e-3) / 0.05) * 0.5 * (1 + math.cos(math.pi * share))
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * factor


def _resume(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load a checkpoint; returns the epochs that it has behind it."""
    try:
        stored = read_tensors(path, "checkpoint")
        network.load_state_dict(stored["network"])
        optimizer.load_state_dict(stored["optimizer"])
        return int(stored["epoch"])
    except (RuntimeError, KeyError, TypeError, ValueError) as error:  # ValueError: a DamagedFile among them
        reason = str(error).split("\n", maxsplit=1)[0][:200]
        raise DamagedFile(f"the checkpoint {path} cannot be used ({reason}): remove it to start anew.") from error
