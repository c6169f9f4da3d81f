"""How feature maps lie in memory in inference, and how many images are computed at once.

Measured in float32 on one core with AVX-512, layers of 12 outputs that read 16 to 160 channels of 32x32 pixels, in
batches of 8 and 64: convolutions of channels_last maps ran at 73 to 85 GFLOP/s, those of plain maps at 25 to 55 (of one
image: 26 to 82 and 38 to 73). Maps that leave the cache, or are so large that the system must find new pages for them,
made batch_norm up to eight times as slow: hence chunks. In chunks of eight, reading four sources concatenated (`cat`,
clamp, one convolution) took 1.17 ms; a convolution for each, summed, 1.29; each source written into its slice of an
allocated map, then one convolution, 1.18. So sources are always concatenated, which is also the shortest code.
"""

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK_BYTES = 8 * 2**20  # of the widest input of a layer: with the maps computed from it, it stays in the last cache


def memory_format(images: Tensor) -> torch.memory_format:
    """The layout in which convolutions are fastest for networks on `images`; `preserve_format` if none is known."""
    fast = images.device.type == "cpu" and images.dtype in (torch.float32, torch.bfloat16)
    return torch.channels_last if fast else torch.preserve_format


def in_chunks(run: Callable[[Tensor], Tensor], images: Tensor, widest: int) -> Tensor:
    """Apply `run` to images [n, c, h, w], on a CPU so few at a time that their maps stay in the cache.

    Args:
        run: treats every image by itself, and returns [n, ...].
        images: any number.
        widest: values in the widest map of one image.
    """
    if images.device.type != "cpu" or torch.compiler.is_compiling():  # a compiler sees one batch of any size
        return run(images)
    fit = max(1, CHUNK_BYTES // (widest * images.element_size()))
    chunk = 1 << (fit.bit_length() - 1)  # a power of two, as batches are: equal chunks need one plan, not two
    if len(images) <= chunk:
        return run(images)
    return torch.cat([run(part) for part in torch.split(images, chunk)])
