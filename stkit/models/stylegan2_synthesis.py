"""The synthesis network of StyleGAN2 (Karras et al. 2020): modulated convolutions with skips to RGB."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stkit.models import ops
from stkit.models.generators import NoiseMode
from stkit.models.shapes import StyleGAN2Config


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

    def __init__(self, config: StyleGAN2Config) -> None:
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

    def affines(self) -> list[ops.EqualLinear]:
        """The affine layers of all styles: those of the convs in order, then those of the ToRGBs."""
        affines = [layer.get_submodule("affine") for layer in [*self.convs, *self.to_rgbs]]
        return [affine for affine in affines if isinstance(affine, ops.EqualLinear)]

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


__all__ = ["StyledConv", "SynthesisNetwork", "ToRGB"]
