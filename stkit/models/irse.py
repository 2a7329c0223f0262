"""The IR-SE residual backbone of ArcFace (Deng et al. 2019) that pSp, e4e and the Style Transformer build on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Channel attention (Hu et al. 2018)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        return x * self.gate(x)

    def gate(self, x: Tensor) -> Tensor:
        """The factors of the channels of `x`, [B, C, 1, 1]."""
        return self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class ResidualUnit(nn.Module):
    """Pre-activated residual unit with squeeze-excite; `stride` reduces the map."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut_layer: nn.Module | None = None
        if in_channels != channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            SqueezeExcite(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] to [B, channels, H / stride, W / stride]."""
        return self.res_layer(x) + self.shortcut(x)

    def shortcut(self, x: Tensor) -> Tensor:
        """`x`, reduced and projected where the unit does so."""
        return x[:, :, :: self.stride, :: self.stride] if self.shortcut_layer is None else self.shortcut_layer(x)


class IRSEBackbone(nn.Module):
    """IR-SE backbone. `depths` and `widths` give units and channels of its four stages; (3, 4, 14, 3) is IR-SE50."""

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 14, 3),
        widths: Sequence[int] = (64, 128, 256, 512),
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        stem = widths[0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(in_channels, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.PReLU(stem)
        )
        units, channels = [], stem
        for depth, width in zip(depths, widths, strict=True):
            for i in range(depth):
                units.append(ResidualUnit(channels, width, 2 if i == 0 else 1))
                channels = width
        self.body = nn.ModuleList(units)
        self.stage_ends = stage_ends(depths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, in_channels, H, W] to the maps after each stage, at 1/2, 1/4, 1/8 and 1/16 of H and W."""
        return staged(self.input_layer(x), self.body, self.stage_ends)


def stage_ends(depths: Sequence[int]) -> tuple[int, ...]:
    """The index of the last unit of each stage."""
    return tuple(end - 1 for end in itertools.accumulate(depths))


def staged(x: Tensor, body: Iterable[nn.Module], ends: Sequence[int]) -> list[Tensor]:
    """`x` through the units of `body`; the maps after those at `ends`."""
    maps = []
    for i, unit in enumerate(body):
        x = unit(x)
        if i in ends:
            maps.append(x)
    return maps


__all__ = ["IRSEBackbone", "ResidualUnit", "SqueezeExcite", "stage_ends", "staged"]
