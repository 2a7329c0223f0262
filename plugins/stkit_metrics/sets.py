"""Distances between two sets of images, which need not be pairs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from stkit.plugin import Metric, Options

if TYPE_CHECKING:
    import torch
    from torch.utils.weak import WeakTensorKeyDictionary


@functools.cache
def _kept() -> WeakTensorKeyDictionary:
    """Features of images for as long as somebody holds the images: several metrics look at the same."""
    from torch.utils.weak import WeakTensorKeyDictionary

    return WeakTensorKeyDictionary()


def _features(images: torch.Tensor) -> torch.Tensor:
    from stkit.plugin import lite0_features, load_lite0

    kept = _kept()
    if images not in kept:
        kept[images] = lite0_features(load_lite0(images.device), images.split(32))
    return kept[images]


class FrechetMetric(Metric[Options]):
    """Frechet distance (Heusel et al. 2017) of EfficientNet-lite0 features: not FID, whose features are Inception's."""

    name = "frechet"
    description = "Frechet distance of EfficientNet-lite0 features (1280-d, 224 px wide); not comparable with FID"
    higher_is_better = False

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: Options) -> dict[str, float]:
        """`frechet` of [N, 3, H, W] and [M, 3, H, W] in [-1, 1]. Raises UsageError, MissingPackageError."""
        from stkit.plugin import frechet_distance

        return {"frechet": frechet_distance(_features(images), _features(references))}


class KIDMetric(Metric[Options]):
    """Kernel distance (Binkowski et al., ICLR 2018) of EfficientNet-lite0 features, not Inception's."""

    name = "kid"
    description = "kernel distance x 1e3 of EfficientNet-lite0 features, unbiased; not comparable with KID"
    higher_is_better = False

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: Options) -> dict[str, float]:
        """`kid` of [N, 3, H, W] and [M, 3, H, W] in [-1, 1]. Raises UsageError, MissingPackageError."""
        from stkit.plugin import kernel_distance

        return {"kid": 1e3 * kernel_distance(_features(images), _features(references))}


class SWDMetric(Metric[Options]):
    """Sliced Wasserstein distance of Laplacian pyramid patches (Karras et al. 2018)."""

    name = "swd"
    description = "sliced Wasserstein distance of 7x7 patches, x 1e3: by level of the pyramid, and their mean"
    higher_is_better = False

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: Options) -> dict[str, float]:
        """`swd` and `swd_H` for each level, H pixels high, of sets [N, 3, H, W] in [-1, 1]. Raises UsageError."""
        from stkit.plugin import sliced_wasserstein

        return sliced_wasserstein(images, references)


__all__ = ["FrechetMetric", "KIDMetric", "SWDMetric"]
