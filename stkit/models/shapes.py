"""The configurations of the generators that stkit brings, free of torch."""

from __future__ import annotations

from dataclasses import dataclass

from stkit.errors import UsageError


def _check_mapping(layers: int) -> None:
    if not 2 <= layers <= 8:
        raise UsageError(f"mapping_layers {layers} is not in 2 to 8")


def check_input(resolution: int) -> None:
    """Raise UsageError for a size of an inverter's input, in pixels, that no inverter has."""
    if not isinstance(resolution, int) or not 4 <= resolution <= 2048:
        raise UsageError(f"input_resolution {str(resolution)[:20]} is not in 4 to 2048")


@dataclass(frozen=True)
class StyleGAN2Config:
    """Shape of a StyleGAN2 generator, in the terms of the StyleGAN papers (config-f at 1024 px is the default)."""

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
        _check_mapping(self.mapping_layers)
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


@dataclass(frozen=True)
class MobileStyleGANConfig:
    """Shape of a MobileStyleGAN: `channels` of the feature maps at 4, 8, ... px, up to half the image's resolution.

    The defaults are those of the student of StyleGAN2-FFHQ at 1024 px.
    """

    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64)

    def __post_init__(self) -> None:
        if not 2 <= len(self.channels) <= 8 or any(width < 4 or width % 4 for width in self.channels):
            raise UsageError(f"channels {self.channels} are not two to eight multiples of 4")
        _check_mapping(self.mapping_layers)
        if min(self.z_dim, self.w_dim) < 1:
            raise UsageError("z_dim and w_dim must be 1 or more")

    @property
    def img_resolution(self) -> int:
        """Side of the images in pixels: twice the last feature map's."""
        return int(4 * 2 ** len(self.channels))

    @property
    def num_ws(self) -> int:
        """Number of w vectors: one for the first convolution, three a block, one for the image."""
        return 3 * len(self.channels) - 1


__all__ = ["MobileStyleGANConfig", "StyleGAN2Config", "check_input"]
