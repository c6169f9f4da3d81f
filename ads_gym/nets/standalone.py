"""A sparse network as a program that needs nothing but torch: its source, of which only the numbers vary.

Nothing in it comes from a text that somebody else wrote: a network's numbers go in, and no names.
"""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from string import Template
from typing import cast

from torch import nn

from ads_gym import __version__
from ads_gym.architecture import Stem
from ads_gym.nets.densenet import Transition
from ads_gym.nets.sparse import SparseDenseNet

_LINE, _RUN = 120, 4  # characters of a line, and equal counts in a row that are written as a product

_PROGRAM = Template('''\
$head

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

# A row a block: for each layer, and last its output, how many channels it reads of the block's input and each layer.
READS = [
$reads]
$widths

class Layer(nn.Sequential):
    """[n, channels, h, w] -> [n, growth, h, w]."""

    def __init__(self, channels: int, growth: int$width_argument) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
$convolutions

class DenseBlock(nn.Module):
    """Layers, each of which reads the first channels of the nodes before it; what nobody reads is not computed."""

    def __init__(self, reads: list[list[int]]$widths_argument) -> None:
        super().__init__()
        self.reads = reads
        for number, $each, start=1):
            growth = max(later[number] for later in reads[number:])
            self.add_module(f"denselayer{number}", Layer(sum(counts), growth$layer_argument))

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for layer, counts in zip((*self.children(), None), self.reads, strict=True):
            x = torch.cat([node[:, :count] for node, count in zip(nodes, counts, strict=True)], dim=1)
            nodes.append(x if layer is None else layer(x))
        return x

$transition
class SparseDenseNet(nn.Module):
    """The network; its weights are random until `load` reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
$features        self.classifier = nn.Linear($read, $classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(functional.relu(self.features(images)).mean(dim=(2, 3)))


def load() -> SparseDenseNet:
    """The network with its weights, in eval mode."""
    network = SparseDenseNet()
    network.load_state_dict(torch.load(Path(__file__).with_suffix(".pt"), map_location="cpu", weights_only=True))
    return network.eval()


if __name__ == "__main__":
    network, images = load(), torch.zeros(1, $channels, $height, $width)
    print(f"{sum(each.numel() for each in network.parameters()):,} parameters")
    print(f"images {list(images.shape)} -> logits {list(network(images).shape)}")
''')

_HEAD = '''\
"""A sparse DenseNet in PyTorch alone, $parameters parameters. Written by ads-gym $version; it is yours to change.

$text

    network = load()  # in eval mode, on the CPU
    classes = network(images).argmax(dim=1)
"""'''
_TEXT = (
    "It reads images float [n, $channels, $height, $width], scaled as in training (for tasks of ads-gym: pixel / 127.5 "
    "- 1), and gives logits [n, $classes]. Its parameters have torchvision's names and are in the .pt file beside it."
)

_PLAIN = """\
        self.conv1 = nn.Conv2d(channels, growth, 3, padding=1, bias=False)
"""

_BOTTLENECK = """\
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, growth, 3, padding=1, bias=False)
"""

_TRANSITION = '''
class Transition(nn.Sequential):
    """[n, channels, h, w] -> [n, width, h / 2, w / 2]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(channels, width, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

'''

_STEMS = {
    Stem.CONV3: ("conv0 = nn.Conv2d($channels, $stem, 3, padding=1, bias=False)",),
    Stem.CONV3_STRIDE2: ("conv0 = nn.Conv2d($channels, $stem, 3, stride=2, padding=1, bias=False)",),
    Stem.CONV7_POOL: (
        "conv0 = nn.Conv2d($channels, $stem, 7, stride=2, padding=3, bias=False)",
        "norm0 = nn.BatchNorm2d($stem)",
        "relu0 = nn.ReLU(inplace=True)",
        "pool0 = nn.MaxPool2d(3, stride=2, padding=1)",
    ),
}


