"""A trained DenseNet of torchvision's as one of ours: the same weights under the same names.

Read from the weights' names and shapes, so that any growth rate, block config, `bn_size` and number of classes is
taken; then compared on random images.
"""

import copy
import re
from collections.abc import Mapping

import torch
from pydantic import InstanceOf
from torch import Tensor, nn

from ads_gym.architecture import DenseNetConfig, Stem
from ads_gym.errors import InvalidValue, shown
from ads_gym.nets.densenet import DenseNet, uninitialised
from ads_gym.nets.tensorfile import check_finite, plain_names
from ads_gym.records import checked

_LAYER = re.compile(r"features\.denseblock(\d+)\.denselayer(\d+)\.conv1\.weight")
TOLERANCE = 1e-3  # of outputs, relative; in float32 other orders of sums are 1e-5 apart
ADVICE = "ads-gym reads torchvision's DenseNets and its own"


@checked
def from_torchvision(model: InstanceOf[nn.Module], image_size: tuple[int, int] = (224, 224)) -> DenseNet:
    """Return a copy of a trained DenseNet, float32, on the CPU, in eval mode.

    `DataParallel` and `torch.compile` around it are seen through; dropout and checkpointing belong to its training.

    Args:
        model: `torchvision.models.densenet121` and its like, or a `DenseNet` of ours; it is not changed.
        image_size: (height, width) of the images that it will read, pixels.

    Raises:
        InvalidValue: another model: the message says what differs.
        DamagedFile: weights that are no numbers.
    """
    state = plain_names(model.state_dict())
    config = _config(_unwrapped(model), state, image_size)
    network = uninitialised(lambda device: DenseNet(config, device))
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    for name in {**state, **expected}:
        found = state[name].shape if name in state else None
        if found != expected.get(name):
            raise InvalidValue(
                f"{name} is {_told(found)} in this {type(model).__name__} and {_told(expected.get(name))} in a "
                f"DenseNet of {config}: {ADVICE}."
            )
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    network.load_state_dict(floats)
    check_finite(network, f"this {type(model).__name__}")
    _compare(_unwrapped(model), network.eval())
    return network


@torch.no_grad()
def _compare(model: nn.Module, network: DenseNet) -> None:
    """Check that a copy gives what the model gives: names and shapes say nothing about what `forward` does with them.

    Raises:
        InvalidValue: it gives something else, or cannot be called.
    """
    images = torch.randn(2, *network.config.image_shape, generator=torch.Generator().manual_seed(0))
    told = f"this {type(model).__name__} has the weights of a DenseNet, and"
    try:
        found = copy.deepcopy(model).cpu().float().eval()(images)
    except Exception as error:  # whatever its own code raises
        raise InvalidValue(f"{told} fails on images {list(images.shape)}: {shown(error)}.") from error
    expected = network(images)
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        raise InvalidValue(f"{told} gives {shown(found)} where a DenseNet gives logits {list(expected.shape)}.")
    off = float((found - expected).abs().max())
    if not off <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise InvalidValue(
            f"{told} its outputs are up to {off:.3g} from a DenseNet's: its forward does something else."
        )


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model inside `DataParallel` and `torch.compile`."""
    for name in ("module", "_orig_mod"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return _unwrapped(inner)
    return model


def _config(model: nn.Module, state: Mapping[str, Tensor], image_size: tuple[int, int]) -> DenseNetConfig:
    """The config of a model, from its weights.

    Raises:
        InvalidValue: no DenseNet.
    """
    if isinstance(model, DenseNet):
        return model.config
    layers = [(int(found[1]), int(found[2])) for name in state if (found := _LAYER.fullmatch(name))]
    needed = ("features.conv0.weight", "classifier.weight", "features.denseblock1.denselayer1.conv2.weight")
    missing = [name for name in needed if name not in state]
    if missing or not layers:
        raise InvalidValue(f"{type(model).__name__} has no {' and no '.join(missing) or 'dense block'}: {ADVICE}.")
    if not isinstance(model.get_submodule("classifier"), nn.Linear):
        raise InvalidValue(f"the classifier is {shown(model.get_submodule('classifier'))}, and should be one Linear.")
    blocks = [0] * max(block for block, _ in layers)
    for block, _ in layers:
        blocks[block - 1] += 1
    stem, classifier = state["features.conv0.weight"], state["classifier.weight"]
    growth, between = state["features.denseblock1.denselayer1.conv2.weight"].shape[:2]
    read = stem.shape[0] + blocks[0] * growth
    first = state.get("features.transition1.conv.weight")
    if between % growth or classifier.ndim != 2 or stem.ndim != 4:
        raise InvalidValue(f"this {type(model).__name__} has shapes that no DenseNet has: {ADVICE}.")
    return DenseNetConfig(
        tuple(blocks),
        growth,
        stem.shape[0],
        Stem.CONV7_POOL,
        bottleneck=True,
        compression=0.5 if first is None or first.shape[0] == read // 2 else first.shape[0] / read,
        image_shape=(stem.shape[1], *image_size),
        classes=classifier.shape[0],
        bn_size=between // growth,
    )


def _told(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(list(shape))
