"""A sparse network as a program that needs nothing but torch: its source, of which only the numbers vary.

Nothing in it comes from a text that somebody else wrote: a network's numbers go in, and no names.
"""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from string import Template
from typing import cast

from torch import nn

from ads_gym import __version__
from ads_gym.architecture import Stem
from ads_gym.nets.densenet import Transition
from ads_gym.nets.sparse import SparseDenseNet

_LINE, _RUN = 120, 4  # characters of a line, and nodes in a row that are written as a range

_PROGRAM = Template('''\
$head

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

$sources]
$widths

class Layer(nn.Sequential):
    """[n, channels, h, w] -> [n, $outputs, h, w]."""

$layer

$block
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
    "It reads images float [n, $channels, $height, $width], scaled as those it was trained on (for ads-gym's own "
    "tasks: pixel / 127.5 - 1, so from -1 to 1), and gives logits [n, $classes]. Its parameters have torchvision's "
    "names; their values are in the file beside this one that has the same name with .pt."
)

_WHOLE_NODES = Template('''\
class DenseBlock(nn.Module):
    """Layers, each of which reads some of the nodes before it."""

    def __init__(self, channels: int, sources: list[list[int]]$block_argument) -> None:
        super().__init__()
        self.sources, nodes = sources, [channels] + [GROWTH] * (len(sources) - 1)
        for number, $each, start=1):
            self.add_module(f"denselayer{number}", Layer(sum(nodes[node] for node in reads)$layer_argument))

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for layer, reads in zip(self.children(), self.sources, strict=False):
            nodes.append(layer(torch.cat([nodes[node] for node in reads], dim=1)))
        return torch.cat([nodes[node] for node in self.sources[-1]], dim=1)
''')

_CHANNELS = Template('''\
def read(nodes: list[Tensor], counts: list[int]) -> Tensor:
    """The first channels of each node."""
    return torch.cat([node[:, :count] for node, count in zip(nodes, counts, strict=True)], dim=1)


class DenseBlock(nn.Module):
    """Layers, each of which reads some channels of the nodes before it; what nobody reads is not computed."""

    def __init__(self, reads: list[list[int]]$block_argument) -> None:
        super().__init__()
        self.reads = reads
        for number, $each, start=1):
            growth = max(later[number] for later in reads[number:])
            self.add_module(f"denselayer{number}", Layer(sum(counts), growth$layer_argument))

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for layer, counts in zip(self.children(), self.reads, strict=False):
            nodes.append(layer(read(nodes, counts)))
        return read(nodes, self.reads[-1])
