"""Operations on feature maps for inherited evaluation, each in the form that measured fastest on one AVX-512 core.

Shapes: n images, c channels, h x w pixels; maps have their channels last in memory.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

LAYOUT = torch.channels_last
LANES = 16  # float32 numbers that a vector of AVX-512 holds
MAX_PRODUCT_PIXELS = 16  # of maps for which a 3x3 convolution to few channels is computed as a matrix product
MAX_ROWS = 4  # of pixels that a convolution to very few channels computes together


class Moments(NamedTuple):
    """Statistics of feature maps over the calibration images, float [c]."""

    mean: Tensor
    biased: Tensor  # variance by which a train-mode pass normalises
    unbiased: Tensor  # variance that a train-mode pass stores, and by which an eval-mode pass normalises


def moments(maps: Tensor) -> Moments:
    """Mean and variances of every channel of maps [n, c, h, w]; in two passes, ten times `torch.var_mean`'s speed."""
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    mean = maps.mean(dim=(0, 2, 3))
    variance = (maps - mean[:, None, None]).square_().mean(dim=(0, 2, 3))
    count = maps.numel() // maps.shape[1]
    return Moments(mean, variance, variance * (count / max(1, count - 1)))


class Affine(NamedTuple):
    """Scale and shift of a source by the BatchNorm of each of its readers.

    Float [readers, c, 1, w], constant within a channel: so arithmetic runs along a row of pixels at a time, and is two
    to four times as fast as `batch_norm`.
    """

    scale: Tensor
    shift: Tensor

    def relu(self, maps: Tensor, reader: int = 0) -> Tensor:
        """Apply one reader's BatchNorm and ReLU to maps [n, c, h, w]; returns a new tensor."""
        return torch.addcmul(self.shift[reader], maps, self.scale[reader]).relu_().to(maps.dtype)


class Norms:
    """The BatchNorms of all readers of a source; the statistics are the source's, so all readers share them.

    Args:
        weights: [c], one for each reader.
        biases: [c], likewise.
        eps: of all readers.
        width: w of the maps.
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor], eps: float, width: int) -> None:
        self._weights, self._biases, self._eps = torch.stack(weights), torch.stack(biases), eps
        self._width = width

    def __call__(self, statistics: Moments, calibrating: bool) -> Affine:
        """Scale and shift under these statistics, of a train-mode pass if `calibrating`, else of an eval-mode pass."""
        variance = statistics.biased if calibrating else statistics.unbiased
        scale = self._weights * torch.rsqrt(variance + self._eps)
        shift = torch.addcmul(self._biases, statistics.mean, scale, value=-1)
        return Affine(self._spread(scale), self._spread(shift))

    def _spread(self, channels: Tensor) -> Tensor:
        """[readers, c] -> [readers, c, 1, w]."""
        return channels[:, :, None, None].expand(-1, -1, 1, self._width).contiguous(memory_format=LAYOUT)


class Convolution:
    """A convolution of stride 1 that keeps the size, without bias.

    The result may have another memory order than feature maps; results can be summed in it, and `maps` converts them.

    Args:
        weight: [outputs, c, k, k].
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight, self._padding = weight.contiguous(memory_format=LAYOUT), weight.shape[-1] // 2

    @property
    def nbytes(self) -> int:
        """Bytes of all that it holds."""
        return self._weight.nbytes

    def __call__(self, maps: Tensor) -> Tensor:
        """Convolve maps [n, c, h, w]."""
        return functional.conv2d(maps, self._weight, padding=self._padding)

    def maps(self, result: Tensor) -> Tensor:
        """Convert a result, or a sum of results, to maps [n, outputs, h, w]."""
        return result


