"""Networks frozen for inference: what depends on the weights alone is computed once.

A frozen network is a copy without gradients. It keeps no link to the module it was made of: freeze again when
weights change. The oracle is the `ref` path of `StyleTransformer`; generators freeze themselves (`Generator.freeze`).
bfloat16 is for processors that multiply it natively (AMX, AVX512-BF16, recent ARM) and for GPUs; elsewhere it is slow.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stkit.measure.efficientnet import ConvNorm
from stkit.models.irse import IRSEBackbone, ResidualUnit, SqueezeExcite
from stkit.models.style_transformer import Lite0Backbone, StyleTransformer
from stkit.models.winograd import WinogradConv2d
from stkit.moved import renamed


@dataclass(frozen=True, eq=False)
class FrozenStyleTransformer:
    """A Style Transformer with batch norms folded and queries mapped once."""

    model: StyleTransformer
    queries: Tensor

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] to w_plus [B, num_ws, d_model], float32."""
        x = x.to(self.queries.dtype, memory_format=torch.channels_last)
        _, c1, c2, c3 = self.model.backbone(x)
        codes = self.queries.expand(x.shape[0], -1, -1)
        # Uncompiled and without gradients, plain interpolation is the faster one.
        for stage, feature in zip(self.model.stages, self.model.pyramid(c1, c2, c3, ref=True), strict=True):
            codes = _decode(stage, codes, feature.flatten(2).transpose(1, 2))
        return self.model.w_plus(codes, c2, c3)


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


def freeze_style_transformer(model: StyleTransformer, dtype: torch.dtype = torch.float32) -> FrozenStyleTransformer:
    """`model` for inference, on its device, with features in `dtype`."""
    with torch.no_grad():
        queries = model.queries().to(dtype)
        model = copy.deepcopy(model).eval().requires_grad_(False)
        _freeze_backbone(model.backbone, dtype)
        latent_avg, linear = model.latent_avg, model.linear
        model.linear = None
        model.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its types
        model.latent_avg, model.linear = latent_avg, linear
        return FrozenStyleTransformer(model, queries)


def _freeze_backbone(backbone: IRSEBackbone | Lite0Backbone, dtype: torch.dtype) -> None:
    if isinstance(backbone, IRSEBackbone):
        backbone.input_layer = _fold_batch_norms(backbone.input_layer)
        backbone.body = nn.ModuleList(_FrozenUnit(unit, dtype) for unit in backbone.body)
        return
    for layer in backbone.modules():
        if isinstance(layer, ConvNorm):
            layer[0], layer[1] = *_fold_batch_norms(nn.Sequential(layer[0], layer[1])), nn.Identity()


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


__getattr__ = functools.partial(renamed, __name__)

__all__ = ["FrozenStyleTransformer", "freeze_style_transformer"]
