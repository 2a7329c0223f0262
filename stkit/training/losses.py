"""Errors and losses that trainings and evaluation share."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from stkit.images import resize_batch
from stkit.models.lpips import LPIPS


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Mixed precision in `dtype`; nothing at all for float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


@torch.no_grad()
def paired_errors(images: Tensor, references: Tensor, lpips: LPIPS) -> dict[str, Tensor]:
    """MSE and LPIPS-Alex of each image, [N] each: at 256 px, in [-1, 1], images clamped."""
    mse, distance = [], []
    for a, b in zip(images.split(16), references.split(16), strict=True):
        a, b = resize_batch(a.clamp(-1, 1), 256), resize_batch(b, 256)
        mse.append((a - b).square().mean((1, 2, 3)))
        distance.append(lpips(a, b))
    return {"mse": torch.cat(mse), "lpips": torch.cat(distance)}


__all__ = ["autocast", "paired_errors"]
