"""Where tensors are computed, in which precision, and in what memory."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from stkit.errors import UsageError

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Of glibc's malloc.h."""

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


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Meanwhile what is freed stays with the process, for loops whose steps need the same memory again.

    glibc gives large blocks back to the kernel at once, and a sixth of a step at 512 px goes into having their pages
    made anew. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, 2**16)
        # Where glibc's own adjustment ends, which has been switched off above.
        library.mallopt(_MMAP_THRESHOLD, 2**25)
        library.mallopt(_TRIM_THRESHOLD, 2**26)
        library.malloc_trim(0)


__all__ = ["fast_dtype", "keep_freed_memory", "resolve_device"]
