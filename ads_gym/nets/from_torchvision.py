"""A trained DenseNet of torchvision's as one of ours: the same weights under the same names.

Read from the weights' names and shapes, so that any growth rate, block config, `bn_size` and number of classes is
taken; a model is then compared on random images, for names and shapes say nothing about what its `forward` does.
"""

import copy
import re
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pydantic import InstanceOf
from torch import Tensor, nn

from ads_gym.architecture import DenseNetConfig, Stem
from ads_gym.errors import InvalidValue, shown
from ads_gym.limits import MAX_BLOCKS
from ads_gym.nets.densenet import DenseNet, uninitialised
from ads_gym.nets.tensorfile import check_finite, plain_names
from ads_gym.records import checked

_FIRST = "features.conv0.weight"
_LAYER = re.compile(r"features\.denseblock(\d{1,4})\.denselayer(\d{1,4})\.conv1\.weight")
_NEEDED = (_FIRST, "classifier.weight", "features.denseblock1.denselayer1.conv2.weight")
TOLERANCE = 1e-3  # of outputs, relative; in float32 other orders of sums are 1e-5 apart
ADVICE = "ads-gym reads torchvision's DenseNets and its own"


@checked
def from_torchvision(model: InstanceOf[nn.Module], image_size: tuple[int, int] = (224, 224)) -> DenseNet:
    """Return a copy of a trained DenseNet, float32, on the CPU, in eval mode.

    `DataParallel` and `torch.compile` around it are seen through; dropout and checkpointing belong to its training.
    Its hooks are not called and not copied: a warning says so.

    Args:
        model: `torchvision.models.densenet121` and its like, or a `DenseNet` of ours; it is not changed.
        image_size: (height, width) of the images that it will read, pixels.

    Raises:
        InvalidValue: another model: the message says what differs.
        DamagedFile: weights that are no numbers.
    """
    model = unwrapped(model)
    told = f"this {type(model).__name__}"
    state = plain_names(model.state_dict())
    _check_model(model, state)
    config = model.config if isinstance(model, DenseNet) else _config(state, image_size, told)
    network = _network(config, state, told)
    _compare(model, network)
    return network


@checked
def from_state_dict(
    state: Mapping[str, Tensor], image_size: tuple[int, int] = (224, 224), source: str = "this state dict"
) -> DenseNet:
    """Return the DenseNet of a state dict of torchvision's, float32, on the CPU, in eval mode.

    Args:
        state: tensors by name; names may begin with those of what the model lay in, such as "module.".
        image_size: (height, width) of the images that it will read, pixels.
        source: where the weights are from, for messages.

    Raises:
        InvalidValue: another model: the message says what differs.
        DamagedFile: weights that are no numbers.
    """
    plain = plain_names(without_prefix(state))
    return _network(_config(plain, image_size, source), plain, source)


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the one DenseNet in a state dict, as a module around it names them ("model.features...")."""
    prefixes = [name.removesuffix(_FIRST) for name in state if name.endswith(_FIRST)]
    prefix = prefixes[0] if len(prefixes) == 1 else ""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _check_model(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuse, and say of, what weights alone would not show.

    Raises:
        InvalidValue: weights that are nowhere, or a head that gives no logits.
    """
    told = f"this {type(model).__name__}"
    if any(tensor.is_meta for tensor in state.values()):
        raise InvalidValue(f"{told} has weights on the device 'meta', which holds none: load them first.")
    head = getattr(model, "classifier", None)
    if _FIRST in state and not isinstance(head, nn.Linear):
        raise InvalidValue(
            f"the classifier of {told} is of type {type(head).__name__}, and should be one Linear: {ADVICE}."
        )
    if hooked := [name or "the model" for name, part in model.named_modules() if any(_hooks(part).values())]:
        warnings.warn(
            f"hooks of {told} ({', '.join(hooked[:3])}{', ...' * (len(hooked) > 3)}) are not called, and the copy has "
            "none.",
            stacklevel=3,
        )


