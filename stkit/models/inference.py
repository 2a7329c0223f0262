"""Networks frozen for inference: what depends on the weights alone is computed once.

A frozen network is a copy without gradients. It keeps no link to the module it was made of: freeze again when
weights change. The oracles are the `ref` paths of `SynthesisNetwork` and `StyleTransformer`. bfloat16 is for
processors that multiply it natively (AMX, AVX512-BF16, recent ARM) and for GPUs; elsewhere it is slow.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stkit.models import ops
from stkit.models.irse import ResidualUnit, SqueezeExcite
from stkit.models.style_transformer import StyleTransformer
from stkit.models.stylegan2 import Generator, NoiseMode, StyledConv, ToRGB
from stkit.models.winograd import WinogradConv2d

_GAIN = math.sqrt(2)  # of the activation; leaky ReLU lets it pass, so it is part of weight, bias and noise


@dataclass(frozen=True, eq=False)
class FrozenGenerator:
    """A generator's synthesis network.

    Samples go through one by one, each with weights of its own: style and demodulation then cost nothing on the
    large feature maps, and memory does not grow with the batch.
    """

    const: Tensor
    convs: Sequence[_FrozenConv]
    to_rgbs: Sequence[_FrozenRGB]

    @torch.no_grad()
    def synthesize(self, w_plus: Tensor, noise: NoiseMode = "const") -> Tensor:
        """w_plus [B, num_ws, w_dim] to images [B, 3, R, R], float32, about [-1, 1] and not clamped."""
        return self.synthesis(self.styles(w_plus), noise)

    @torch.no_grad()
    def styles(self, w_plus: Tensor) -> list[Tensor]:
        """As `SynthesisNetwork.styles`."""
        ws = w_plus.unbind(1)
        convs = [F.linear(ws[i], *layer.affine) for i, layer in enumerate(self.convs)]
        rgbs = [F.linear(ws[2 * i + 1], *layer.affine) for i, layer in enumerate(self.to_rgbs)]
        return convs + rgbs

    @torch.no_grad()
    def synthesis(self, styles: Sequence[Tensor], noise: NoiseMode = "const") -> Tensor:
        """Images [B, 3, R, R] of `styles`, one [B, in_channels] a layer, the convs in order, then the ToRGBs."""
        return torch.cat([self._image(sample, noise) for sample in zip(*styles, strict=True)])

    def _image(self, styles: Sequence[Tensor], noise: NoiseMode) -> Tensor:
        x, image = self.const, None
        for i, conv in enumerate(self.convs):
            x = conv(x, styles[i], noise)
            if i % 2 == 0:
                rgb = self.to_rgbs[i // 2](x, styles[len(self.convs) + i // 2])
                image = rgb if image is None else ops.upsample2d(image).add_(rgb)
        assert image is not None
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


@dataclass(frozen=True, eq=False)
class FrozenStyleTransformer:
    """A Style Transformer with batch norms folded and queries mapped once."""

    model: StyleTransformer
    queries: Tensor

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] to w_plus [B, num_ws, d_model], float32."""
        x = x.to(self.queries.dtype, memory_format=torch.channels_last)
        codes = self.queries.expand(x.shape[0], -1, -1)
        # Uncompiled and without gradients, plain interpolation is the faster one.
        for stage, feature in zip(self.model.stages, self.model.features(x, ref=True), strict=True):
            codes = _decode(stage, codes, feature.flatten(2).transpose(1, 2))
        return (codes.float() + self.model.latent_avg)[:, : self.model.config.num_ws]


def _decode(stage: nn.Module, codes: Tensor, features: Tensor) -> Tensor:
    """One stage on codes [B, N, D] and features [B, L, D]."""
    assert isinstance(stage, nn.TransformerDecoderLayer)
    attended, _ = stage.self_attn(codes, codes, codes, need_weights=False)
    codes = stage.norm1(codes + attended)
    codes = stage.norm2(codes + _cross_attention(stage.multihead_attn, codes, features))
    return stage.norm3(codes + stage.linear2(stage.linear1(codes).relu()))


