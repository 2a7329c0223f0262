"""Whatever tensors torch.save writes, the reader gives them back bit by bit, or refuses them in one line."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkit.checkpoints.budget import Budget
from stkit.checkpoints.layout import Entry, take
from stkit.checkpoints.reading import read_checkpoint, read_pickles
from stkit.checkpoints.stored import ITEM_SIZES, Storage, StoredTensor, contiguous
from stkit.errors import WeightsError

Save = Callable[[Any], bytes]
DTYPES = [getattr(torch, name) for name in ITEM_SIZES]


class Labelled(Tensor):
    """A subclass of Tensor: torch.save writes it by `_rebuild_from_type_v2`."""


def zip_file(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def legacy(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def nested(content: Any) -> bytes:
    return pickle.dumps(content)


@st.composite
def storages(draw: st.DrawFn) -> Tensor:
    """A flat run of up to 24 numbers of any type, of any bits: NaN with a payload and -0 among them."""
    dtype = draw(st.sampled_from(DTYPES))
    count = draw(st.integers(0, 24))
    if dtype is torch.bool:
        return torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=dtype)
    size = count * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


@st.composite
def views(draw: st.DrawFn, flat: Tensor) -> Tensor:
    """A view of `flat`: a part of it in up to three dimensions of any order, or all of it as it is."""
    if not draw(st.booleans()):
        return flat
    start = draw(st.integers(0, len(flat)))
    part = flat[start : draw(st.integers(start, len(flat)))]
    step = draw(st.integers(1, 3))
    part = part[::step]
    divisors = [n for n in range(1, len(part) + 1) if len(part) % n == 0] or [1]
    rows = draw(st.sampled_from(divisors))
    shaped = part.unflatten(0, (rows, -1)) if len(part) else part[None].expand(draw(st.integers(0, 2)), 0)
    if draw(st.booleans()):
        shaped = shaped.unsqueeze(draw(st.integers(0, shaped.ndim)))
    return shaped.permute(draw(st.permutations(range(shaped.ndim))))


@st.composite
def dressed(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    """The same numbers in another class, or with Python attributes."""
    kind = draw(st.sampled_from(["bare", "attribute", "parameter", "parameter with attribute", "subclass"]))
    if kind.startswith("parameter"):
        tensor = torch.nn.Parameter(tensor, requires_grad=False)
    if kind == "subclass":
        tensor = tensor.as_subclass(Labelled)
    if "attribute" in kind:
        tensor = tensor[...] if kind == "attribute" else tensor  # an object of its own, over the same storage
        tensor.note = draw(st.one_of(st.text(max_size=3), st.lists(st.integers(), max_size=2)))  # type: ignore[attr-defined]
    return tensor


@st.composite
def checkpoints(draw: st.DrawFn) -> dict[str, Any]:
    """Tensors, over few storages, in a dictionary with lists in it, some of them more than once."""
    flats = draw(st.lists(storages(), min_size=1, max_size=3))
    tensors = [draw(dressed(draw(views(draw(st.sampled_from(flats)))))) for _ in range(draw(st.integers(1, 12)))]
    again = draw(st.lists(st.sampled_from(tensors), max_size=3))
    return {**{f"t{i}": tensor for i, tensor in enumerate(tensors)}, "list": again, "tuple": (again, tensors[0])}


def bits(tensor: Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    plain = tensor.detach().as_subclass(Tensor).clone(memory_format=torch.contiguous_format).reshape(-1)
    return plain.dtype, tuple(tensor.shape), plain.view(torch.uint8).numpy().tobytes()


def same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, Tensor):
        assert isinstance(ours, StoredTensor)
        loaded = ours.load()
        assert bits(loaded) == bits(theirs)
        assert loaded.stride() == torch.empty(loaded.shape).stride()
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            same(ours[key], value)
    else:
        assert type(ours) is type(theirs) and len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)


@pytest.mark.parametrize("save", [zip_file, legacy, nested])
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=checkpoints())
def test_any_tensors_come_back_bit_by_bit(save: Save, content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(save(content))
    found = read_checkpoint(path).content
    same(found, content)
    assert found["tuple"][0] is found["list"]  # what is shared is read once
    assert found["tuple"][1] is found["t0"]


@pytest.mark.parametrize("save", [zip_file, legacy, nested])
def test_many_tensors_with_attributes(save: Save, tmp_path: Path) -> None:
    """Their records are made while reading: one whose place in memory is taken again must not answer for the other."""
    content = {}
    for i in range(300):
        content[f"t{i}"] = torch.full((i % 5 + 1,), float(i), dtype=DTYPES[i % 4])
        content[f"t{i}"].note = i  # type: ignore[attr-defined]
    (tmp_path / "model.pt").write_bytes(save(content))
    same(read_checkpoint(tmp_path / "model.pt").content, content)


def test_ordered_dictionaries_of_python_2_keep_what_they_share() -> None:
    """Python 2 writes the pairs as an argument."""
    payload = b"\x80\x02}(U\x05firstccollections\nOrderedDict\n]]q\x01(U\x01a]q\x02K\x01aea\x85RU\x06secondh\x02u."
    found = read_pickles(
        io.BytesIO(payload), len(payload), lambda at, length: payload[at : at + length], set(), Budget(0)
    )
    assert found == {"first": {"a": [1]}, "second": [1]}
    assert found["first"]["a"] is found["second"]


@pytest.mark.parametrize("save", [zip_file, legacy, nested])
def test_expanded_views(save: Save, tmp_path: Path) -> None:
    content = {"bias": torch.arange(3.0).expand(5, 3), "one": torch.ones(1).expand(7)}
    (tmp_path / "model.pt").write_bytes(save(content))
    same(read_checkpoint(tmp_path / "model.pt").content, content)


def test_safetensors_of_all_types(tmp_path: Path) -> None:
    content = {str(dtype): torch.zeros(6, dtype=torch.uint8).view(dtype) if dtype.itemsize == 1 else torch.ones(
        3).to(dtype) for dtype in DTYPES if dtype is not torch.complex128}  # fmt: skip
    safetensors.torch.save_file(content, tmp_path / "a.safetensors")
    same(read_checkpoint(tmp_path / "a.safetensors").objects, content)


def test_models_have_real_numbers_and_none_of_eight_bits() -> None:
    values = torch.tensor([0.5, -2.0])
    shapes, layout = {"a": (2,)}, {"a": Entry("x", (2,))}
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        assert torch.equal(take(layout, shapes, {"x": stored(values.to(dtype))}, "model")["a"], values)
    with pytest.raises(WeightsError, match="complex numbers"):
        take(layout, shapes, {"x": stored(values.to(torch.complex64))}, "model")


def stored(values: Tensor) -> StoredTensor:
    data = values.view(torch.uint8).numpy().tobytes()
    name = str(values.dtype).removeprefix("torch.")
    return contiguous(Storage(name, len(values), lambda at, length: data[at : at + length]), tuple(values.shape))


def test_numpy_arrays_in_any_place(tmp_path: Path) -> None:
    arrays = [np.full((i % 3 + 1, 2), i, dtype=np.float32) for i in range(60)]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"arrays": arrays, "scalars": [array[0, 0] for array in arrays]}))
    found = read_checkpoint(tmp_path / "a.pkl").content
    assert [array.load().tolist() for array in found["arrays"]] == [array.tolist() for array in arrays]
    assert found["scalars"] == [float(i) for i in range(60)]


def test_what_is_stored_otherwise_is_refused_and_not_misread(tmp_path: Path) -> None:
    """A negated view lies in the file with the other sign; a large expanded one is not worth its memory."""
    for tensor, reason in (
        (torch.randn(3, dtype=torch.complex64).conj().imag, "stored negated"),
        (torch.randn(3, dtype=torch.complex64).conj(), "or conjugated"),
        (torch.zeros(1).expand(2**20 + 1), "does not fit the data"),
        (torch.zeros(3, dtype=torch.float8_e8m0fnu), "a type that stkit does not read"),
    ):
        torch.save({"fine": torch.ones(2), "x": tensor}, tmp_path / "model.pt")
        with pytest.raises(WeightsError, match=reason) as caught:
            read_checkpoint(tmp_path / "model.pt")
        assert "\n" not in str(caught.value)
