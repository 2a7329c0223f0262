"""StyleGAN2 operations, each with a slow `_ref` twin that serves as its oracle.

The fast versions keep one convolution weight for the whole batch: activations are scaled by the
style before it and by the demodulation factor after it (Karras et al. 2020, appendix B, in reverse).
The `_ref` versions build per-sample weights and resample with plain upfirdn, as the papers write it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIR_TAPS = (1.0, 3.0, 3.0, 1.0)
EPS = 1e-8


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate; `activation` is leaky ReLU 0.2 with gain sqrt 2."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias_init: float = 0.0,
        lr_mul: float = 1.0,
        activation: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_mul))
        self.scale = lr_mul / math.sqrt(in_features)
        self.lr_mul = lr_mul
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        y = F.linear(x, self.weight * self.scale, self.bias * self.lr_mul)
        return leaky_relu(y) if self.activation else y


class EqualConv2d(nn.Module):
    """Convolution with equalised learning rate, at stride 2 with `down`; `activation` as in `EqualLinear`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        *,
        bias: bool = True,
        activation: bool = False,
        down: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = 1 / math.sqrt(in_channels * size * size)
        self.activation = activation
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] to [B, out, H, W], or [B, out, H/2, W/2] with `down`, in the dtype of `x`."""
        weight = (self.weight * self.scale).to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.down:
            y = downsample_conv2d(x, weight, bias)
        else:
            y = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        return leaky_relu(y) if self.activation else y


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2 and gain sqrt 2."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def pixel_norm(x: Tensor) -> Tensor:
    """Scale the last dimension to unit mean square."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """Factors [B, out] that give each output of a modulated convolution unit expected variance.

    `weight` [out, in, k, k], `style` [B, in] (the equalised learning rate already in it).
    """
    return torch.rsqrt(style.square() @ weight.square().sum((2, 3)).T + EPS)


def modulated_conv2d(x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, up: bool = False) -> Tensor:
    """Convolve `x` [B, in, H, W] with `weight` [out, in, k, k] modulated by `style` [B, in].

    Returns [B, out, H, W], or [B, out, 2H, 2W] with `up`, in the dtype of `x`.
    """
    gain = 1 / math.sqrt(weight[0].numel())
    style = style * gain
    x = x * style.to(x.dtype)[:, :, None, None]
    kernel = weight.to(x.dtype)
    y = upsample_conv2d(x, kernel) if up else F.conv2d(x, kernel, padding=weight.shape[-1] // 2)
    if demodulate:
        y = y * demodulation(weight, style).to(x.dtype)[:, :, None, None]
    return y


def modulated_conv2d_ref(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, up: bool = False
) -> Tensor:
    """`modulated_conv2d` with one weight a sample."""
    batch, _, height, width = x.shape
    out, inner, k, _ = weight.shape
    w = weight[None] * style[:, None, :, None, None] / math.sqrt(inner * k * k)  # [B, out, in, k, k]
    if demodulate:
        w = w * torch.rsqrt(w.square().sum((2, 3, 4), keepdim=True) + EPS)
    x = x.reshape(1, batch * inner, height, width)
    if up:
        w = w.transpose(1, 2).reshape(batch * inner, out, k, k)
        y = F.conv_transpose2d(x, w, stride=2, groups=batch)
        y = y.reshape(batch, out, *y.shape[2:])
        return upfirdn2d_ref(y, gain=4.0, pad=(1, 1))
    y = F.conv2d(x, w.reshape(batch * out, inner, k, k), padding=k // 2, groups=batch)
    return y.reshape(batch, out, height, width)


def upsample_conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """2x upsampling with the 1-3-3-1 filter and a 3x3 convolution in one: [B, in, H, W] to [B, out, 2H, 2W].

    The transposed convolution of the papers followed by its blur; equal to filtering first.
    """
    y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return blur(y)


def blur(x: Tensor) -> Tensor:
    """The 1-3-3-1 filter with gain 4 on [B, C, H + 1, W + 1], zero padded by 1: [B, C, H, W]."""
    return F.conv2d(x, fir_kernel(x), padding=1, groups=x.shape[1])


def fir_kernel(x: Tensor) -> Tensor:
    """The 1-3-3-1 filter with gain 4 as a depthwise kernel [C, 1, 4, 4] for `x` [B, C, H, W]."""
    taps = torch.tensor(FIR_TAPS, device=x.device, dtype=x.dtype) / 4
    return torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4).contiguous()


def upsample2d(x: Tensor) -> Tensor:
    """2x upsampling with the 1-3-3-1 filter: [B, C, H, W] to [B, C, 2H, 2W]."""
    x = x.contiguous(memory_format=torch.channels_last)  # the depthwise kernels are several times faster so
    return F.conv_transpose2d(x, fir_kernel(x), stride=2, padding=1, groups=x.shape[1])


def upsample2d_ref(x: Tensor) -> Tensor:
    """`upsample2d` by zero insertion and plain filtering."""
    return upfirdn2d_ref(x, up=2, gain=4.0, pad=(2, 1))


def downsample2d(x: Tensor) -> Tensor:
    """2x reduction with the 1-3-3-1 filter, zero padded: [B, C, H, W] to [B, C, H/2, W/2]."""
    return F.conv2d(x, fir_kernel(x) / 4, stride=2, padding=1, groups=x.shape[1])


def downsample_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The 1-3-3-1 filter and a 1x1 or 3x3 convolution with stride 2: [B, in, H, W] to [B, out, H/2, W/2]."""
    if weight.shape[-1] == 1:
        return F.conv2d(downsample2d(x), weight, bias)
    y = F.conv2d(x, fir_kernel(x) / 4, padding=2, groups=x.shape[1])  # [B, in, H + 1, W + 1]
    return F.conv2d(y, weight, bias, stride=2)


def upfirdn2d_ref(x: Tensor, *, up: int = 1, down: int = 1, gain: float = 1.0, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Insert zeros, pad (before, after) on both axes, filter with 1-3-3-1, keep every `down`-th pixel."""
    batch, channels, height, width = x.shape
    taps = torch.tensor(FIR_TAPS, device=x.device, dtype=x.dtype)
    kernel = torch.outer(taps, taps)
    kernel = kernel * (gain / kernel.sum())
    y = x.reshape(batch, channels, height, 1, width, 1)
    y = F.pad(y, (0, up - 1, 0, 0, 0, up - 1)).reshape(batch, channels, height * up, width * up)
    y = F.pad(y, (pad[0], pad[1], pad[0], pad[1]))
    y = F.conv2d(y, kernel.flip(0, 1).expand(channels, 1, 4, 4), groups=channels)
    return y[:, :, ::down, ::down]


__all__ = [
    "EPS",
    "FIR_TAPS",
    "EqualConv2d",
    "EqualLinear",
    "blur",
    "demodulation",
    "downsample2d",
    "downsample_conv2d",
    "fir_kernel",
    "leaky_relu",
    "modulated_conv2d",
    "modulated_conv2d_ref",
    "pixel_norm",
    "upfirdn2d_ref",
    "upsample2d",
    "upsample2d_ref",
    "upsample_conv2d",
]