def _network(config: DenseNetConfig, state: Mapping[str, Tensor], told: str) -> DenseNet:
    """The network of a config with these weights.

    Raises:
        InvalidValue: weights of another network.
        DamagedFile: weights that are no numbers.
    """
    expected = {name: tensor.shape for name, tensor in DenseNet(config, "meta").state_dict().items()}
    for name in {**state, **expected}:
        found = state[name].shape if name in state else None
        if found != expected.get(name):
            raise InvalidValue(
                f"{name} is {_told(found)} in {told} and {_told(expected.get(name))} in a DenseNet of {config}: "
                f"{ADVICE}."
            )
    network = uninitialised(lambda device: DenseNet(config, device))
    network.load_state_dict(
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    )
    check_finite(network, told)
    return network.eval()


@torch.no_grad()
def _compare(model: nn.Module, network: DenseNet) -> None:
    """Check that a copy gives what the model gives.

    Raises:
        InvalidValue: it gives something else, or cannot be called.
    """
    images = torch.randn(2, *network.config.image_shape, generator=torch.Generator().manual_seed(0), device="cpu")
    told = f"this {type(model).__name__} has the weights of a DenseNet, and"
    try:
        found = _without_hooks(model).cpu().float().eval()(images)
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


def _without_hooks(model: nn.Module) -> nn.Module:
    """A copy of a model, with neither its hooks nor copies of what they belong to."""
    left_out: dict[int, Any] = {}
    for module in model.modules():
        left_out |= {id(hooks): type(hooks)() for hooks in _hooks(module).values()}
    return copy.deepcopy(model, left_out)


def _hooks(module: nn.Module) -> dict[str, Any]:
    """A module's hooks by their kind; torch has no public way to ask for them."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {kind: found for kind in kinds if isinstance(found := getattr(module, kind, None), dict)}


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside `DataParallel` and `torch.compile`."""
    for name in ("module", "_orig_mod"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return unwrapped(inner)
    return model


class _Widths(NamedTuple):
    """What shapes say."""

    growth: int
    between: int  # channels of a bottleneck
    stem: int
    channels: int  # of images
    classes: int


def _config(state: Mapping[str, Tensor], image_size: tuple[int, int], told: str) -> DenseNetConfig:
    """The config of a network, from its weights.

    Raises:
        InvalidValue: no DenseNet.
    """
    layers = [(int(found[1]), int(found[2])) for name in state if (found := _LAYER.fullmatch(name))]
    missing = [name for name in _NEEDED if name not in state]
    if missing or not layers:
        raise InvalidValue(f"{told} has no {' and no '.join(missing) or 'dense block'}: {ADVICE}.{_part_advice(state)}")
    widths = _widths(state)
    if widths is None or max(block for block, _ in layers) > MAX_BLOCKS:
        raise InvalidValue(f"{told} has shapes that no DenseNet has: {ADVICE}.")
    blocks = [0] * max(block for block, _ in layers)
    for block, _ in layers:
        blocks[block - 1] += 1
    read = widths.stem + blocks[0] * widths.growth
    first = state.get("features.transition1.conv.weight")
    half = first is None or first.ndim != 4 or first.shape[0] == read // 2
    return DenseNetConfig(
        tuple(blocks),
        widths.growth,
        widths.stem,
        Stem.CONV7_POOL,
        bottleneck=True,
        compression=0.5 if first is None or half else first.shape[0] / read,
        image_shape=(widths.channels, *image_size),
        classes=widths.classes,
        bn_size=widths.between // widths.growth,
    )


def _widths(state: Mapping[str, Tensor]) -> _Widths | None:
    """What the shapes of the first weights say; None if they are no DenseNet's."""
    stem, classifier, layer = (state[name] for name in _NEEDED)
    if (stem.ndim, classifier.ndim, layer.ndim) != (4, 2, 4):
        return None
    growth, between = layer.shape[:2]
    if not growth or between % growth:
        return None
    return _Widths(growth, between, stem.shape[0], stem.shape[1], classifier.shape[0])


def _part_advice(state: Mapping[str, Tensor]) -> str:
    """What to give instead, where a part of a model seems to be a DenseNet."""
    prefixes = [name.removesuffix("." + _FIRST) for name in state if name.endswith("." + _FIRST)]
    return f" Its part {prefixes[0]!r} seems to be one: give that." if prefixes else ""


def _told(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(list(shape))
