"""Where tensors are computed, and in which precision."""

from __future__ import annotations

import torch

from stkit.errors import UsageError

_CPU_FLAGS = ("avx512_bf16", "amx_bf16")


def resolve_device(name: str) -> torch.device:
    """The torch device of a name. Raises UsageError when this machine has none such."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device '{name}' is not available here; use --device cpu") from error
    return device


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, else float32.

    Other CPUs emulate it: their matrix products take a hundred times as long as in float32.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and _cpu_has_bf16()
    return torch.bfloat16 if native else torch.float32


def _cpu_has_bf16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.12
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(flag) for flag in _CPU_FLAGS)


__all__ = ["fast_dtype", "resolve_device"]
