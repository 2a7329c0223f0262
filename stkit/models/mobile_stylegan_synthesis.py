"""MobileStyleGAN (Belousov, arXiv 2104.04767): a small student of StyleGAN2 that synthesises in the wavelet domain.

Its mapping network is the teacher's. Synthesis has depthwise-separable convolutions, upsamples by the inverse Haar
transform of its own feature maps, and has one image layer, whose output is transformed once more. Demodulation was
trained away.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.errors import UsageError
from stkit.models import mobile_stylegan_ops as ops
from stkit.models.generators import NoiseMode
from stkit.models.mobile_stylegan_ops import inverse_haar
from stkit.models.shapes import MobileStyleGANConfig


class Separable(nn.Module):
    """Style, depthwise 3x3, pointwise 1x1, noise, bias, leaky ReLU."""

    noise_const: Tensor

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, resolution: int) -> None:
        super().__init__()
        self.affine = _affine(w_dim, in_channels)
        self.depthwise = nn.Parameter(torch.randn(in_channels, 1, 3, 3))
        self.pointwise = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.gain = 1 / math.sqrt(in_channels * 9)

    def forward(self, x: Tensor, style: Tensor, noise: NoiseMode, ref: bool = False) -> Tensor:
        """[B, in, H, W] and [B, in] to [B, out, H, W]."""
        operation = ops.separable_ref if ref else ops.separable
        grid = _noise(self, noise, x.shape[0])
        return operation(x, style * self.gain, self.depthwise, self.pointwise, self.bias, grid)


class First(nn.Module):
    """The learned constant at 4 x 4, through a modulated dense 3x3 convolution, noise, bias, leaky ReLU."""

    noise_const: Tensor

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = _affine(w_dim, channels)
        self.const = nn.Parameter(torch.randn(channels, 4, 4))
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(4, 4))
        self.gain = 1 / math.sqrt(channels * 9)

    def forward(self, style: Tensor, noise: NoiseMode, dtype: torch.dtype) -> Tensor:
        """[B, C] to [B, C, 4, 4]."""
        x = self.const.to(dtype) * (style * self.gain).to(dtype)[:, :, None, None]
        x = x.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(x, self.weight.to(dtype), padding=1)
        return ops.finish(y, self.bias, _noise(self, noise, y.shape[0]))


class Block(nn.Module):
    """Style, inverse Haar transform (C to C/4 channels at twice the size), two separable convolutions."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, resolution: int) -> None:
        super().__init__()
        self.up_affine = _affine(w_dim, in_channels)
        self.conv1 = Separable(in_channels // 4, out_channels, w_dim, resolution)
        self.conv2 = Separable(out_channels, out_channels, w_dim, resolution)

    def forward(self, x: Tensor, styles: Sequence[Tensor], noise: NoiseMode, ref: bool = False) -> Tensor:
        """[B, in, H, W] and three styles to [B, out, 2H, 2W]."""
        up, first, second = styles
        x = ops.upsample_ref(x, up) if ref else ops.upsample(x, up)
        return self.conv2(self.conv1(x, first, noise, ref), second, noise, ref)


class ToImage(nn.Module):
    """Style, 1x1 to the 12 bands of an image of three channels."""

    def __init__(self, in_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = _affine(w_dim, in_channels)
        self.weight = nn.Parameter(torch.randn(12, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(12))
        self.gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, style: Tensor, half: bool, ref: bool = False) -> Tensor:
        """[B, in, H, W] and [B, in] to float32 [B, 3, 2H, 2W], or with `half` the mean of 2 x 2 pixels of it."""
        style = style * self.gain
        if ref:
            x = x * style.to(x.dtype)[:, :, None, None]
            bands = F.conv2d(x, self.weight.to(x.dtype)).float() + self.bias[:, None, None]
            return bands[:, :3] / 2 if half else inverse_haar(bands)
        weight, bias = self.pixels(half)
        if x.shape[0] == 1:
            weight = weight * style[0][:, None, None]
        else:
            x = x * style.to(x.dtype)[:, :, None, None]
        y = F.conv2d(x, weight.to(x.dtype)).to(torch.float32, memory_format=torch.contiguous_format)
        y = y + bias[:, None, None]
        return y if half else F.pixel_shuffle(y, 2)

    def pixels(self, half: bool) -> tuple[Tensor, Tensor]:
        """Weight [3 or 12, in, 1, 1] and bias [3 or 12] that make no bands but pixels of 2 x 2, which are as linear."""
        if half:
            return self.weight[:3] / 2, self.bias[:3] / 2
        transform = ops.haar_kernel(3, self.weight).flatten(1).T
        return (transform @ self.weight.flatten(1))[:, :, None, None], transform @ self.bias


class MobileSynthesis(nn.Module):
    """Styles to images."""

    def __init__(self, config: MobileStyleGANConfig) -> None:
        super().__init__()
        widths, w_dim = config.channels, config.w_dim
        self.first = First(widths[0], w_dim)
        self.blocks = nn.ModuleList(
            Block(before, after, w_dim, 8 * 2**i) for i, (before, after) in enumerate(itertools.pairwise(widths))
        )
        self.to_image = ToImage(widths[-1], w_dim)
        self.img_resolution = config.img_resolution

    def renders_half(self, resolution: int | None) -> bool:
        """Whether that resolution is half of the full one. Raises UsageError when it is neither."""
        full = self.img_resolution
        if resolution not in (None, full, full // 2):
            raise UsageError(f"this generator renders {full} or {full // 2} px, not {resolution}")
        return resolution == full // 2

    def affines(self) -> list[nn.Linear]:
        """The affine layers of all styles, in the order of the rows of w_plus."""
        affines = [self.first.affine]
        for block in self.blocks:
            assert isinstance(block, Block)
            affines += [block.up_affine, block.conv1.affine, block.conv2.affine]
        return [*affines, self.to_image.affine]

    def styles(self, w_plus: Tensor) -> list[Tensor]:
        """w_plus [B, num_ws, w_dim] to one [B, in_channels] a row."""
        return [affine(w) for affine, w in zip(self.affines(), w_plus.unbind(1), strict=True)]

    def forward(
        self,
        styles: Sequence[Tensor],
        noise: NoiseMode,
        dtype: torch.dtype,
        resolution: int | None = None,
        *,
        ref: bool = False,
    ) -> Tensor:
        """Styles to float32 [B, 3, R, R]; `resolution` is R or R/2, `ref` the plain twin.

        Raises UsageError for another resolution.
        """
        half = self.renders_half(resolution)
        x = self.first(styles[0], noise, dtype)
        for i, block in enumerate(self.blocks):
            x = block(x, styles[1 + 3 * i : 4 + 3 * i], noise, ref)
        return self.to_image(x, styles[-1], half, ref)


def _affine(w_dim: int, channels: int) -> nn.Linear:
    layer = nn.Linear(w_dim, channels)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(w_dim))
    nn.init.ones_(layer.bias)
    return layer


def _noise(layer: Separable | First, mode: NoiseMode, batch: int) -> Tensor | None:
    """What is added to all channels, [1 or B, 1, H, W]."""
    if mode == "none":
        return None
    grid = layer.noise_const[None, None]
    if mode == "random":
        grid = torch.randn(batch, *grid.shape[1:], device=grid.device)
    return grid * layer.noise_strength


__all__ = ["Block", "First", "MobileSynthesis", "Separable", "ToImage"]
