"""Trained modules written as weights files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from stkit.errors import WeightsError
from stkit.weights import Header, save_tensors


def save_module(path: Path, module: nn.Module, header: Header) -> Header:
    """Write the state of `module`, floats as float16 and counters as they are; returns `header` with its fingerprint.

    Raises WeightsError when a value is not finite or too large for float16, OutputError.
    """
    tensors = {}
    for name, value in module.state_dict().items():
        tensors[name] = value.half() if value.is_floating_point() else value
        if not torch.isfinite(tensors[name]).all():
            raise WeightsError(f"{name} holds values that float16 cannot; take an earlier checkpoint of this training")
    return save_tensors(path, tensors, header)


__all__ = ["save_module"]
