"""The projected discriminator (Sauer et al., "Projected GANs Converge Faster", NeurIPS 2021).

Features of a fixed EfficientNet-lite0 at four scales, mixed by fixed random 1x1 convolutions across
channels and by fixed random 3x3 convolutions from coarse to fine across scales; one small trained
head a scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from stkit.errors import UsageError
from stkit.measure.efficientnet import TAP_CHANNELS, load_lite0


@dataclass(frozen=True)
class ProjectedConfig:
    """`channels` of the mixed features at each scale (the paper's smallest width) and of the heads."""

    img_resolution: int
    channels: int = 64

    def __post_init__(self) -> None:
        if self.img_resolution not in (32, 64, 128, 256, 512, 1024):
            raise UsageError(f"img_resolution {self.img_resolution} is not a power of two from 32 to 1024")


class ProjectedDiscriminator(nn.Module):
    """Images to one score each at four scales: positive means real. Raises MissingPackageError without lite0."""

    def __init__(self, config: ProjectedConfig) -> None:
        super().__init__()
        self.config = config
        width, scales = config.channels, len(TAP_CHANNELS)
        self.features = load_lite0()
        self.across_channels = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in TAP_CHANNELS)
        self.across_scales = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(scales))
        for convs in (self.across_channels, self.across_scales):
            for conv in convs:
                assert isinstance(conv, nn.Conv2d) and conv.bias is not None
                nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
                nn.init.zeros_(conv.bias)
                conv.requires_grad_(False)
        self.heads = nn.ModuleList(_head(config.img_resolution // (4 << i), width) for i in range(scales))

    def forward(self, images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Images [B, 3, R, R] in [-1, 1] to scores [B, 4], finest scale first; features are computed in `dtype`."""
        kind = dtype or torch.float32
        with torch.autocast(images.device.type, kind, enabled=kind != torch.float32):
            scores = [head(x).flatten(1) for head, x in zip(self.heads, self._mixed(images), strict=True)]
        return torch.cat(scores, 1).float()

    def _mixed(self, images: Tensor) -> list[Tensor]:
        """Feature maps [B, channels, ...] of the four scales, finest first."""
        mixed: list[Tensor] = []
        maps = self.features.maps(images)
        for i in reversed(range(len(maps))):
            x = self.across_channels[i](maps[i])
            if mixed:
                x = (x + F.interpolate(mixed[0], size=x.shape[2:], mode="bilinear")) * math.sqrt(0.5)
            mixed.insert(0, self.across_scales[i](x))
        return mixed


def _head(size: int, width: int) -> nn.Sequential:
    """Halvings of a map of `size` px down to 4, then one score."""
    layers: list[nn.Module] = []
    for _ in range(max(int(math.log2(size)) - 2, 0)):
        layers += [spectral_norm(nn.Conv2d(width, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
    layers.append(spectral_norm(nn.Conv2d(width, 1, min(size, 4))))
    return nn.Sequential(*layers)


__all__ = ["ProjectedConfig", "ProjectedDiscriminator"]
