"""Distances between two sets of images, which need not be pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import Metric, Options

if TYPE_CHECKING:
    import torch


class FrechetMetric(Metric[Options]):
    """Frechet distance (Heusel et al. 2017) of EfficientNet-lite0 features: not FID, whose features are Inception's."""

    name = "frechet"
    description = "Frechet distance of EfficientNet-lite0 features (1280-d, 224 px wide); not comparable with FID"
    higher_is_better = False

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: Options) -> dict[str, float]:
        """`frechet` of [N, 3, H, W] and [M, 3, H, W] in [-1, 1]. Raises UsageError, MissingPackageError."""
        from stkit.plugin import frechet_distance, lite0_features, load_lite0

        network = load_lite0(images.device)
        ours, theirs = (lite0_features(network, part.split(32)) for part in (images, references))
        return {"frechet": frechet_distance(ours, theirs)}


class SWDMetric(Metric[Options]):
    """Sliced Wasserstein distance of Laplacian pyramid patches (Karras et al. 2018)."""

    name = "swd"
    description = "sliced Wasserstein distance of 7x7 patches, x 1e3: by level of the pyramid, and their mean"
    higher_is_better = False

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: Options) -> dict[str, float]:
        """`swd` and `swd_H` for each level, H pixels high, of sets [N, 3, H, W] in [-1, 1]. Raises UsageError."""
        from stkit.plugin import sliced_wasserstein

        return sliced_wasserstein(images, references)


__all__ = ["FrechetMetric", "SWDMetric"]
