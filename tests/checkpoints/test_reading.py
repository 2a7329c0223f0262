"""Containers, and files that are damaged, cut short or made to harm."""

from __future__ import annotations

import argparse
import json
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from stkit.checkpoints.reading import read_checkpoint
from stkit.checkpoints.recognise import open_checkpoint
from stkit.checkpoints.stored import Storage, StoredTensor, contiguous
from stkit.errors import WeightsError
from tests.checkpoints.writers import make_generator, write_nvidia, write_rosinality, write_tf

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
TENSORS = {
    "plain": X,
    "transposed": X.t(),
    "part": X[1:3, 2:4],
    "half": X.half(),
    "bfloat16": X.bfloat16(),
    "integer": torch.tensor(3),
    "empty": torch.empty(0, 3),
    "parameter": torch.nn.Parameter(X),
    "bool": X > 0,
}


def save_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_pickle])
def test_tensors_are_read_as_they_were_written(save: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save({**TENSORS, "args": argparse.Namespace(size=3, rate=np.float64(0.5)), "list": [1, (2, None)]}, path)
    content = read_checkpoint(path).content
    for name, value in TENSORS.items():
        stored = content[name]
        assert (stored.shape, f"torch.{stored.dtype}") == (tuple(value.shape), str(value.dtype))
        assert torch.equal(stored.load(), value), name
    assert content["args"] == {"size": 3, "rate": 0.5}
    assert content["list"] == [1, (2, None)]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_numpy_arrays_of_all_orders(protocol: int, tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {"c": values, "fortran": np.asfortranarray(values), "strided": values[:, ::2], "scalar": np.array(2.0)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, protocol))
    content = read_checkpoint(tmp_path / "a.pkl").content
    for name, value in arrays.items():
        assert torch.equal(content[name].load(), torch.from_numpy(value.copy())), name


def test_python_2_and_old_numpy_names(tmp_path: Path) -> None:
    """As pickled by Python 2: bytes as text, numpy.core by its old name."""
    data = pickle.dumps({"a": np.array([1.0, -2.0])}, 0).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in data
    (tmp_path / "a.pkl").write_bytes(data)
    assert read_checkpoint(tmp_path / "a.pkl").content["a"].load().tolist() == [1.0, -2.0]


def test_shared_and_circular_structure(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"a": X}
    loop["self"] = [loop]
    torch.save(loop, tmp_path / "a.pt")
    content = read_checkpoint(tmp_path / "a.pt").content
    assert content["self"][0] is content


def test_every_cut_and_flipped_bit_ends_in_one_line_or_in_the_same_tensors(tmp_path: Path) -> None:
    generator = make_generator()
    written = {
        "zip": write_rosinality(tmp_path / "zip.pt", generator),
        "nvidia": write_nvidia(tmp_path / "nvidia.pkl", generator),
        "tf": write_tf(tmp_path / "tf.pkl", generator),
    }
    save_legacy({"g_ema": {"x": X}, "style": list(TENSORS.values())}, tmp_path / "legacy.pt")
    chance = random.Random(0)
    flips_seen = 0
    for name, path in [*written.items(), ("legacy", tmp_path / "legacy.pt")]:
        data = path.read_bytes()
        damaged = [data[: chance.randrange(len(data))] for _ in range(4)]
        for place in [chance.randrange(len(data)) for _ in range(6)] + [chance.randrange(600) for _ in range(8)]:
            damaged.append(data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :])
        for spoiled in damaged:
            path.write_bytes(spoiled)
            try:
                _, found = open_checkpoint(path)
                tensors = found.parts[0].convert()
            except WeightsError as error:
                assert "\n" not in str(error)
                flips_seen += 1
            else:
                assert name != "zip" or _same(tensors, generator.state_dict()), "a flipped bit went unseen"
        path.write_bytes(data)
    assert flips_seen > 25


def _same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def rewrite(path: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> Path:
    """The zip file again, each (name, data) as `change` gives it back."""
    with zipfile.ZipFile(path) as old:
        entries = [(name, old.read(name)) for name in old.namelist()]
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, data in change(entries):
            new.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda entries: [e for e in entries if "/data/" not in e[0]], "missing or of another size"),
        (lambda entries: [(n, d[:-4] if "/data/0" in n else d) for n, d in entries], "missing or of another size"),
        (lambda entries: [(n.replace("data/", "../../data/"), d) for n, d in entries], "missing or of another size"),
        (lambda entries: [(n.split("/", 1)[1], d) for n, d in entries], "not one written by torch.save"),
        (lambda entries: [*entries, ("b/data.pkl", entries[0][1])], "not one written by torch.save"),
        (lambda entries: [(n, b"big" if n.endswith("byteorder") else d) for n, d in entries], "big-endian"),
    ],
)
def test_zip_tricks(change: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"x": X}, path)
    with pytest.raises(WeightsError, match=reason):
        read_checkpoint(rewrite(path, change))


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"x": torch.zeros(1_000_000)}, path)
    with pytest.raises(WeightsError, match="compressed or encrypted"):
        read_checkpoint(rewrite(path, lambda entries: entries, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 100_000


def test_a_huge_structure_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stkit.checkpoints.reading._MAX_STRUCTURE", 10)
    torch.save({"x": X}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="more than 10 bytes"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [
        ((2**40,), (0,), 0),
        ((5,), (1,), 0),
        ((2, 2), (2, 1), 1),
        ((2,), (4,), 0),
        ((-1,), (1,), 0),
        ((2,), (-1,), 1),
        ((2,), (1,), -1),
        ((2, 2), (1,), 0),
        ((True,), (1,), 0),
        ((1,) * 30, (1,) * 30, 0),
        ((2.0,), (1,), 0),
    ],
)
def test_tensors_outside_their_storage_are_refused(shape: Any, stride: Any, offset: int) -> None:
    storage = Storage("float32", 4, lambda at, length: bytes(16)[at : at + length])
    assert contiguous(storage, (2, 2)).load().shape == (2, 2)
    with pytest.raises(WeightsError, match="does not fit"):
        StoredTensor(storage, shape, stride, offset)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x89PNG\r\n\x1a\n", "no checkpoint"),
        (b"PK\x03\x04" + bytes(50), "damaged or cut short"),
        (struct.pack("<Q", 2**60) + b"{", "damaged or cut short"),
        (struct.pack("<Q", 2) + b"{}", "no checkpoint that stkit knows"),
    ],
)
def test_other_files_are_named_for_what_they_are(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=reason) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)


def test_the_keys_of_safetensors_that_nobody_knows_are_told(tmp_path: Path) -> None:
    safetensors.torch.save_file({"voice.weight": X}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"its keys: voice\.weight"):
        open_checkpoint(tmp_path / "a.safetensors")


def test_more_tensors_than_any_checkpoint_has(tmp_path: Path) -> None:
    header = json.dumps({f"k{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_001)})
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(WeightsError, match="50,001 tensors, more than any checkpoint has"):
        read_checkpoint(tmp_path / "a.safetensors")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(WeightsError, match="cannot read"):
            read_checkpoint(path)
