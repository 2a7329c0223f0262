"""What the optimisations minimise: L2 and LPIPS to one crop."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from stkit.plugin import LPIPS, Generator, MissingPackageError, autocast, channels_last, load_lpips, resize_batch

_SHIFTS = ((0, 0), (2, 1), (1, 3), (3, 2))

_log = logging.getLogger("stkit")


@dataclass(eq=False)
class Objective:
    """`l2` times the mean squared error plus `lpips` times LPIPS-Alex to one crop [1, 3, R, R] in [-1, 1].

    LPIPS, the mean over its `sizes` in pixels, needs `network`; without it L2 is all. It is taken of the images moved
    by a few pixels, otherwise at each call: its first convolution has stride 4, and a grid of texture would hide in it.
    """

    crop: Tensor
    l2: float
    lpips: float
    network: LPIPS | None
    sizes: tuple[int, ...]
    dtype: torch.dtype
    calls: int = field(default=0, init=False)
    _kept: dict[tuple[int, tuple[int, int]], list[Tensor]] = field(default_factory=dict, init=False)

    def __call__(self, image: Tensor) -> Tensor:
        """The loss of `image` [1, 3, R, R], a scalar; gradients flow to it."""
        loss = self.l2 * (image - self.crop).square().mean()
        if self.network is None:
            return loss
        shift = _SHIFTS[self.calls % len(_SHIFTS)]
        self.calls += 1
        for size in self.sizes:
            if (size, shift) not in self._kept:
                self._kept[size, shift] = self._features(self.network, self.crop, size, shift)
            maps = self._features(self.network, image, size, shift)
            distance = self.network.distance(maps, self._kept[size, shift]).mean()
            loss = loss + self.lpips / len(self.sizes) * distance
        return loss

    def _features(self, network: LPIPS, image: Tensor, size: int, shift: tuple[int, int]) -> list[Tensor]:
        x, y = shift
        with autocast(image.device, self.dtype):
            maps = network.features(F.pad(resize_batch(image, size), (x, 0, y, 0), mode="reflect"))
        return [value.float() for value in maps]


def seen_resolution(generator: Generator) -> int:
    """Side in pixels at which codes are optimised."""
    return generator.seen_resolution


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