class ProductConvolution(Convolution):
    """A convolution of maps with few pixels, as a product with one matrix that holds the kernel at every pixel.

    On 3x3 pixels that is no more arithmetic, on 4x4 1.8 times as much, and it is three times as fast, for a product
    fills its vectors, and a convolution to 4 or 8 channels does not.

    Args:
        weight: [outputs, c, k, k].
        size: h, w.
    """

    def __init__(self, weight: Tensor, size: tuple[int, int]) -> None:
        super().__init__(weight)
        channels, self._size = weight.shape[1], size
        unit_maps = torch.eye(channels * size[0] * size[1], dtype=weight.dtype, device=weight.device)
        responses = super().__call__(unit_maps.view(-1, *size, channels).permute(0, 3, 1, 2))
        self._matrix = responses.permute(0, 2, 3, 1).flatten(1).t().contiguous()  # [h * w * outputs, h * w * c]

    @property
    def nbytes(self) -> int:
        """Bytes of all that it holds."""
        return self._weight.nbytes + self._matrix.nbytes

    def __call__(self, maps: Tensor) -> Tensor:
        """Convolve maps [n, c, h, w]."""
        product = functional.linear(maps.permute(0, 2, 3, 1).flatten(1), self._matrix)
        return product.view(len(maps), *self._size, -1).permute(0, 3, 1, 2)


class RowsConvolution(Convolution):
    """A 3x3 convolution to few outputs that computes several rows of pixels together, as if they were channels.

    Where 8 channels would leave half of 16 lanes empty, a 4x3 kernel with stride 2 downwards gives 8 channels of two
    rows. A third more arithmetic, for the kernel is zero outside of each row's reach, in two thirds of the time.

    Args:
        weight: [outputs, c, 3, 3].
        size: h, w.
        rows: computed together.
    """

    def __init__(self, weight: Tensor, size: tuple[int, int], rows: int) -> None:
        super().__init__(weight)
        (height, width), (outputs, channels) = size, weight.shape[:2]
        kernel = weight.new_zeros(rows, outputs, channels, rows + 2, 3)
        for row in range(rows):
            kernel[row, :, :, row : row + 3] = weight
        self._weight = kernel.flatten(0, 1).contiguous(memory_format=LAYOUT)
        # With this padding the groups start `above` rows above the maps, and cover the last row.
        above = next(above for above in range(rows) if (height + 2 * above) // rows * rows >= height + above)
        self._padded, self._stride, self._size = (above + 1, 1), (rows, 1), (*size, outputs)
        groups = (height + 2 * above) // rows
        order = torch.arange(groups * width * rows, device=weight.device).view(groups, width, rows)
        self._order = order.transpose(1, 2).flatten()[above * width : (above + height) * width]

    def __call__(self, maps: Tensor) -> Tensor:
        """Convolve maps [n, c, h, w] to [n, rows * outputs, groups, w]."""
        return functional.conv2d(maps, self._weight, padding=self._padded, stride=self._stride)

    def maps(self, result: Tensor) -> Tensor:
        """Convert a result, or a sum of results, to maps [n, outputs, h, w]."""
        pixels = result.permute(0, 2, 3, 1).reshape(len(result), -1, self._size[-1])
        return pixels.index_select(1, self._order).view(-1, *self._size).permute(0, 3, 1, 2)


def convolution(weight: Tensor, size: tuple[int, int]) -> Convolution:
    """The fastest convolution on the weight's device for weight [outputs, c, k, k] and maps of size h, w."""
    outputs, kernel = weight.shape[0], weight.shape[-1]
    if weight.device.type != "cpu" or kernel != 3 or 2 * outputs > LANES:
        return Convolution(weight)
    if size[0] * size[1] <= MAX_PRODUCT_PIXELS:
        return ProductConvolution(weight, size)
    if weight.dtype is not torch.float32 or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return Convolution(weight)
    return RowsConvolution(weight, size, min(LANES // outputs, MAX_ROWS))


def average_pool(maps: Tensor) -> Tensor:
    """Average 2x2 pixels, [n, c, h, w] -> [n, c, h // 2, w // 2]; in slices, four times `avg_pool2d`'s speed."""
    height, width = maps.shape[2] // 2 * 2, maps.shape[3] // 2 * 2
    upper, lower = maps[:, :, 0:height:2, :width], maps[:, :, 1:height:2, :width]
    rows = upper + lower
    return (rows[..., 0::2] + rows[..., 1::2]).mul_(0.25)
