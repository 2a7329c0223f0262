"""Trained modules written as weights files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from stkit.errors import WeightsError
from stkit.storage import as_float16, as_int8
from stkit.tensors import save_tensors
from stkit.weights import Header


def save_module(
    folder: Path, module: nn.Module, header: Header, int8: bool = False, exact: Sequence[str] = ()
) -> Header:
    """Write the state of `module`, in float16 or in `int8` (but what begins with `exact`), to the file of its kind.

    Returns `header` with its fingerprint. Raises WeightsError when a value is not finite or too large for float16,
    OutputError.
    """
    tensors = as_int8(module.state_dict(), exact) if int8 else as_float16(module.state_dict())
    return save_tensors(Path(folder) / f"{header.kind}.safetensors", tensors, header)


def load_initial(module: nn.Module, state: Mapping[str, Tensor], noun: str) -> None:
    """Load `state` to start training from. Raises WeightsError when it does not fit the `noun` to train."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"the initial weights do not fit the {noun} to train: {reason}") from error


__all__ = ["load_initial", "save_module"]
