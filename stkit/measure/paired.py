"""Errors of images from their references, one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from stkit.contracts.framing import WHOLE
from stkit.measure.lpips import LPIPS
from stkit.photo.images import picture_part, resize_batch


def picture_errors(
    images: torch.Tensor, targets: torch.Tensor, output_crop: tuple[float, float, float, float]
) -> torch.Tensor:
    """MSE [B] of the picture parts of `images`, clamped, and `targets`: [B, 3, R, R] in [-1, 1]."""
    difference = images.clamp(-1, 1) - targets.clamp(-1, 1)
    return picture_part(difference, output_crop).square().mean(dim=(1, 2, 3))


@torch.no_grad()
def paired_errors(
    images: Tensor, references: Tensor, lpips: LPIPS | None, output_crop: tuple[float, float, float, float] = WHOLE
) -> dict[str, Tensor]:
    """MSE and LPIPS-Alex of each image's picture part, [N] each: 256 px wide, in [-1, 1], images clamped.

    Without `lpips` the MSE alone.
    """
    images, references = picture_part(images, output_crop), picture_part(references, output_crop)
    mse, distance = [], []
    for a, b in zip(images.split(16), references.split(16), strict=True):
        a, b = resize_batch(a.clamp(-1, 1), 256), resize_batch(b, 256)
        mse.append((a - b).square().mean((1, 2, 3)))
        if lpips is not None:
            distance.append(lpips(a, b))
    return {"mse": torch.cat(mse), **({"lpips": torch.cat(distance)} if lpips is not None else {})}


__all__ = ["paired_errors", "picture_errors"]
