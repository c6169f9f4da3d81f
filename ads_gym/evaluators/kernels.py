"""What inherited evaluation does to feature maps, each in the way that measured fastest on one core with AVX-512.

Shapes: n images, c channels, h x w pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

FEW_PIXELS = 16  # in maps as small as these a 3x3 convolution is done as a matrix product


class Moments(NamedTuple):
    """Statistics of feature maps over the calibration images, float [c]."""

    mean: Tensor
    biased: Tensor  # variance that a train-mode pass normalises by
    unbiased: Tensor  # variance that it stores, and an eval-mode pass normalises by


def moments(maps: Tensor) -> Moments:
    """Mean and variances of every channel of maps [n, c, h, w]; in two passes, ten times `torch.var_mean`'s speed."""
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    mean = maps.mean(dim=(0, 2, 3))
    variance = (maps - mean[:, None, None]).square_().mean(dim=(0, 2, 3))
    count = maps.numel() // maps.shape[1]
    return Moments(mean, variance, variance * (count / max(1, count - 1)))


class Affine(NamedTuple):
    """What the BatchNorms of all readers do to a source.

    Float [readers, c, h, w] with contiguous maps, [readers, c, 1, w] with channels last, every pixel of a channel the
    same: so arithmetic runs along stretches of memory, and is two to four times as fast as `batch_norm`, which goes
    channel by channel.
    """

    scale: Tensor
    shift: Tensor

    def relu(self, maps: Tensor, reader: int = 0) -> Tensor:
        """BatchNorm and ReLU of maps [n, c, h, w] for a reader; a fresh tensor."""
        return torch.addcmul(self.shift[reader], maps, self.scale[reader]).relu_().to(maps.dtype)


class Norms:
    """The BatchNorms of all readers of a source. Its statistics are its own, so they are the same for all.

    Args:
        weights: [c], one a reader.
        biases: likewise.
        eps: of all.
        size: h, w.
        layout: of the maps.
    """

    def __init__(
        self,
        weights: list[Tensor],
        biases: list[Tensor],
        eps: float,
        size: tuple[int, int],
        layout: torch.memory_format,
    ) -> None:
        self._weights, self._biases, self._eps = torch.stack(weights), torch.stack(biases), eps
        self._size, self._layout = (size if layout is torch.contiguous_format else (1, size[1])), layout

    def __call__(self, statistics: Moments, calibrating: bool) -> Affine:
        """What they come to under these statistics, in a train-mode pass if `calibrating`, else in an eval-mode one."""
        variance = statistics.biased if calibrating else statistics.unbiased
        scale = self._weights * torch.rsqrt(variance + self._eps)
        shift = torch.addcmul(self._biases, statistics.mean, scale, value=-1)
        return Affine(self._spread(scale), self._spread(shift))

    def _spread(self, channels: Tensor) -> Tensor:
        """[readers, c] -> [readers, c, h or 1, w]."""
        return channels[:, :, None, None].expand(-1, -1, *self._size).contiguous(memory_format=self._layout)


class Convolution:
    """A convolution of stride 1 that keeps the size, without bias.

    To few pixels it is a product with one matrix that holds the kernel for all of them: in 3x3 pixels no more
    arithmetic, in 4x4 1.8 times as much, and three times as fast, for a product fills its vectors, and a convolution to
    4 or 8 channels does not.

    Args:
        weight: [outputs, c, k, k].
        size: h, w.
        layout: of the maps.
    """

    def __init__(self, weight: Tensor, size: tuple[int, int], layout: torch.memory_format) -> None:
        self._weight, self._padding = weight.contiguous(), weight.shape[-1] // 2
        channels, pixels = weight.shape[1], size[0] * size[1]
        self._matrix: Tensor | None = None
        if self._padding and pixels <= FEW_PIXELS and layout is torch.contiguous_format:
            one_at_a_time = torch.eye(channels * pixels, dtype=weight.dtype, device=weight.device)
            responses = self(one_at_a_time.view(-1, channels, *size))
            self._matrix = responses.flatten(1).t().contiguous()  # [outputs * h * w, c * h * w]

    def __call__(self, maps: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, outputs, h, w]."""
        if self._matrix is None:
            return functional.conv2d(maps, self._weight, padding=self._padding)
        return functional.linear(maps.flatten(1), self._matrix).view(len(maps), -1, *maps.shape[2:])


def pooled(maps: Tensor) -> Tensor:
    """2x2 average pool [n, c, h, w] -> [n, c, h // 2, w // 2]; in slices, four times `avg_pool2d`'s speed."""
    height, width = maps.shape[2] // 2 * 2, maps.shape[3] // 2 * 2
    upper, lower = maps[:, :, 0:height:2, :width], maps[:, :, 1:height:2, :width]
    rows = upper + lower
    return (rows[..., 0::2] + rows[..., 1::2]).mul_(0.25)