def program(network: SparseDenseNet) -> str:
    """The source of a module whose `load()` gives this network; the state dict lies beside it, by `torch.save`."""
    channels, height, width = network.architecture.config.image_shape
    blocks = [block for block in network.features if isinstance(block, nn.Sequential)]
    convolutions = [[_convolutions(layer) for layer in block] for block in blocks]
    has_widths = len(convolutions[0][0]) > 1  # between two convolutions
    numbers = {
        "parameters": f"{sum(each.numel() for each in network.parameters()):,}",
        "version": __version__,
        "channels": channels,
        "height": height,
        "width": width,
        "classes": network.classifier.out_features,
    }
    text = textwrap.fill(Template(_TEXT).substitute(numbers), _LINE)
    if has_widths:
        varying = {
            "convolutions": _BOTTLENECK,
            "width_argument": ", width: int",
            "widths_argument": ", widths: list[int]",
            "each": "(counts, width) in enumerate(zip(reads, widths, strict=False)",
            "layer_argument": ", width",
        }
    else:
        varying = dict.fromkeys(("width_argument", "widths_argument", "layer_argument"), "")
        varying |= {"convolutions": _PLAIN, "each": "counts in enumerate(reads[:-1]"}
    return _PROGRAM.substitute(
        numbers | varying,
        head=Template(_HEAD).substitute(numbers, text=text),
        reads="".join(map(_row, _by_block(iter(network.architecture.channels), blocks))),
        widths=_widths([[layer[0].out_channels for layer in part] for part in convolutions]) if has_widths else "",
        transition=_TRANSITION if len(blocks) > 1 else "",
        features="".join(f"        self.features.{line}\n" for line in _features(network, has_widths)),
        read=network.classifier.in_features,
    )


def _features(network: SparseDenseNet, has_widths: bool) -> Iterator[str]:
    """What makes the modules in `features`, a line each."""
    stem = cast(nn.Conv2d, network.features.get_submodule("conv0"))
    block = 0
    for line in _STEMS[network.architecture.config.stem]:
        yield Template(line).substitute(channels=stem.in_channels, stem=stem.out_channels)
    for name, child in network.features.named_children():
        if isinstance(child, nn.Sequential):
            widths = f", WIDTHS[{block}]" if has_widths else ""
            yield f"{name} = DenseBlock(READS[{block}]{widths})"
            block += 1
        elif isinstance(child, Transition):
            yield f"{name} = Transition({child.conv.in_channels}, {child.conv.out_channels})"
    yield f"norm5 = nn.BatchNorm2d({network.classifier.in_features})"


def _convolutions(layer: nn.Module) -> list[nn.Conv2d]:
    return [module for module in layer.children() if isinstance(module, nn.Conv2d)]


def _by_block(
    destinations: Iterator[tuple[int, ...]], blocks: Sequence[nn.Sequential]
) -> Iterator[list[tuple[int, ...]]]:
    """What each block's layers and its output read."""
    for block in blocks:
        yield [next(destinations) for _ in range(len(block) + 1)]


def _counts(counts: tuple[int, ...]) -> str:
    """(16, 32, 32, 32, 32) as "[16, *[32] * 4]"."""
    runs = [(count, len(list(run))) for count, run in groupby(counts)]
    parts = [f"*[{count}] * {times}" if times >= _RUN else ", ".join([str(count)] * times) for count, times in runs]
    return f"[{', '.join(parts)}]"


def _row(destinations: list[tuple[int, ...]]) -> str:
    """What a block's destinations read, in lines as long as they may be."""
    filled = ", ".join(map(_counts, destinations)).replace("* ", "*\0")
    filled = textwrap.fill(f"[{filled}],", _LINE, initial_indent=4 * " ", subsequent_indent=5 * " ")
    return filled.replace("\0", " ") + "\n"


def _widths(blocks: list[list[int]]) -> str:
    """The table of bottlenecks: `[128] * 6` where all layers of a block have the same."""
    rows = ", ".join(f"[{block[0]}] * {len(block)}" if len({*block}) == 1 else str(block) for block in blocks)
    filled = textwrap.fill(f"WIDTHS = [{rows}]", _LINE, subsequent_indent=10 * " ")
    return f"# Channels between the two convolutions of each layer.\n{filled}\n"
