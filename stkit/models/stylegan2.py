"""The StyleGAN2 generator (Karras et al. 2020): mapping network, skip synthesis network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from stkit.errors import LatentsError, UsageError
from stkit.models import ops

NoiseMode = Literal["const", "random", "none"]


@dataclass(frozen=True)
class GeneratorConfig:
    """Shape of a generator, in the terms of the StyleGAN papers (config-f at 1024 px is the default)."""

    img_resolution: int = 1024
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512

    def __post_init__(self) -> None:
        size = self.img_resolution
        if size not in (16, 32, 64, 128, 256, 512, 1024):
            raise UsageError(f"img_resolution {size} is not a power of two from 16 to 1024")
        if not 2 <= self.mapping_layers <= 8:
            raise UsageError(f"mapping_layers {self.mapping_layers} is not in 2 to 8")
        if self.channel_base < size:
            raise UsageError(f"channel_base {self.channel_base} leaves no channels at {size} px; give {size} or more")
        if min(self.z_dim, self.w_dim, self.channel_max) < 1:
            raise UsageError("z_dim, w_dim and channel_max must be 1 or more")

    @property
    def block_resolutions(self) -> list[int]:
        """4, 8, ... img_resolution."""
        return [2**i for i in range(2, self.img_resolution.bit_length())]

    @property
    def num_ws(self) -> int:
        """Number of w vectors that steer the synthesis network."""
        return 2 * len(self.block_resolutions)

    def channels(self, resolution: int) -> int:
        """Feature channels at `resolution`."""
        return min(self.channel_base // resolution, self.channel_max)


class MappingNetwork(nn.Module):
    """z [..., z_dim] to w [..., w_dim]: pixel norm, then fully connected layers with learning rate 0.01."""

    def __init__(self, z_dim: int, w_dim: int, num_layers: int) -> None:
        super().__init__()
        sizes = [z_dim] + [w_dim] * num_layers
        self.layers = nn.ModuleList(
            ops.EqualLinear(a, b, lr_mul=0.01, activation=True) for a, b in itertools.pairwise(sizes)
        )

    def forward(self, z: Tensor) -> Tensor:
        """[..., z_dim] to [..., w_dim]."""
        x = ops.pixel_norm(z)
        for layer in self.layers:
            x = layer(x)
        return x


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, activation."""

    noise_const: Tensor

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, resolution: int, up: bool) -> None:
        super().__init__()
        self.affine = ops.EqualLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.up = up

    def forward(self, x: Tensor, style: Tensor, noise: NoiseMode, ref: bool = False) -> Tensor:
        """[B, in, H, W] and [B, in] to [B, out, H or 2H, W or 2W]."""
        conv = ops.modulated_conv2d_ref if ref else ops.modulated_conv2d
        y = conv(x, self.weight, style, up=self.up)
        offset = self.bias[:, None, None]
        if noise != "none":
            grid = self.noise_const[None, None]
            if noise == "random":
                grid = torch.randn(y.shape[0], 1, *y.shape[2:], device=y.device)
            offset = offset + grid * self.noise_strength
        return ops.leaky_relu(y + offset.to(y.dtype))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation."""

    def __init__(self, in_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = ops.EqualLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, style: Tensor, ref: bool = False) -> Tensor:
        """[B, in, H, W] and [B, in] to float32 [B, 3, H, W]."""
        conv = ops.modulated_conv2d_ref if ref else ops.modulated_conv2d
        return conv(x, self.weight, style, demodulate=False).float() + self.bias[:, None, None]


class SynthesisNetwork(nn.Module):
    """w_plus or styles to images. `convs[0]` and `to_rgbs[0]` work at 4 x 4; each further block has two convs."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels(4)
        self.const = nn.Parameter(torch.randn(channels, 4, 4))
        self.convs = nn.ModuleList([StyledConv(channels, channels, config.w_dim, 4, up=False)])
        self.to_rgbs = nn.ModuleList([ToRGB(channels, config.w_dim)])
        for resolution in config.block_resolutions[1:]:
            out = config.channels(resolution)
            self.convs.append(StyledConv(channels, out, config.w_dim, resolution, up=True))
            self.convs.append(StyledConv(out, out, config.w_dim, resolution, up=False))
            self.to_rgbs.append(ToRGB(out, config.w_dim))
            channels = out

    def styles(self, w_plus: Tensor) -> list[Tensor]:
        """StyleSpace (Wu et al. 2021): one [B, in_channels] a layer, the convs in order, then the ToRGBs."""
        ws = w_plus.unbind(1)
        convs = [layer.get_submodule("affine")(ws[i]) for i, layer in enumerate(self.convs)]
        rgbs = [layer.get_submodule("affine")(ws[2 * i + 1]) for i, layer in enumerate(self.to_rgbs)]
        return convs + rgbs

    def forward(
        self,
        styles: Sequence[Tensor],
        noise: NoiseMode = "const",
        dtype: torch.dtype | None = None,
        ref: bool = False,
        resolution: int | None = None,
    ) -> Tensor:
        """Images [B, 3, R, R], float32, about [-1, 1] and not clamped; features are computed in `dtype`.

        `ref` takes the slow reference operations instead of the fast ones; `resolution` stops at that block's R.
        """
        batch = styles[0].shape[0]
        upsample = ops.upsample2d_ref if ref else ops.upsample2d
        x = self.const.to(dtype or self.const.dtype).expand(batch, -1, -1, -1)
        if not ref:
            x = x.contiguous(memory_format=torch.channels_last)
        rgb_styles = styles[len(self.convs) :]
        image = None
        for i, conv in enumerate(self.convs):
            x = conv(x, styles[i], noise, ref)
            if i % 2 == 0:
                rgb = self.to_rgbs[i // 2](x, rgb_styles[i // 2], ref)
                image = rgb if image is None else upsample(image) + rgb
                if image.shape[-1] == resolution:
                    break
        assert image is not None
        return image


class Generator(nn.Module):
    """StyleGAN2 generator. `w_avg` [w_dim] is the mean of the mapping network's output, for truncation."""

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config.z_dim, config.w_dim, config.mapping_layers)
        self.synthesis = SynthesisNetwork(config)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def map(self, z: Tensor, truncation_psi: float = 1.0, truncation_cutoff: int | None = None) -> Tensor:
        """z [B, z_dim] to w_plus [B, num_ws, w_dim], truncated in the first `truncation_cutoff` layers."""
        w_plus = self.broadcast(self.mapping(z))
        return self.truncate(w_plus, truncation_psi, truncation_cutoff)

    def broadcast(self, w: Tensor) -> Tensor:
        """w [B, w_dim] to w_plus [B, num_ws, w_dim]."""
        return w[:, None].expand(-1, self.config.num_ws, -1)

    def truncate(self, w_plus: Tensor, truncation_psi: float, truncation_cutoff: int | None = None) -> Tensor:
        """Move w_plus towards `w_avg`: w_avg + psi * (w - w_avg), in the first `truncation_cutoff` layers."""
        if truncation_psi == 1.0:
            return w_plus
        cutoff = self.config.num_ws if truncation_cutoff is None else truncation_cutoff
        coarse = self.w_avg + truncation_psi * (w_plus[:, :cutoff] - self.w_avg)
        return torch.cat([coarse, w_plus[:, cutoff:]], 1)

    def synthesize(
        self,
        w_plus: Tensor,
        noise: NoiseMode = "const",
        dtype: torch.dtype | None = None,
        resolution: int | None = None,
    ) -> Tensor:
        """w_plus [B, num_ws, w_dim] to images [B, 3, R, R], float32, about [-1, 1] and not clamped.

        `resolution` stops at the block of that R: what a growing generator has learnt so far.
        """
        return self.synthesis(self.synthesis.styles(w_plus), noise, dtype, resolution=resolution)

    def forward(
        self,
        z: Tensor,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: NoiseMode = "const",
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """z [B, z_dim] to images [B, 3, R, R]."""
        return self.synthesize(self.map(z, truncation_psi, truncation_cutoff), noise, dtype)

    @torch.no_grad()
    def compute_w_avg(self, samples: int = 10_000, seed: int = 0) -> Tensor:
        """Mean w [w_dim] over `samples` random z."""
        random = torch.Generator().manual_seed(seed)
        z = torch.randn(samples, self.config.z_dim, generator=random).to(self.w_avg.device)
        return self.mapping(z).mean(0)


def add_style_offsets(styles: Sequence[Tensor], offsets: Tensor) -> list[Tensor]:
    """`styles` (one [B, in_channels] a layer) plus `offsets` [B, channels of all layers], layer after layer.

    Raises LatentsError when the generator has another number of channels.
    """
    widths = [style.shape[1] for style in styles]
    if offsets.shape[1] != sum(widths):
        raise LatentsError(
            f"the latents have offsets for {offsets.shape[1]} style channels, and the generator has {sum(widths)}; "
            f"choose the weights they were made with"
        )
    return [style + offset for style, offset in zip(styles, offsets.split(widths, 1), strict=True)]


__all__ = [
    "Generator",
    "GeneratorConfig",
    "MappingNetwork",
    "NoiseMode",
    "StyledConv",
    "SynthesisNetwork",
    "ToRGB",
    "add_style_offsets",
]
