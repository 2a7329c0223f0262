"""What the optimisations minimise: L2 and LPIPS to one crop."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stkit.errors import MissingPackageError
from stkit.measure.lpips import LPIPS, load_lpips
from stkit.models.generators import Generator
from stkit.models.precision import autocast, channels_last
from stkit.photo.images import resize_batch

_log = logging.getLogger("stkit")


@dataclass(eq=False)
class Objective:
    """`l2` times the mean squared error plus `lpips` times LPIPS-Alex to one crop [1, 3, R, R] in [-1, 1].

    LPIPS, the mean over its `sizes` in pixels, needs `network`; without it L2 is all.
    """

    crop: Tensor
    l2: float
    lpips: float
    network: LPIPS | None
    sizes: tuple[int, ...]
    dtype: torch.dtype
    maps: list[list[Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self.maps = [self._features(self.crop, size) for size in self.sizes]

    def __call__(self, image: Tensor) -> Tensor:
        """The loss of `image` [1, 3, R, R], a scalar; gradients flow to it."""
        loss = self.l2 * (image - self.crop).square().mean()
        if self.network is None:
            return loss
        for size, maps in zip(self.sizes, self.maps, strict=True):
            distance = self.network.distance(self._features(image, size), maps).mean()
            loss = loss + self.lpips / len(self.sizes) * distance
        return loss

    def _features(self, image: Tensor, size: int) -> list[Tensor]:
        if self.network is None:
            return []
        with autocast(image.device, self.dtype):
            maps = self.network.features(resize_batch(image, size))
        return [value.float() for value in maps]


def seen_resolution(generator: Generator) -> int:
    """Side in pixels at which codes are optimised: half the generator's, where that is cheap and shows enough."""
    full = generator.config.img_resolution
    return full // 2 if generator.exact_half and full >= 512 else full


def perceptual_size(resolution: int) -> int:
    """The size at which LPIPS sees images of `resolution`: twice as large, up to the 256 px that metrics use."""
    return max(min(2 * resolution, 256), 32)


def load_network(weight: float, device: torch.device) -> LPIPS | None:
    """LPIPS-Alex; None, with a warning where it was wanted, when its weights are not installed."""
    if not weight:
        return None
    try:
        return channels_last(load_lpips(device))
    except MissingPackageError as error:
        _log.warning("optimising by L2 alone, which leaves faces softer: %s", error)
        return None


__all__ = ["Objective", "load_network", "perceptual_size", "seen_resolution"]
