"""Operations of MobileStyleGAN with gradients written by hand, each with a plain `_ref` twin as its oracle.

An operation is linear in style times features, y = L(s x). Its backward needs u = L^T g only: the features' gradient
is s u, the style's is the sum of x u. So nothing is kept for it but features that are kept anyway, and with one sample
the style is part of the weights, which makes it free. Transposed convolutions run as forward ones, which are faster.
Memory is channels-last throughout: depthwise kernels are several times faster so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SLOPE = 0.2


def separable(
    x: Tensor, style: Tensor, depthwise: Tensor, pointwise: Tensor, bias: Tensor, noise: Tensor | None
) -> Tensor:
    """Style, depthwise 3x3, pointwise 1x1, bias, noise, leaky ReLU.

    [B, in, H, W] and [B, in] to [B, out, H, W]; `depthwise` [in, 1, 3, 3], `pointwise` [out, in, 1, 1], `bias` [out],
    `noise` [1 or B, 1, H, W].
    """
    return _Separable.apply(x, style, depthwise, pointwise, bias, noise)


def separable_ref(
    x: Tensor, style: Tensor, depthwise: Tensor, pointwise: Tensor, bias: Tensor, noise: Tensor | None
) -> Tensor:
    """`separable` by plain operations."""
    x = x * style.to(x.dtype)[:, :, None, None]
    x = F.conv2d(x, depthwise.to(x.dtype), padding=1, groups=x.shape[1])
    return finish(F.conv2d(x, pointwise.to(x.dtype)), bias, noise)


def finish(y: Tensor, bias: Tensor, noise: Tensor | None) -> Tensor:
    """Bias, noise, leaky ReLU on [B, C, H, W]."""
    offset = bias[:, None, None] if noise is None else bias[:, None, None] + noise
    return F.leaky_relu(y + offset.to(y.dtype), SLOPE)


def upsample(x: Tensor, style: Tensor) -> Tensor:
    """Style and inverse Haar transform: [B, 4C, H, W] and [B, 4C] to [B, C, 2H, 2W]."""
    return _Upsample.apply(x, style)


def upsample_ref(x: Tensor, style: Tensor) -> Tensor:
    """`upsample` by plain operations."""
    return inverse_haar(x * style.to(x.dtype)[:, :, None, None])


def inverse_haar(x: Tensor) -> Tensor:
    """[B, 4C, H, W] to [B, C, 2H, 2W]: C low bands, then C times (high over rows, high over columns, high over both).

    Orthonormal: half of the low band is the mean of 2 x 2 pixels.
    """
    count = x.shape[1] // 4
    low, details = x[:, :count], x[:, count:].unflatten(1, (count, 3))
    row, column, both = details.unbind(2)
    upper, lower = low + row, low - row
    upper_detail, lower_detail = column + both, column - both
    phases = [upper + upper_detail, upper - upper_detail, lower + lower_detail, lower - lower_detail]
    return F.pixel_shuffle(torch.stack(phases, 2).flatten(1, 2) / 2, 2)


def haar_kernel(count: int, like: Tensor) -> Tensor:
    """The inverse Haar transform to `count` channels C as the weight [4C, C, 2, 2] of a transposed convolution.

    Of stride 2; in the dtype of `like` and on its device. A convolution with it is the forward transform.
    """
    signs = torch.tensor([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], dtype=like.dtype, device=like.device) / 2
    diagonal = torch.eye(count, dtype=like.dtype, device=like.device)[:, None, :, None, None]
    details = (diagonal * signs.view(1, 3, 1, 2, 2)).flatten(0, 1)
    return torch.cat([(diagonal[:, 0] / 2).expand(-1, -1, 2, 2), details])


class _Separable(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        style: Tensor,
        depthwise: Tensor,
        pointwise: Tensor,
        bias: Tensor,
        noise: Tensor | None,
    ) -> Tensor:
        kernel, mixing = depthwise.to(x.dtype), pointwise.to(x.dtype)
        z = _depthwise(x, style, depthwise)
        y = F.conv2d(z, mixing, bias.to(x.dtype))
        if noise is not None:
            y += noise.to(x.dtype)
        F.leaky_relu_(y, SLOPE)
        tuned = ctx.needs_input_grad[3]
        ctx.save_for_backward(x, style, kernel, mixing, y, z if tuned else None)
        ctx.noise_batch = None if noise is None else noise.shape[0]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, style, kernel, mixing, y, z = ctx.saved_tensors
        needs = ctx.needs_input_grad
        g = torch.ops.aten.leaky_relu_backward(g, y, SLOPE, True)
        grad_mixing = grad_kernel = grad_bias = grad_noise = grad_style = None
        if needs[4]:
            grad_bias = _pixel_sum(g).to(style.dtype).sum(0)
        if needs[5]:
            total = g.sum(1, keepdim=True).to(style.dtype)  # with dtype= it would copy g in float32
            grad_noise = total if ctx.noise_batch == g.shape[0] else total.sum(0, keepdim=True)
        if needs[3]:
            grad_mixing = _weight_gradient(g, z, mixing, 0, 1).to(style.dtype)
        if not any(needs[:3]):
            return None, None, None, grad_mixing, grad_bias, grad_noise
        g = F.conv2d(g, mixing.transpose(0, 1).contiguous())
        if needs[2]:
            alone = g.shape[0] == 1
            scaled = g if alone else g * style.to(g.dtype)[:, :, None, None]
            grad_kernel = _weight_gradient(scaled, x, kernel, 1, kernel.shape[0]).to(style.dtype)
            if alone:  # the style stands before the kernel: its gradient is at hand
                grad_style = (grad_kernel * kernel).sum((1, 2, 3))[None]
                grad_kernel = grad_kernel * style[0][:, None, None, None]
        u = F.conv2d(g, kernel.flip(2, 3), padding=1, groups=kernel.shape[0])
        grad_x, of_style = _unmodulate(u, x, style, (needs[0], needs[1] and grad_style is None))
        return grad_x, of_style if grad_style is None else grad_style, grad_kernel, grad_mixing, grad_bias, grad_noise


class _Upsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, style: Tensor) -> Tensor:
        ctx.save_for_backward(x, style)
        kernel = haar_kernel(x.shape[1] // 4, style)
        if x.shape[0] == 1:
            kernel = kernel * style[0][:, None, None, None]
        else:
            x = x * style.to(x.dtype)[:, :, None, None]
        return F.conv_transpose2d(x, kernel.to(x.dtype), stride=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, style = ctx.saved_tensors
        kernel = haar_kernel(g.shape[1], g)
        return _unmodulate(F.conv2d(g, kernel, stride=2), x, style, ctx.needs_input_grad)


def _depthwise(x: Tensor, style: Tensor, weight: Tensor) -> Tensor:
    channels = x.shape[1]
    if x.shape[0] == 1:
        weight = weight * style[0][:, None, None, None]
        return F.conv2d(x, weight.to(x.dtype), padding=1, groups=channels)
    y = F.conv2d(x, weight.to(x.dtype), padding=1, groups=channels)
    return y.mul_(style.to(x.dtype)[:, :, None, None])


def _unmodulate(u: Tensor, x: Tensor, style: Tensor, needs: Sequence[bool]) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and of style, where they are needed, of the gradient `u` of their product; overwrites `u`."""
    grad_style = _pixel_sum(x * u).to(style.dtype) if needs[1] else None
    grad_x = u.mul_(style.to(u.dtype)[:, :, None, None]) if needs[0] else None
    return grad_x, grad_style


def _pixel_sum(x: Tensor) -> Tensor:
    """[B, C, H, W] to [B, C], as a matrix product, which adds up in float32 without a copy in it."""
    rows = x.permute(0, 2, 3, 1).flatten(1, 2)  # [B, HW, C]
    return torch.bmm(rows.new_ones(len(rows), 1, rows.shape[1]), rows)[:, 0]


def _weight_gradient(g: Tensor, x: Tensor, weight: Tensor, padding: int, groups: int) -> Tensor:
    """Gradient of the weight of a convolution of stride 1 of `x`, of its output's gradient `g`."""
    geometry = ([1, 1], [padding, padding], [1, 1], False, [0, 0], groups)
    return torch.ops.aten.convolution_backward(g, x, weight, None, *geometry, [False, True, False])[1]


__all__ = ["SLOPE", "finish", "haar_kernel", "inverse_haar", "separable", "separable_ref", "upsample", "upsample_ref"]
