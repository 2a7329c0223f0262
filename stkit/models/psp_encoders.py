"""The encoders of pSp, e4e and ReStyle, in one class: they share backbone and map2style blocks.

Richardson et al., "Encoding in Style" (pSp), CVPR 2021: w_plus from a feature pyramid, a small
convolutional network ("map2style") a layer. Tov et al., "Designing an Encoder for StyleGAN Image
Manipulation" (e4e), SIGGRAPH 2021: one w and the other layers' offsets from it, learnt in stages.
Alaluf et al., "ReStyle", ICCV 2021: either, without the pyramid, fed with the photo and its
reconstruction so far, in several passes.

Names and shapes of the tensors are those of the published checkpoints behind their `encoder.`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.contracts.shapes import Shape
from stkit.errors import UsageError
from stkit.models.generators import Generator
from stkit.models.irse import IRSEBackbone, stage_ends, staged
from stkit.models.ops import EqualLinear
from stkit.models.shapes import check_input
from stkit.models.style_transformer import upsample_add
from stkit.photo.images import resize_batch
from stkit.weights import Weights

Architecture = Literal["psp", "e4e", "restyle"]
Resize = Literal["bilinear", "average"]

_MEDIUM, _FINE = 3, 7
"""The first w_plus layers that see the medium and the fine map."""
SMALL_RESTYLE_PASSES = 3


@dataclass(frozen=True)
class PSPEncoderConfig:
    """Shape of an encoder; the defaults are pSp's at 1024 px.

    `pyramid` false takes all layers from the coarsest map, as ReStyle's encoders do; `progressive` is
    e4e's w and offsets; `iterations` above 1 is ReStyle, with 6 input channels (photo and
    reconstruction). `backbone` "resnet" is ResNet-34 without its first pooling, ReStyle's choice
    for domains other than faces. `style_channels` are the channels inside the map2style blocks.
    `resize` is how ReStyle's reconstructions were brought to the input resolution between the passes when
    it was trained: antialiased bilinear here, by average pooling in the paper's own code.
    """

    input_resolution: int = 256
    num_ws: int = 18
    w_dim: int = 512
    style_channels: int = 512
    pyramid: bool = True
    progressive: bool = False
    iterations: int = 1
    backbone: Literal["ir-se", "resnet"] = "ir-se"
    depths: tuple[int, int, int, int] = (3, 4, 14, 3)
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    resize: Resize = "bilinear"  # headers from before there was a choice say nothing

    @property
    def architecture(self) -> Architecture:
        """What the header of a weights file calls it."""
        if self.iterations > 1:
            return "restyle"
        return "e4e" if self.progressive else "psp"

    @property
    def in_channels(self) -> int:
        """3, or 6 for ReStyle."""
        return 6 if self.iterations > 1 else 3

    @classmethod
    def full(cls, architecture: Architecture, num_ws: int = 18, *, progressive: bool = False) -> PSPEncoderConfig:
        """The papers' size for faces; `progressive` chooses between ReStyle over pSp and over e4e."""
        if architecture == "restyle":
            return cls(num_ws=num_ws, pyramid=False, progressive=progressive, iterations=5)
        return cls(num_ws=num_ws, progressive=architecture == "e4e")

    @classmethod
    def small(cls, architecture: Architecture, generator: Shape) -> PSPEncoderConfig:
        """The size of `StyleTransformerConfig.small`: 9 units, input at the generator's resolution, at most 256 px.

        The small ReStyle is the one over pSp, in SMALL_RESTYLE_PASSES.
        """
        width = generator.w_dim
        return cls(
            input_resolution=min(generator.img_resolution, 256),
            num_ws=generator.num_ws,
            w_dim=width,
            style_channels=max(16, width // 4),
            pyramid=architecture != "restyle",
            progressive=architecture == "e4e",
            iterations=SMALL_RESTYLE_PASSES if architecture == "restyle" else 1,
            depths=(2, 2, 3, 2),
            widths=(max(16, width // 8), max(16, width // 4), max(16, width // 2), width),
        )

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> PSPEncoderConfig:
        """From JSON, where tuples have become lists."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}
        return cls(**values)

    def __post_init__(self) -> None:
        check_input(self.input_resolution)
        if not 1 <= self.iterations <= 20:
            raise UsageError(f"an encoder needs at least 1 iteration and 20 at most, not {self.iterations}")
        if self.resize not in get_args(Resize):
            raise UsageError(f"an encoder that resizes by '{self.resize}'; stkit knows {', '.join(get_args(Resize))}")


class Map2Style(nn.Module):
    """A map [B, in, S, S] to a style [B, out]: convolutions at stride 2 until one pixel is left, then linear."""

    def __init__(self, in_channels: int, channels: int, out: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(max(1, math.ceil(math.log2(size)))):
            layers += [nn.Conv2d(channels if i else in_channels, channels, 3, 2, 1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(channels, out)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, S, S] to [B, out]."""
        return self.linear(self.convs(x).flatten(1))


class ResNetUnit(nn.Module):
    """The basic block of ResNet-18 and -34 (He et al., CVPR 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] to [B, channels, H / stride, W / stride]."""
        residual = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (residual + (x if self.downsample is None else self.downsample(x))).relu()


class PSPEncoder(nn.Module):
    """Image to w_plus. `latent_avg` [num_ws, w_dim] is added to what the network gives."""

    latent_avg: Tensor

    def __init__(self, config: PSPEncoderConfig) -> None:
        super().__init__()
        self.config = config
        widths, stem = config.widths, config.widths[0]
        if config.backbone == "ir-se":
            backbone = IRSEBackbone(config.depths, widths, config.in_channels)
            self.input_layer, self.body = backbone.input_layer, backbone.body
        else:
            self.conv1 = nn.Conv2d(config.in_channels, stem, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(stem)
            self.relu = nn.PReLU(stem)
            self.body = _resnet_body(config)
        coarse = max(1, config.input_resolution // 16)
        self.styles = nn.ModuleList(
            Map2Style(widths[3], config.style_channels, config.w_dim, coarse * self._zoom(layer))
            for layer in range(config.num_ws)
        )
        if config.pyramid:
            self.latlayer1 = nn.Conv2d(widths[2], widths[3], 1)
            self.latlayer2 = nn.Conv2d(widths[1], widths[3], 1)
        self.register_buffer("latent_avg", torch.zeros(config.num_ws, config.w_dim))

    def _zoom(self, layer: int) -> int:
        """The side of the map that `layer` sees, in sides of the coarsest."""
        return 1 if not self.config.pyramid or layer < _MEDIUM else 2 if layer < _FINE else 4

    def features(self, x: Tensor) -> dict[int, Tensor]:
        """Images [B, in_channels, H, W] in [-1, 1] to maps by their size in sides of the coarsest (1, 2, 4)."""
        x = self.input_layer(x) if self.config.backbone == "ir-se" else self.relu(self.bn1(self.conv1(x)))
        _, fine, medium, coarse = staged(x, self.body, stage_ends(self.config.depths))
        maps = {1: coarse}
        if self.config.pyramid:
            maps[2] = upsample_add(coarse, self.latlayer1(medium))
            maps[4] = upsample_add(maps[2], self.latlayer2(fine))
        return maps

    def offsets(self, x: Tensor, stage: int | Tensor | None = None) -> Tensor:
        """Images [B, in_channels, H, W] to what is added to the codes so far, [B, num_ws, w_dim], float32.

        A progressive encoder gives layer 0's style to every layer and adds the layers' own to those
        up to `stage` (0 to num_ws - 1, all by default; a tensor does not recompile a compiled encoder).
        """
        maps = self.features(x)
        styles = torch.stack([style(maps[self._zoom(i)]) for i, style in enumerate(self.styles)], 1).float()
        if not self.config.progressive:
            return styles
        base, own = styles[:, :1], styles[:, 1:]
        if stage is not None:
            own = own * (torch.arange(1, self.config.num_ws, device=x.device) <= stage)[:, None]
        return torch.cat([base, base + own], 1)

    def seen(self, reconstructions: Tensor) -> Tensor:
        """Images [B, 3, H, W] of the generator as the next pass sees them: at the input resolution, in their shape."""
        width = self.config.input_resolution
        if self.config.resize == "bilinear":
            return resize_batch(reconstructions, width)
        height = round(reconstructions.shape[-2] * width / reconstructions.shape[-1])
        return F.adaptive_avg_pool2d(reconstructions, (height, width))

    def forward(self, x: Tensor, stage: int | Tensor | None = None) -> Tensor:
        """Images [B, in_channels, H, W] in [-1, 1] to w_plus [B, num_ws, w_dim] in one pass from `latent_avg`."""
        return self.offsets(x, stage) + self.latent_avg


def encode_iteratively(
    encoder: PSPEncoder,
    generator: Generator,
    images: Tensor,
    iterations: int | None = None,
    stage: int | None = None,
    dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """ReStyle: the codes [B, num_ws, w_dim] after each pass, `config.iterations` of them by default.

    `images` [B, 3, H, W] in [-1, 1] at the encoder's input resolution. Each pass sees the photo beside
    its reconstruction so far, in the first pass the image of `latent_avg`, and adds to the codes.
    The reconstruction is computed with features in `dtype`.
    """
    codes = encoder.latent_avg.expand(len(images), -1, -1)
    passes = []
    for i in range(iterations or encoder.config.iterations):
        if i == 0:  # the same image for all
            current = generator.synthesize(codes[:1], dtype=dtype).expand(len(images), -1, -1, -1)
        else:
            current = generator.synthesize(codes, dtype=dtype)
        codes = codes + encoder.offsets(torch.cat([images, encoder.seen(current)], 1), stage)
        passes.append(codes)
    return passes


def load_psp_encoder(weights: Weights, architecture: Architecture, device: torch.device | str = "cpu") -> PSPEncoder:
    """The encoder of that architecture beside the generator of `weights`, in eval mode. Raises WeightsError."""
    return weights.load(
        weights.inverter_kind(architecture),
        architecture,
        lambda config: PSPEncoder(PSPEncoderConfig.from_dict(config)),
        device,
    )


def _resnet_body(config: PSPEncoderConfig) -> nn.ModuleList:
    units, channels = [], config.widths[0]
    for number, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
        for i in range(depth):
            units.append(ResNetUnit(channels, width, 2 if i == 0 and number > 0 else 1))
            channels = width
    return nn.ModuleList(units)


__all__ = [
    "Architecture",
    "Map2Style",
    "PSPEncoder",
    "PSPEncoderConfig",
    "ResNetUnit",
    "Resize",
    "encode_iteratively",
    "load_psp_encoder",
]