''')

_NODES_HEAD = """\
GROWTH = $growth  # channels that each layer adds
# The nodes that each layer of a block reads, and last those of its output: 0 is the block's input, n its n-th layer.
SOURCES = [
"""
_READS_HEAD = """\
# How many channels each layer of a block reads of each node before it, and last its output: the block's input comes
# first, then its layers.
READS = [
"""

_PLAIN = """\
    def __init__(self, channels: int$growth_argument) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, $outputs, 3, padding=1, bias=False)
"""

_BOTTLENECK = """\
    def __init__(self, channels: int$growth_argument, width: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, $outputs, 3, padding=1, bias=False)
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
    has_reads = network.architecture.reads is not None
    table, each = ("reads", "counts") if has_reads else ("sources", "reads")
    with_widths = {
        "block_argument": ", widths: list[int]",
        "each": f"({each}, width) in enumerate(zip({table}, widths, strict=False)",
        "layer_argument": ", width",
    }
    without = {"block_argument": "", "each": f"{each} in enumerate({table}[:-1]", "layer_argument": ""}
    block = (_CHANNELS if has_reads else _WHOLE_NODES).substitute(with_widths if has_widths else without)
    reads = network.architecture.channels if has_reads else [reader.sources for reader in network.readers]
    tables = _by_block(iter(reads), blocks)
    outputs = (
        {"outputs": "growth", "growth_argument": ", growth: int"}
        if has_reads
        else {"outputs": "GROWTH", "growth_argument": ""}
    )
    layer = Template(_BOTTLENECK if has_widths else _PLAIN).substitute(outputs)
    tables_head = Template(_READS_HEAD if has_reads else _NODES_HEAD).substitute(
        growth=network.architecture.config.growth
    )
    return _PROGRAM.substitute(
        numbers | outputs,
        head=Template(_HEAD).substitute(numbers, text=text),
        sources=tables_head + "".join(_row(_counts if has_reads else _nodes, table) for table in tables),
        widths=_widths([[layer[0].out_channels for layer in part] for part in convolutions]) if has_widths else "",
        layer=layer,
        block=block,
        transition=_TRANSITION if len(blocks) > 1 else "",
        features="".join(f"        self.features.{line}\n" for line in _features(network, has_widths)),
        read=network.classifier.in_features,
    )


def _features(network: SparseDenseNet, has_widths: bool) -> Iterator[str]:
    """What makes the modules in `features`, a line each."""
    stem = cast(nn.Conv2d, network.features.get_submodule("conv0"))
    channels, block = stem.out_channels, 0
    for line in _STEMS[network.architecture.config.stem]:
        yield Template(line).substitute(channels=stem.in_channels, stem=channels)
    for name, child in network.features.named_children():
        if isinstance(child, nn.Sequential):
            widths = f", WIDTHS[{block}]" if has_widths else ""
            whole = network.architecture.reads is None
            yield f"{name} = DenseBlock({f'{channels}, SOURCES' if whole else 'READS'}[{block}]{widths})"
            block += 1
        elif isinstance(child, Transition):
            channels = child.conv.out_channels
            yield f"{name} = Transition({child.conv.in_channels}, {channels})"
    yield f"norm5 = nn.BatchNorm2d({network.classifier.in_features})"


def _convolutions(layer: nn.Module) -> list[nn.Conv2d]:
    return [module for module in layer.children() if isinstance(module, nn.Conv2d)]


def _by_block(
    destinations: Iterator[tuple[int, ...]], blocks: Sequence[nn.Sequential]
) -> Iterator[list[tuple[int, ...]]]:
    """What each block's layers and its output read."""
    for block in blocks:
        yield [next(destinations) for _ in range(len(block) + 1)]


def _nodes(sources: tuple[int, ...]) -> str:
    """(0, 1, 2, 3, 5) as "[*range(4), 5]"."""
    parts: list[str] = []
    for _, group in groupby(enumerate(sources), lambda pair: pair[1] - pair[0]):
        run = [node for _, node in group]
        start = f"{run[0]}, " if run[0] else ""
        parts += [f"*range({start}{run[-1] + 1})"] if len(run) >= _RUN else map(str, run)
    return f"[{', '.join(parts)}]"


def _counts(counts: tuple[int, ...]) -> str:
    """(16, 32, 32, 32, 32) as "[16, *[32] * 4]"."""
    runs = [(count, len(list(run))) for count, run in groupby(counts)]
    parts = [f"*[{count}] * {times}" if times >= _RUN else ", ".join([str(count)] * times) for count, times in runs]
    return f"[{', '.join(parts)}]"


def _row(text: Callable[[tuple[int, ...]], object], destinations: list[tuple[int, ...]]) -> str:
    """What a block's destinations read, in lines as long as they may be; only an item longer than a line is divided."""
    items = [str(text(each)) for each in destinations]
    glued = ", ".join(item if len(item) > _LINE - 10 else item.replace(" ", "\0") for item in items)
    filled = textwrap.fill(f"[{glued}],", _LINE, initial_indent=4 * " ", subsequent_indent=5 * " ")
    return filled.replace("\0", " ") + "\n"


def _widths(blocks: list[list[int]]) -> str:
    """The table of bottlenecks: `[128] * 6` where all layers of a block have the same."""
    rows = ", ".join(f"[{block[0]}] * {len(block)}" if len({*block}) == 1 else str(block) for block in blocks)
    filled = textwrap.fill(f"WIDTHS = [{rows}]", _LINE, subsequent_indent=10 * " ")
    return f"# Channels between the two convolutions of each layer.\n{filled}\n"