def _cross_attention(attention: nn.MultiheadAttention, codes: Tensor, features: Tensor) -> Tensor:
    """`attention` with few queries and many keys: the key and value projections move to the side of the queries.

    q . (K f) = (K^T q) . f, and the value projection of a mean is the mean of the projections; the keys' bias
    adds the same to all scores of a query, which softmax takes away.
    """
    heads = attention.num_heads
    project_q, project_k, project_v = attention.in_proj_weight.unflatten(0, (3, heads, -1))  # [heads, D / heads, D]
    bias_q, _, bias_v = attention.in_proj_bias.unflatten(0, (3, heads, -1))
    queries = torch.einsum("bnc,hdc->bhnd", codes, project_q) + bias_q[:, None]
    queries = (queries @ project_k).flatten(1, 2)[:, None]  # [B, 1, heads * N, D]
    features = features[:, None]
    mixed = F.scaled_dot_product_attention(queries, features, features, scale=project_q.shape[1] ** -0.5)
    values = torch.einsum("bhnc,hdc->bnhd", mixed.unflatten(2, (heads, -1))[:, 0], project_v) + bias_v
    return attention.out_proj(values.flatten(2))


def freeze_generator(generator: Generator, dtype: torch.dtype = torch.float32) -> FrozenGenerator:
    """The synthesis network of `generator` for inference, on its device, with features in `dtype`."""
    network = generator.synthesis
    with torch.no_grad():
        return FrozenGenerator(
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


def freeze_style_transformer(model: StyleTransformer, dtype: torch.dtype = torch.float32) -> FrozenStyleTransformer:
    """`model` for inference, on its device, with features in `dtype`."""
    with torch.no_grad():
        queries = model.queries().to(dtype)
        model = copy.deepcopy(model).eval().requires_grad_(False)
        model.backbone.input_layer = _fold_batch_norms(model.backbone.input_layer)
        model.backbone.body = nn.ModuleList(_FrozenUnit(unit, dtype) for unit in model.backbone.body)
        latent_avg = model.latent_avg
        model.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its types
        model.latent_avg = latent_avg
        return FrozenStyleTransformer(model, queries)


class _FrozenUnit(nn.Module):
    """`ResidualUnit` with fewer passes over its maps, made of `unit`, which it takes apart."""

    def __init__(self, unit: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        assert isinstance(unit, ResidualUnit)
        *layers, squeeze_excite = _fold_batch_norms(unit.res_layer)
        assert isinstance(squeeze_excite, SqueezeExcite)
        self.squeeze_excite = squeeze_excite
        self.unit = unit
        unit.res_layer = nn.Sequential(*(_quicken(layer, dtype) for layer in layers))
        if isinstance(unit.shortcut_layer, nn.Sequential):
            unit.shortcut_layer = _fold_batch_norms(unit.shortcut_layer)

    def forward(self, x: Tensor) -> Tensor:
        y = self.unit.res_layer(x)
        return y.mul_(self.squeeze_excite.gate(y)).add_(self.unit.shortcut(x))


def _fold_batch_norms(stack: nn.Sequential) -> nn.Sequential:
    """Batch norms go into the convolutions before them; one before a zero-padded convolution has to stay."""
    layers: list[nn.Module] = []
    for layer in stack:
        if isinstance(layer, nn.BatchNorm2d) and layers:
            conv = layers.pop()
            assert isinstance(conv, nn.Conv2d)
            layer = fuse_conv_bn_eval(conv, layer)
        layers.append(layer)
    return nn.Sequential(*layers)


def _quicken(layer: nn.Module, dtype: torch.dtype) -> nn.Module:
    """`layer` by Winograd's algorithm where that is faster: on a CPU in float32, with many channels.

    With more than 256 its weights, four times as large, would be all that time and memory go to.
    """
    if not isinstance(layer, nn.Conv2d) or layer.stride != (1, 1) or not 128 <= layer.in_channels <= 256:
        return layer
    return WinogradConv2d(layer) if dtype == torch.float32 and layer.weight.device.type == "cpu" else layer


__all__ = ["FrozenGenerator", "FrozenStyleTransformer", "freeze_generator", "freeze_style_transformer"]
