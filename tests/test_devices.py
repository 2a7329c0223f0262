"""Devices and precision."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stkit.devices import fast_dtype, keep_freed_memory, resolve_device
from stkit.errors import UsageError


def test_unknown_devices_are_one_line() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    for name in ("abacus", "cuda:99"):
        with pytest.raises(UsageError, match=name):
            resolve_device(name)


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({"avx2": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"sve": True}, torch.float32),
    ],
)
def test_cpus_compute_in_bfloat16_where_it_is_native(
    capabilities: dict[str, bool], wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert fast_dtype(torch.device("cpu")) == wanted


@pytest.mark.parametrize(("native", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_gpus_that_emulate_bfloat16_do_not_use_it(
    native: bool, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert fast_dtype(torch.device("cuda")) == wanted
    assert fast_dtype(torch.device("mps")) == torch.float32


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def keep_and_give_back() -> None:
    """Of a process of its own: in one that has run for long, the kept block lies in memory that was free already."""
    size = 2**28
    before = resident()
    torch.zeros(size // 4).add_(1)
    assert resident() < before + size / 2  # glibc gives large blocks back at once
    with keep_freed_memory():
        torch.zeros(size // 4).add_(1)
        assert resident() > before + size / 2
    assert resident() < before + size / 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_freed_memory_is_kept_for_the_next_step_and_given_back_at_the_end() -> None:
    program = "from tests.test_devices import keep_and_give_back; keep_and_give_back()"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1], check=True)
