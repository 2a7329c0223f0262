"""LPIPS as trainings use it: as a loss, at any size."""

from __future__ import annotations

import torch
from torch import Tensor

from stkit.measure.lpips import LPIPS
from stkit.models.ops import upsample2d
from stkit.photo.images import picture_part


def training_lpips(
    images: Tensor, photos: Tensor, lpips: LPIPS, output_crop: tuple[float, float, float, float], zoom: bool
) -> Tensor:
    """LPIPS of the picture part of `images` [B, 3, R, R] as a loss, [B]; with `zoom` it sees `zoomed` crops.

    Zoomed, the rows are not in the order of the images.
    """
    views = [picture_part(canvas, output_crop) for canvas in (images, photos)]
    if zoom and photos.shape[-1] >= 64:
        views = [zoomed(view) for view in views]
    while views[0].shape[3] < 64 or views[0].shape[2] < 32:  # the smallest that LPIPS sees anything in
        views = [upsample2d(view) for view in views]
    return lpips(*views).float()


def zoomed(images: Tensor) -> Tensor:
    """One of nine overlapping crops of half the size of each of `images` [B, 3, H, W], doubled: [B, 3, H, W]."""
    height, width = images.shape[2] // 2, images.shape[3] // 2
    offsets = [(y, x) for y in (0, height // 2, height) for x in (0, width // 2, width)]
    crops = [images[i::9, :, y : y + height, x : x + width] for i, (y, x) in enumerate(offsets)]
    return upsample2d(torch.cat(crops))


__all__ = ["training_lpips", "zoomed"]
