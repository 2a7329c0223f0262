from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stkit.models import ops


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize(
    ("batch", "inner", "out", "height", "width"), [(1, 3, 5, 4, 4), (2, 8, 3, 7, 5), (3, 1, 1, 16, 9)]
)
def test_modulated_conv2d_is_its_ref(
    up: bool, demodulate: bool, batch: int, inner: int, out: int, height: int, width: int
) -> None:
    x, weight, style = seeded(batch, inner, height, width), seeded(out, inner, 3, 3), seeded(batch, inner) + 1
    fast = ops.modulated_conv2d(x, weight, style, demodulate=demodulate, up=up)
    ref = ops.modulated_conv2d_ref(x, weight, style, demodulate=demodulate, up=up)
    assert fast.shape == (batch, out, height * (1 + up), width * (1 + up))
    torch.testing.assert_close(fast, ref, atol=1e-5, rtol=1e-5)


def test_one_by_one_kernels_too() -> None:
    x, weight, style = seeded(2, 6, 5, 5), seeded(3, 6, 1, 1), seeded(2, 6)
    fast = ops.modulated_conv2d(x, weight, style, demodulate=False)
    torch.testing.assert_close(fast, ops.modulated_conv2d_ref(x, weight, style, demodulate=False))


@pytest.mark.parametrize("up", [False, True])
def test_modulated_conv2d_in_bfloat16_stays_near_float32(up: bool) -> None:
    x, weight, style = seeded(2, 16, 8, 8), seeded(8, 16, 3, 3), seeded(2, 16) + 1
    fast = ops.modulated_conv2d(x.bfloat16(), weight, style, up=up)
    assert fast.dtype == torch.bfloat16
    error = fast.float() - ops.modulated_conv2d_ref(x, weight, style, up=up)
    assert error.square().mean().sqrt() < 0.02


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_gradients_are_those_of_the_ref(up: bool, demodulate: bool) -> None:
    inputs = [seeded(2, 4, 6, 6), seeded(5, 4, 3, 3), seeded(2, 4) + 1]
    grads = []
    for function in (ops.modulated_conv2d, ops.modulated_conv2d_ref):
        leaves = [value.clone().requires_grad_() for value in inputs]
        y = function(*leaves, demodulate=demodulate, up=up)
        grads.append(torch.autograd.grad((y * seeded(*y.shape)).sum(), leaves))
    for fast, ref in zip(*grads, strict=True):
        torch.testing.assert_close(fast, ref, atol=2e-5, rtol=1e-4)


def test_demodulation_gives_unit_variance() -> None:
    x, weight, style = seeded(1, 64, 64, 64), seeded(4, 64, 3, 3), 5 * seeded(1, 64)
    y = ops.modulated_conv2d(x, weight, style)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(y.std((2, 3)), torch.ones(1, 4), atol=0.1, rtol=0)


@pytest.mark.parametrize("size", [1, 4, 9])
def test_upsample2d_is_its_ref(size: int) -> None:
    x = seeded(2, 3, size, size + 1)
    torch.testing.assert_close(ops.upsample2d(x), ops.upsample2d_ref(x))


def test_upsample2d_keeps_flat_images_away_from_the_edges() -> None:
    large = ops.upsample2d(torch.ones(1, 2, 6, 6))
    torch.testing.assert_close(large[:, :, 1:-1, 1:-1], torch.ones(1, 2, 10, 10))


def test_blur_is_plain_filtering() -> None:
    x = seeded(2, 3, 9, 9)
    torch.testing.assert_close(ops.blur(x), ops.upfirdn2d_ref(x, gain=4.0, pad=(1, 1)))


def test_upfirdn2d_ref_by_hand() -> None:
    pixel = torch.zeros(1, 1, 5, 5)
    pixel[0, 0, 2, 2] = 1
    taps = torch.tensor(ops.FIR_TAPS) / sum(ops.FIR_TAPS)
    spread = ops.upfirdn2d_ref(pixel, pad=(2, 1))
    torch.testing.assert_close(spread[0, 0, 1:5, 1:5], torch.outer(taps, taps))
    torch.testing.assert_close(ops.upfirdn2d_ref(pixel, down=2, pad=(2, 1)), spread[:, :, ::2, ::2])


def test_leaky_relu_and_pixel_norm() -> None:
    torch.testing.assert_close(ops.leaky_relu(torch.tensor([-1.0, 2.0])), math.sqrt(2) * torch.tensor([-0.2, 2.0]))
    normed = ops.pixel_norm(7 * seeded(3, 16))
    torch.testing.assert_close(normed.square().mean(-1), torch.ones(3))


def test_equal_linear_learns_at_its_own_rate_and_starts_at_its_bias() -> None:
    layer = ops.EqualLinear(400, 3, bias_init=1.0, lr_mul=0.01)
    torch.testing.assert_close(layer(torch.zeros(2, 400)), torch.ones(2, 3))
    outputs = ops.EqualLinear(400, 300, lr_mul=0.01)(seeded(50, 400))
    assert 0.9 < float(outputs.detach().std()) < 1.1
