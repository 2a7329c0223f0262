"""Devices and precision."""

from __future__ import annotations

import pytest
import torch

from stkit.devices import fast_dtype, resolve_device
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
