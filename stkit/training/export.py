"""Trained modules written as weights files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stkit.errors import WeightsError
from stkit.weights import Header, save_tensors


def save_module(folder: Path, module: nn.Module, header: Header) -> Header:
    """Write the state of `module`, floats as float16 and counters as they are, to the file of the header's kind.

    Returns `header` with its fingerprint. Raises WeightsError when a value is not finite or too large for float16,
    OutputError.
    """
    tensors = {}
    for name, value in module.state_dict().items():
        tensors[name] = value.half() if value.is_floating_point() else value
        if not torch.isfinite(tensors[name]).all():
            raise WeightsError(f"{name} holds values that float16 cannot; take an earlier checkpoint of this training")
    return save_tensors(Path(folder) / f"{header.kind}.safetensors", tensors, header)


def load_initial(module: nn.Module, state: Mapping[str, Tensor], noun: str) -> None:
    """Load `state` to start training from. Raises WeightsError when it does not fit the `noun` to train."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"the initial weights do not fit the {noun} to train: {reason}") from error


__all__ = ["load_initial", "save_module"]
