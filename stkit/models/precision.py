"""How any network runs fast on a GPU: mixed precision, and convolutions in channels-last order."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def channels_last(module: ModuleT) -> ModuleT:
    """`module` with its convolution weights in channels-last order, in place."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Mixed precision in `dtype`; nothing at all for float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


__all__ = ["autocast", "channels_last"]
