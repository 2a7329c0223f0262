"""The StyleGAN2 residual discriminator (Karras et al. 2020, "Analyzing and Improving ... of StyleGAN")."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stkit.errors import UsageError
from stkit.models import ops


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Shape of a discriminator, in the terms of the StyleGAN papers (config-f at 1024 px is the default).

    The minibatch standard deviation is taken over groups of `mbstd_group_size` images, as
    `mbstd_num_channels` extra feature channels.
    """

    img_resolution: int = 1024
    channel_base: int = 32768
    channel_max: int = 512
    mbstd_group_size: int = 4
    mbstd_num_channels: int = 1

    def __post_init__(self) -> None:
        if self.img_resolution not in (16, 32, 64, 128, 256, 512, 1024):
            raise UsageError(f"img_resolution {self.img_resolution} is not a power of two from 16 to 1024")
        if self.mbstd_group_size < 1 or self.mbstd_num_channels < 1 or self.channels(4) % self.mbstd_num_channels:
            raise UsageError(
                f"mbstd_group_size {self.mbstd_group_size} must be positive and mbstd_num_channels "
                f"{self.mbstd_num_channels} must divide the {self.channels(4)} channels at 4 px"
            )

    @property
    def block_resolutions(self) -> list[int]:
        """img_resolution, ..., 16, 8."""
        return [2**i for i in range(self.img_resolution.bit_length() - 1, 2, -1)]

    def channels(self, resolution: int) -> int:
        """Feature channels at `resolution`."""
        return min(self.channel_base // resolution, self.channel_max)

    def require_batch(self, batch: int) -> None:
        """Raise UsageError unless `batch` images fall into whole groups."""
        if batch % min(self.mbstd_group_size, batch):
            raise UsageError(f"a batch of {batch} is not a multiple of mbstd_group_size {self.mbstd_group_size}")


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the second halving the size, beside a filtered 1x1 shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv0 = ops.EqualConv2d(in_channels, in_channels, 3, activation=True)
        self.conv1 = ops.EqualConv2d(in_channels, out_channels, 3, activation=True, down=True)
        self.skip = ops.EqualConv2d(in_channels, out_channels, 1, bias=False, down=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] to [B, out, H/2, W/2]."""
        return (self.conv1(self.conv0(x)) + self.skip(x)) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """Images to one score each: positive means real."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        resolutions = config.block_resolutions
        self.from_rgb = ops.EqualConv2d(3, config.channels(resolutions[0]), 1, activation=True)
        self.blocks = nn.ModuleList(ResidualBlock(config.channels(r), config.channels(r // 2)) for r in resolutions)
        channels = config.channels(4)
        self.conv = ops.EqualConv2d(channels + config.mbstd_num_channels, channels, 3, activation=True)
        self.hidden = ops.EqualLinear(channels * 16, channels, activation=True)
        self.score = ops.EqualLinear(channels, 1)

    def forward(self, images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Images [B, 3, R, R] in [-1, 1] to scores [B]; features down to 4 px are computed in `dtype`.

        Raises UsageError when the batch is not a multiple of the minibatch group.
        """
        self.config.require_batch(len(images))
        x = self.from_rgb(images.to(dtype or images.dtype).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        x = append_minibatch_stddev(x.to(images.dtype), self.config.mbstd_group_size, self.config.mbstd_num_channels)
        return self.score(self.hidden(self.conv(x).flatten(1))).squeeze(1)


def append_minibatch_stddev(x: Tensor, group_size: int, num_channels: int = 1) -> Tensor:
    """Append to `x` [B, C, H, W] its mean standard deviation over groups of images: [B, C + num_channels, H, W].

    Karras et al. 2018, "Progressive Growing of GANs", section 3. Image i shares its group with those at
    a distance of B / group_size rows; B is a multiple of `group_size`, or smaller and one group.
    """
    batch, channels, height, width = x.shape
    group = min(group_size, batch)
    parts = x.reshape(group, batch // group, num_channels, channels // num_channels, height, width)
    deviation = (parts.var(0, unbiased=False) + 1e-8).sqrt().mean((2, 3, 4))  # [B / group, num_channels]
    extra = deviation.repeat(group, 1)[:, :, None, None].expand(-1, -1, height, width)
    return torch.cat([x, extra], 1)


__all__ = ["Discriminator", "DiscriminatorConfig", "ResidualBlock", "append_minibatch_stddev"]
