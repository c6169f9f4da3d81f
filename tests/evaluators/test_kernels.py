import pytest
import torch
from torch.nn import functional

from ads_gym.evaluators.kernels import (
    LAYOUT,
    Convolution,
    ProductConvolution,
    RowsConvolution,
    convolution,
)


def drawn(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64) - 0.5


IMPLEMENTATIONS = {
    "plain": lambda weight, size: Convolution(weight),
    "product": ProductConvolution,
    "two rows": lambda weight, size: RowsConvolution(weight, size, 2),
    "three rows": lambda weight, size: RowsConvolution(weight, size, 3),
    "four rows": lambda weight, size: RowsConvolution(weight, size, 4),
}


@pytest.mark.parametrize("way", IMPLEMENTATIONS)
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 5), (3, 3), (4, 4), (5, 2), (6, 7), (7, 7), (8, 6), (9, 1)])
@pytest.mark.parametrize("outputs", [1, 3, 8])
def test_every_implementation_is_the_same_convolution(way, size, outputs):
    weight, other = drawn(outputs, 5, 3, 3), drawn(outputs, 5, 3, 3) + 1
    maps = drawn(4, 5, *size).contiguous(memory_format=LAYOUT)
    first, second = IMPLEMENTATIONS[way](weight, size), IMPLEMENTATIONS[way](other, size)
    reference = functional.conv2d(maps, weight, padding=1)
    result = first.maps(first(maps))
    assert torch.allclose(result, reference, rtol=0, atol=1e-12) and result.is_contiguous(memory_format=LAYOUT)
    total = first.maps(first(maps) + second(maps))
    assert torch.allclose(total, functional.conv2d(maps, weight + other, padding=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "shape, size, dtype, way",
    [
        ((8, 3, 3, 3), (14, 14), torch.float32, RowsConvolution),
        ((4, 3, 3, 3), (5, 7), torch.float32, RowsConvolution),
        ((8, 3, 3, 3), (4, 4), torch.float32, ProductConvolution),
        ((12, 3, 3, 3), (14, 14), torch.float32, Convolution),  # 12 of 16 lanes are enough
        ((12, 3, 3, 3), (4, 4), torch.float32, Convolution),
        ((8, 3, 3, 3), (14, 14), torch.float64, Convolution),  # 8 lanes
        ((8, 3, 1, 1), (4, 4), torch.float32, Convolution),
    ],
)
def test_vectors_of_16_lanes_are_filled(monkeypatch, shape, size, dtype, way):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    weight, maps = drawn(*shape).to(dtype), drawn(2, shape[1], *size).to(dtype).contiguous(memory_format=LAYOUT)
    chosen = convolution(weight, size)
    assert type(chosen) is way
    reference = functional.conv2d(maps, weight, padding=shape[-1] // 2)
    assert torch.allclose(chosen.maps(chosen(maps)), reference, rtol=0, atol=1e-5)


def test_rows_are_computed_together_with_avx512_only(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert type(convolution(drawn(8, 3, 3, 3).float(), (14, 14))) is Convolution
