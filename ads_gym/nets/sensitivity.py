"""How much the loss of a network rises with errors in what its convolutions give: their outputs' Fisher information.

To second order the loss rises by half the square of (gradient times error), on average over images (L. Theis et al.,
"Faster gaze prediction with dense networks and Fisher pruning", 2018, for whole channels). Classes are drawn from the
network's own predictions, so labels are not needed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ads_gym.data.images import ImageSet
from ads_gym.nets.cost import map_bytes
from ads_gym.nets.densenet import DenseNet, check_input
from ads_gym.nets.scoring import check_images
from ads_gym.records import Seed, checked
from ads_gym.torch_state import isolated

MEMORY = 1 << 29  # bytes of the feature maps of one pass, roughly


@checked
def sensitivities(
    network: DenseNet, images: Tensor, labels: Tensor | None = None, *, seed: Seed = 0
) -> dict[str, Tensor]:
    """Of each convolution, and the classifier, by name: float64 [o], by how much the loss (nats an image) rises.

    A mean squared error of e of an output's values makes it rise by that number times e, as long as e is small.

    Args:
        network: trained; it is not changed.
        images: float [n, c, h, w] as it reads them, on its device.
        labels: int64 [n]; None: drawn from what the network predicts.
        seed: of that draw.

    Raises:
        InvalidValue: images that the network does not read, or other labels.
    """
    check_input(images, network.config)
    if labels is not None:
        check_images(ImageSet(images, labels), network.config)
    sums: dict[str, Tensor] = {}

    def watch(name: str, output: Tensor) -> None:
        pixels = list(range(2, output.ndim))

        def add(gradient: Tensor) -> None:
            sums[name] = sums.get(name, 0) + gradient.double().square().sum(dim=[0, *pixels])

        output.register_hook(add)  # type: ignore[no-untyped-call]

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: watch(name, output))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and not name.endswith("conv0")
    ]
    was_training, batch = network.training, max(1, MEMORY // map_bytes(network.config, is_training=True))
    generator = torch.Generator().manual_seed(seed)
    try:
        with isolated(images.device), torch.inference_mode(False), torch.enable_grad():
            network.eval()
            for part in range(0, len(images), batch):
                read = images[part : part + batch].detach().clone().requires_grad_()
                logits = network(read)
                if labels is None:
                    wanted = torch.multinomial(logits.detach().double().softmax(1).cpu(), 1, generator=generator)[:, 0]
                else:
                    wanted = labels[part : part + batch]
                loss = functional.cross_entropy(logits, wanted.to(logits.device), reduction="sum")
                torch.autograd.grad(loss, read)
    finally:
        for handle in handles:
            handle.remove()
        network.train(was_training)
    return {name: total / (2 * len(images)) for name, total in sums.items()}
