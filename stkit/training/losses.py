"""Errors and losses that trainings and evaluation share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import Tensor, nn

from stkit.domains import WHOLE
from stkit.images import picture_part, resize_batch
from stkit.measure.lpips import LPIPS
from stkit.models.ops import upsample2d

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def channels_last(module: ModuleT) -> ModuleT:
    """`module` with its convolution weights in channels-last order, in place."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Mixed precision in `dtype`; nothing at all for float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


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


@torch.no_grad()
def paired_errors(
    images: Tensor, references: Tensor, lpips: LPIPS, output_crop: tuple[float, float, float, float] = WHOLE
) -> dict[str, Tensor]:
    """MSE and LPIPS-Alex of each image's picture part, [N] each: 256 px wide, in [-1, 1], images clamped."""
    images, references = picture_part(images, output_crop), picture_part(references, output_crop)
    mse, distance = [], []
    for a, b in zip(images.split(16), references.split(16), strict=True):
        a, b = resize_batch(a.clamp(-1, 1), 256), resize_batch(b, 256)
        mse.append((a - b).square().mean((1, 2, 3)))
        distance.append(lpips(a, b))
    return {"mse": torch.cat(mse), "lpips": torch.cat(distance)}


__all__ = ["autocast", "channels_last", "paired_errors", "training_lpips", "zoomed"]
