"""Numbers in weights files."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stkit.errors import WeightsError
from stkit.storage import as_float16, as_float32, as_int8


def state() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    kernel = torch.randn(32, 16, 3, 3, generator=random) * torch.logspace(-4, 2, 32)[:, None, None, None]
    kernel[3] = 0
    return {"kernel": kernel, "bias": torch.randn(32, generator=random), "seen": torch.tensor(3)}


def test_int8_errs_by_half_a_step_of_each_row() -> None:
    tensors = state()
    stored = as_int8(tensors)
    assert {name: value.dtype for name, value in stored.items()} == {
        "kernel": torch.int8,
        "kernel.scale": torch.float32,
        "bias": torch.float16,
        "seen": torch.int64,
    }
    read = as_float32(stored)
    assert read.keys() == tensors.keys()
    largest = tensors["kernel"].flatten(1).abs().amax(1)
    error = (read["kernel"] - tensors["kernel"]).flatten(1).abs().amax(1)
    assert (error <= largest / 127 / 2 * (1 + 1e-5)).all()
    torch.testing.assert_close(read["bias"], tensors["bias"], atol=0, rtol=1e-3)


def test_float16_reads_back() -> None:
    tensors = as_float16(state())
    assert all(torch.equal(value, tensors[name].float()) for name, value in as_float32(tensors).items())


def test_a_parameter_may_be_called_scale() -> None:
    assert as_float32({"norm.scale": torch.ones(3), "norm": torch.ones(3)}).keys() == {"norm.scale", "norm"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_what_float16_cannot_hold_is_refused(value: float) -> None:
    for store in (as_float16, as_int8):
        with pytest.raises(WeightsError, match="weight holds values that float16 cannot"):
            store({"weight": torch.full((64, 64), value)})


def test_a_scale_that_does_not_fit_is_refused() -> None:
    stored = {**as_int8(state()), "kernel.scale": torch.ones(7)}
    with pytest.raises(WeightsError, match=r"kernel of shape \[32, .* has a scale of shape \[7\]"):
        as_float32(stored)


def test_what_is_to_be_exact_stays_in_float16() -> None:
    stored = as_int8({"trunk.a": torch.ones(64, 64), "head.trunk.a": torch.ones(64, 64)}, ["trunk."])
    assert {name: value.dtype for name, value in stored.items()} == {
        "trunk.a": torch.float16,
        "head.trunk.a": torch.int8,
        "head.trunk.a.scale": torch.float32,
    }
