"""Errors and losses that trainings and evaluation share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import Tensor, nn

from stkit.domains import WHOLE
from stkit.images import picture_part, resize_batch
from stkit.models.lpips import LPIPS

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def channels_last(module: ModuleT) -> ModuleT:
    """`module` with its convolution weights in channels-last order, in place."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Mixed precision in `dtype`; nothing at all for float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


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


__all__ = ["autocast", "channels_last", "paired_errors"]
