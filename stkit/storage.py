"""How numbers are stored in weights files: float16, or int8 with a scale a row, which halves a file once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stkit.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

_SCALE = ".scale"
_LEAST = 4096
"""Numbers that a tensor must have to be stored in int8: smaller ones do not count."""


def as_float16(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floats in float16, counters as they are. Raises WeightsError when a value is not finite or too large."""
    import torch

    stored = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    for name, value in stored.items():
        if not torch.isfinite(value).all():
            raise WeightsError(f"{name} holds values that float16 cannot; take an earlier checkpoint of this training")
    return stored


def as_int8(tensors: Mapping[str, Tensor], exact: Sequence[str] = ()) -> dict[str, Tensor]:
    """Matrices and kernels in int8 with a float32 scale for each row of their first axis, the rest in float16.

    What begins with one of `exact` is among the rest.
    The scale of `NAME` is `NAME.scale` [rows]: a row's largest value becomes 127. Raises WeightsError as `as_float16`.
    """
    import torch

    stored = as_float16(tensors)
    for name, value in tensors.items():
        large = value.is_floating_point() and value.ndim > 1 and value.numel() >= _LEAST
        if large and not name.startswith(tuple(exact)):
            rows = value.float().flatten(1)
            scale = rows.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
            stored[name] = (rows / scale[:, None]).round().to(torch.int8).view_as(value)
            stored[name + _SCALE] = scale
    return stored


def as_float32(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `as_float16` and `as_int8` made, in float32. Raises WeightsError when a scale does not fit its tensor."""
    import torch

    tensors = {}
    for name, value in stored.items():
        if value.dtype == torch.int8 and (scale := stored.get(name + _SCALE)) is not None:
            if scale.shape != value.shape[:1]:
                raise WeightsError(f"{name} of shape {list(value.shape)} has a scale of shape {list(scale.shape)}")
            tensors[name] = value.float() * scale.view(-1, *[1] * (value.ndim - 1))
        elif not _is_scale(name, stored):
            tensors[name] = value.float()
    return tensors


def _is_scale(name: str, stored: Mapping[str, Tensor]) -> bool:
    import torch

    of = stored.get(name.removesuffix(_SCALE)) if name.endswith(_SCALE) else None
    return of is not None and of.dtype == torch.int8


__all__ = ["as_float16", "as_float32", "as_int8"]
