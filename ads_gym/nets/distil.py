"""Label-free distillation: a sparse network is trained for some steps to give what the dense one gives.

Its layers and its logits are compared with the dense network's on the same images (G. Hinton, O. Vinyals, J. Dean,
"Distilling the Knowledge in a Neural Network", 2015; layer by layer as in A. Romero et al., "FitNets", ICLR 2015).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.errors import InvalidValue
from ads_gym.nets.densenet import DenseNet, Layer, Transition, check_input
from ads_gym.nets.recipe import Distillation
from ads_gym.nets.sparse import SparseDenseNet, calibrate
from ads_gym.nets.training import Progress, augment
from ads_gym.records import checked
from ads_gym.torch_state import isolated


@checked
def distil(
    network: SparseDenseNet,
    supernet: DenseNet,
    images: Tensor,
    recipe: Distillation = Distillation(),  # noqa: B008 - it is frozen
    progress: Progress | None = None,
) -> None:
    """Train a sparse network to give what the dense one gives, without labels.

    Each step of Adam lowers the divergence of the predicted classes from the dense network's, plus the mean squared
    error of every layer's output as a share of its variance. BatchNorm statistics are re-estimated at the end.

    Args:
        network: changed in place, in eval mode then; best repaired before.
        supernet: the dense network; not changed.
        images: float [n, c, h, w] as both networks read them, on their device.
        recipe: how; without steps, nothing is changed. Where images are shifted, their edges are repeated.
        progress: called after every step with the steps done and the loss.

    Raises:
        InvalidValue: networks of two configs, images that they do not read, or a loss that is no longer a number.
    """
    if not network.architecture.config.fits_in(supernet.config):
        raise InvalidValue(
            f"the sparse network is of {network.architecture.config}, and the supernet of {supernet.config}: give its "
            "own."
        )
    check_input(images, supernet.config)
    if len(images) < 2:
        raise InvalidValue(f"distillation needs at least two images, got {len(images)}.")
    if not recipe.steps:
        return
    optimizer = torch.optim.Adam(network.parameters(), recipe.learning_rate)
    batches = _batches(images, recipe)
    was_training = supernet.training
    with isolated(images.device), _outputs(network) as ours, _outputs(supernet.eval()) as theirs:
        network.train()
        for step, batch in enumerate(batches):
            with torch.no_grad():
                wanted = supernet(batch)
            with torch.enable_grad():
                loss = _divergence(network(batch), wanted) + _error(ours, theirs)
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
            optimizer.step()
            value = float(loss)
            if not math.isfinite(value):
                raise InvalidValue(f"the loss of step {step + 1} is {value}: use a lower learning rate.")
            if progress is not None:
                progress(step + 1, value)
    supernet.train(was_training)
    calibrate(network, images)


def _batches(images: Tensor, recipe: Distillation) -> Iterator[Tensor]:
    """A batch for each step: all images in a random order, again and again."""
    generator, size = torch.Generator().manual_seed(recipe.seed), min(recipe.batch_size, len(images))
    per_epoch = len(images) // size
    for step in range(recipe.steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(images), generator=generator, device="cpu").to(images.device)
        chosen = order[step % per_epoch * size :][:size]
        yield augment(images[chosen], recipe.shift, recipe.flip, generator)


def _divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the predicted classes from those that are wanted, nats an image."""
    return functional.kl_div(logits.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)


def _error(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> Tensor:
    """Mean over the layers of their outputs' squared error, as a share of the wanted outputs' variance."""
    shares = []
    for name, given in theirs.items():
        wanted = given[:, : ours[name].shape[1]]  # what nobody reads is not there
        variance = wanted.var(dim=(0, 2, 3), correction=0).sum()
        shares.append((ours[name] - wanted).square().mean(dim=(0, 2, 3)).sum() / variance.clamp_min(1e-12))
    return torch.stack(shares).mean()


@contextmanager
def _outputs(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """What each layer and transition gave in the last pass, by name."""
    found: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        found[name] = output

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: keep(name, output))
        for name, module in network.named_modules()
        if isinstance(module, Layer | Transition)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
