"""Metrics of pairs, at 256 px with images in [-1, 1], as the inversion papers report them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import Metric, Options

if TYPE_CHECKING:
    import torch


class MSEMetric(Metric[Options]):
    """Mean squared error, called L2 in the papers."""

    name = "mse"
    description = "mean squared error at 256 px, images in [-1, 1]"
    higher_is_better = False

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: Options) -> dict[str, float]:
        """`mse`: the mean over pairs of [N, 3, H, W] in [-1, 1]."""
        from stkit.plugin import resize_batch

        difference = resize_batch(images.clamp(-1, 1), 256) - resize_batch(references, 256)
        return {"mse": float(difference.square().mean())}


class LPIPSMetric(Metric[Options]):
    """LPIPS v0.1 with AlexNet (Zhang et al., CVPR 2018)."""

    name = "lpips"
    description = "LPIPS v0.1 (AlexNet) at 256 px"
    higher_is_better = False

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: Options) -> dict[str, float]:
        """`lpips`: the mean over pairs of [N, 3, H, W] in [-1, 1]. Raises MissingPackageError without its weights."""
        from stkit.plugin import load_lpips, paired_errors

        return {"lpips": float(paired_errors(images, references, load_lpips(images.device))["lpips"].mean())}


__all__ = ["LPIPSMetric", "MSEMetric"]
