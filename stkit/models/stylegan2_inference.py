"""The StyleGAN2 synthesis frozen for inference: what depends on the weights alone is computed once.

It keeps no link to the generator it was made of: freeze again when weights change. The oracle is the `ref` path of
`SynthesisNetwork`. bfloat16 is for processors that multiply it natively (AMX, AVX512-BF16, recent ARM) and for GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.errors import UsageError
from stkit.models import ops
from stkit.models.generators import NoiseMode, Renderer
from stkit.models.stylegan2_synthesis import StyledConv, SynthesisNetwork, ToRGB

_GAIN = math.sqrt(2)  # of the activation; leaky ReLU lets it pass, so it is part of weight, bias and noise


@dataclass(frozen=True, eq=False)
class FrozenStyleGAN2(Renderer):
    """A generator's synthesis network.

    Samples go through one by one, each with weights of its own: style and demodulation then cost nothing on the
    large feature maps, and memory does not grow with the batch.
    """

    const: Tensor
    convs: Sequence[_FrozenConv]
    to_rgbs: Sequence[_FrozenRGB]

    @torch.no_grad()
    def styles(self, w_plus: Tensor) -> list[Tensor]:
        """As `SynthesisNetwork.styles`, on the frozen affine layers."""
        ws = w_plus.unbind(1)
        convs = [F.linear(ws[i], *layer.affine) for i, layer in enumerate(self.convs)]
        rgbs = [F.linear(ws[2 * i + 1], *layer.affine) for i, layer in enumerate(self.to_rgbs)]
        return convs + rgbs

    @torch.no_grad()
    def render(self, styles: Sequence[Tensor], noise: NoiseMode = "const", *, resolution: int | None = None) -> Tensor:
        """As `Renderer.render`; one of the sizes 4, 8, ... of the blocks."""
        images = [self._image(sample, noise, resolution) for sample in zip(*styles, strict=True)]
        return torch.cat(images)

    def _image(self, styles: Sequence[Tensor], noise: NoiseMode, resolution: int | None) -> Tensor:
        x, image = self.const, None
        for i, conv in enumerate(self.convs):
            x = conv(x, styles[i], noise)
            if i % 2 == 0:
                rgb = self.to_rgbs[i // 2](x, styles[len(self.convs) + i // 2])
                image = rgb if image is None else ops.upsample2d(image).add_(rgb)
                if image.shape[-1] == resolution:
                    break
        assert image is not None
        if resolution not in (None, image.shape[-1]):
            raise UsageError(f"this generator renders 4, 8, ... {image.shape[-1]} px, not {resolution}")
        return image


@dataclass(frozen=True, eq=False)
class _FrozenConv:
    """`StyledConv` on one sample."""

    affine: tuple[Tensor, Tensor]
    weight: Tensor  # [out, in, 3, 3], or [in, out, 3, 3] with `up`
    energy: Tensor  # [in, out]: what a unit of squared style adds to the variance of an output
    bias: Tensor
    noise: Tensor  # [R, R]
    noise_strength: Tensor
    up: bool

    def __call__(self, x: Tensor, style: Tensor, noise: NoiseMode) -> Tensor:
        scale = torch.outer(torch.rsqrt(style.square() @ self.energy + ops.EPS), style)  # [out, in]
        weight = self.weight * (scale.T if self.up else scale).to(x.dtype)[:, :, None, None]
        if self.up:
            y = F.conv_transpose2d(x, weight, stride=2)
            y = F.conv2d(y, ops.fir_kernel(y), self.bias, padding=1, groups=y.shape[1])
        else:
            y = F.conv2d(x, weight, self.bias, padding=1)
        if noise == "const":
            y += self.noise
        elif noise == "random":
            y += (torch.randn_like(self.noise, dtype=torch.float32) * self.noise_strength).to(y.dtype)
        return F.leaky_relu_(y, 0.2)


@dataclass(frozen=True, eq=False)
class _FrozenRGB:
    """`ToRGB` on one sample."""

    affine: tuple[Tensor, Tensor]
    weight: Tensor  # [3, in, 1, 1], float32
    bias: Tensor

    def __call__(self, x: Tensor, style: Tensor) -> Tensor:
        weight = (self.weight * style[:, None, None]).to(x.dtype)
        return F.conv2d(x, weight).float() + self.bias


def freeze_synthesis(network: SynthesisNetwork, dtype: torch.dtype = torch.float32) -> FrozenStyleGAN2:
    """`network` for inference, on its device, with features in `dtype`."""
    with torch.no_grad():
        return FrozenStyleGAN2(
            network.const[None].to(dtype, memory_format=torch.channels_last, copy=True),
            [_freeze_conv(layer, dtype) for layer in network.convs],
            [_freeze_rgb(layer) for layer in network.to_rgbs],
        )


def _freeze_conv(layer: nn.Module, dtype: torch.dtype) -> _FrozenConv:
    assert isinstance(layer, StyledConv)
    weight = layer.weight / math.sqrt(layer.weight[0].numel())
    kernel = (weight.transpose(0, 1) if layer.up else weight) * _GAIN
    return _FrozenConv(
        affine=_freeze_linear(layer.affine),
        weight=kernel.to(dtype).contiguous(memory_format=torch.channels_last),
        energy=weight.square().sum((2, 3)).T.contiguous(),
        bias=(layer.bias * _GAIN).to(dtype),
        noise=(layer.noise_const * layer.noise_strength * _GAIN).to(dtype),
        noise_strength=layer.noise_strength * _GAIN,
        up=layer.up,
    )


def _freeze_rgb(layer: nn.Module) -> _FrozenRGB:
    assert isinstance(layer, ToRGB)
    weight = layer.weight / math.sqrt(layer.weight[0].numel())
    return _FrozenRGB(_freeze_linear(layer.affine), weight, layer.bias[:, None, None].clone())


def _freeze_linear(layer: ops.EqualLinear) -> tuple[Tensor, Tensor]:
    return layer.weight * layer.scale, layer.bias * layer.lr_mul


__all__ = ["FrozenStyleGAN2", "freeze_synthesis"]
