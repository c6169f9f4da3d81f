"""How networks are trained: a plain recipe for any of them, and connection dropout for a supernet.

Shapes: n images, c channels, h x w pixels.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.data.images import ImageSet, network_input
from ads_gym.errors import DamagedFile, InvalidValue, shown
from ads_gym.files import exists
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.recipe import ConnectionDropout, Recipe
from ads_gym.nets.tensorfile import load_weights, most_bytes, read_safetensors, write_safetensors
from ads_gym.records import checked
from ads_gym.topology import BoolArray, Scope

__all__ = ["ConnectionDropout", "Progress", "Recipe", "augment", "fit", "settings_digest"]

MOMENTUM = "momentum_buffer"  # as SGD calls it
Progress = Callable[[int, float], None]  # epochs done, mean loss of the last one in nats


@checked
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
    started = _resume(checkpoint, network, optimizer, recipe) if checkpoint and exists(checkpoint) else 0
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
            _write_checkpoint(checkpoint, network, optimizer, epoch + 1)
        if progress is not None:
            progress(epoch + 1, mean_loss)
    network.eval()


def augment(images: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Images [n, c, h, w], each moved by up to `shift` pixels and mirrored, on its own draw.

    Into uint8 images comes black, into others their edges.
    """
    n, _, height, width = images.shape
    if shift:
        moves = torch.randint(0, 2 * shift + 1, (2, n), generator=generator).to(images.device)
        rows = moves[0, :, None] + torch.arange(height, device=images.device)
        columns = moves[1, :, None] + torch.arange(width, device=images.device)
        padded = functional.pad(images, [shift] * 4, "replicate" if images.is_floating_point() else "constant")
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


def _write_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    """Write weights, momenta and the epochs that are done."""
    momenta = {name: optimizer.state[weight][MOMENTUM] for name, weight in network.named_parameters()}
    tensors = {f"network {name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"momentum {name}": tensor for name, tensor in momenta.items()}
    write_safetensors(path, tensors | {"epochs": torch.tensor(epochs)})


def _resume(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe) -> int:
    """Load a checkpoint; returns the epochs that it has behind it."""
    try:
        most = most_bytes(sum(parameter.numel() for parameter in network.parameters()))
        stored = read_safetensors(path, "checkpoint", most)
        epochs = stored.pop("epochs", torch.tensor(0))
        if epochs.dtype != torch.int64 or epochs.ndim or not 1 <= int(epochs) <= recipe.epochs:
            raise DamagedFile(
                f"it should have 1 to {recipe.epochs} epochs behind it, and has {shown(epochs.tolist())}."
            )
        load_weights(network, _part(stored, "network "), path)
        momenta = _part(stored, "momentum ")
        if stored:
            raise DamagedFile(f"it has a tensor {shown(next(iter(stored)))}, which no checkpoint has.")
        for name, weight in network.named_parameters():
            momentum = momenta.pop(name, torch.empty(0))
            if momentum.shape != weight.shape or momentum.dtype != weight.dtype or not momentum.isfinite().all():
                raise DamagedFile(f"the momentum of {name} is none of finite numbers, {list(weight.shape)}.")
            optimizer.state[weight][MOMENTUM] = momentum.to(weight.device)
        if momenta:
            raise DamagedFile(f"it has a momentum of {shown(next(iter(momenta)))}, which the network lacks.")
    except DamagedFile as error:
        raise DamagedFile(f"the checkpoint {path} cannot be used ({error}): remove it to start anew.") from error
    return int(epochs)


def _part(stored: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the tensors of such names out of `stored`, and return them by the rest of their names."""
    return {name.removeprefix(prefix): stored.pop(name) for name in list(stored) if name.startswith(prefix)}
