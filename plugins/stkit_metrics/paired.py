"""Metrics of pairs, at 256 px with images in [-1, 1], as the inversion papers report them."""

from __future__ import annotations

import functools
from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

from stkit.plugin import Metric, Options, UsageError
from stkit_metrics.missing import missing

if TYPE_CHECKING:
    import torch

    from stkit.plugin import LPIPS

_BATCH = 16
_MS_SSIM_LEAST = 176  # pixels: five scales of 11 x 11 windows


class PairedMetric(Metric[Options]):
    """The mean over pairs of what `values` gives for each, 256 px wide, images clamped to [-1, 1]."""

    paired = True

    @abstractmethod
    def values(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """A number for each pair, [B]."""

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: Options) -> dict[str, float]:
        """The mean over pairs of [N, 3, H, W] in [-1, 1], by the metric's name. Raises UsageError for no pairs."""
        import torch

        from stkit.plugin import resize_batch

        if images.shape != references.shape or not len(images):
            raise UsageError(f"{self.name} compares pairs, got {list(images.shape)} and {list(references.shape)}")
        with torch.no_grad():
            parts = [
                self.values(resize_batch(a.clamp(-1, 1), 256), resize_batch(b.clamp(-1, 1), 256))
                for a, b in zip(images.split(_BATCH), references.split(_BATCH), strict=True)
            ]
        return {self.name: float(torch.cat(parts).mean())}


class MSEMetric(PairedMetric):
    """Mean squared error, called L2 in the papers."""

    name = "mse"
    description = "mean squared error at 256 px, images in [-1, 1]"
    higher_is_better = False

    def values(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        return (images - references).square().mean((1, 2, 3))


class PSNRMetric(PairedMetric):
    """Peak signal-to-noise ratio."""

    name = "psnr"
    description = "peak signal-to-noise ratio in dB at 256 px, at most 100; the mean of each pair's own"
    higher_is_better = True

    def values(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        error = (images - references).square().mean((1, 2, 3))
        return 10 * (4 / error.clamp(min=4e-10)).log10()  # the peak is 2, from -1 to 1


class MSSSIMMetric(PairedMetric):
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik, 2003), by torchmetrics."""

    name = "ms-ssim"
    description = "multi-scale SSIM (torchmetrics), 256 px wide; flat pictures enlarged to 176 px of height"
    higher_is_better = True

    def values(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        import torch

        from stkit.plugin import resize_batch

        try:
            from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as similarity
        except (ImportError, RuntimeError) as error:
            raise missing("ms-ssim", "torchmetrics", "pip install 'stkit[evaluate]'", error) from error
        height, width = images.shape[2:]
        if height < _MS_SSIM_LEAST:
            wider = round(width * _MS_SSIM_LEAST / height)
            images, references = (resize_batch(part, wider) for part in (images, references))
        each = [similarity(a, b, data_range=2.0) for a, b in zip(images.split(1), references.split(1), strict=True)]
        return torch.stack(each)


class LPIPSMetric(PairedMetric):
    """LPIPS v0.1 with AlexNet (Zhang et al., CVPR 2018)."""

    name = "lpips"
    description = "LPIPS v0.1 (AlexNet) at 256 px"
    higher_is_better = False
    net: Literal["alex", "vgg"] = "alex"

    def values(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """Raises MissingPackageError without its weights."""
        return _lpips(str(images.device), self.net)(images, references)


class LPIPSVGGMetric(LPIPSMetric):
    """LPIPS v0.1 with VGG16."""

    name = "lpips-vgg"
    description = "LPIPS v0.1 (VGG16) at 256 px"
    net = "vgg"


@functools.cache
def _lpips(device: str, net: Literal["alex", "vgg"]) -> LPIPS:
    from stkit.plugin import load_lpips

    return load_lpips(device, net)


__all__ = ["LPIPSMetric", "LPIPSVGGMetric", "MSEMetric", "MSSSIMMetric", "PSNRMetric", "PairedMetric"]
