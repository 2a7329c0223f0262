"""The metric `delta-e`: how far colours are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import Metric, Options, UsageError

if TYPE_CHECKING:
    import torch

_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))  # of linear sRGB
_WHITE = (0.9505, 1.0, 1.089)  # D65


class DeltaE(Metric[Options]):
    """CIE 1976 colour difference (ISO/CIE 11664-4): Euclidean distance in L*a*b*; 2.3 is just noticeable."""

    name = "delta-e"
    description = "mean CIE76 colour difference of the pixels (2.3 is just noticeable)"
    higher_is_better = False

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: Options) -> dict[str, float]:
        if images.shape != references.shape:
            raise UsageError(f"delta-e compares pairs: got {list(images.shape)} and {list(references.shape)}")
        return {"delta-e": float((_lab(images) - _lab(references)).norm(dim=1).mean())}


def _lab(images: torch.Tensor) -> torch.Tensor:
    """L*a*b* [N, 3, H, W] of sRGB [N, 3, H, W] in [-1, 1]."""
    import torch

    srgb = (images.clamp(-1, 1) + 1) / 2
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,njhw->nihw", torch.tensor(_TO_XYZ).to(linear), linear)
    ratio = xyz / torch.tensor(_WHITE).to(xyz)[:, None, None]
    root = torch.where(ratio > (6 / 29) ** 3, ratio ** (1 / 3), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
