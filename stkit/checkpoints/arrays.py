"""Arrays that other programs leave, in .npy, .npz, torch files, pickles, safetensors; nothing in them is executed."""

from __future__ import annotations

import functools
import io
import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from stkit.checkpoints.budget import Budget
from stkit.checkpoints.names import is_hostile
from stkit.checkpoints.openvino import DAMAGED_ZIP, open_zip
from stkit.checkpoints.reading import read_checkpoint, read_pickles, refuse_hostile
from stkit.checkpoints.stored import StoredTensor
from stkit.checkpoints.unpickle import Name, Record
from stkit.errors import WeightsError, reason_of
from stkit.files import read_packed, require_file

_MAX_BYTES = 2**28  # of one file
_PACKED = 2**26  # bytes that an archive may give beyond twice its size: arrays of numbers hardly shrink
_DEEPEST = 4


def read_arrays(path: Path) -> Any:
    """What a file holds: a tensor, a number, text, or dictionaries and lists of them; of other things nothing.

    Numbers become tensors of their type, text arrays become text. Raises WeightsError.
    """
    try:
        budget = Budget(path.stat().st_size)
        return _plain(_read(path, budget), budget)
    except WeightsError as error:
        raise error if str(path) in str(error) else WeightsError(f"cannot read {path}: {error}") from None
    except (OSError, MemoryError, TypeError, LookupError, SyntaxError, *DAMAGED_ZIP) as error:
        raise WeightsError(f"cannot read {path}: {reason_of(error)}; copy or save it again") from error


def outline(data: Any) -> str:
    """Names and shapes, as people are told what there is."""
    if isinstance(data, Tensor):
        return f"one array of shape {shape_text(data)}"
    if isinstance(data, dict):
        parts = [
            f"{str(key)[:40]} {shape_text(value) if isinstance(value, Tensor) else ''}".strip()
            for key, value in list(data.items())[:8]
        ]
        return ", ".join(parts) + (", ..." if len(data) > 8 else "") if parts else "nothing"
    if isinstance(data, list):
        return f"a list of {len(data)} things" + (f", the first {outline(data[0])}" if data else "")
    return f"one {data.name[:80]}" if isinstance(data, Record) else f"one {type(data).__name__}"


def shape_text(value: Tensor) -> str:
    """The shape, and the type where it is none of floats."""
    kind = "" if value.is_floating_point() else f" of {str(value.dtype).removeprefix('torch.')}"
    return f"{tuple(value.shape)}{kind}"


def _read(path: Path, budget: Budget) -> Any:
    require_file(path)
    with path.open("rb") as file:
        start = file.read(6)
        if start == npy.MAGIC_PREFIX:
            file.seek(0)
            return _npy(file, str(path), budget)
    if start.startswith(b"PK\x03\x04"):
        with open_zip(path) as archive:
            entries = archive.infolist()
            if all(entry.filename.endswith(".npy") for entry in entries):
                return _npz(archive, path, budget)
    checkpoint = read_checkpoint(path)
    refuse_hostile(checkpoint)
    return checkpoint.objects


def _npz(archive: zipfile.ZipFile, path: Path, budget: Budget) -> dict[str, Any]:
    """The arrays of a .npz by their names, without those that are too large for directions and codes."""
    left = most = min(_MAX_BYTES, 2 * path.stat().st_size + _PACKED)
    found, too_large = {}, None
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")
        try:
            if entry.file_size > left:
                raise ValueError(f"it takes more than {most:,} bytes")
            left -= entry.file_size
            found[name] = _npy(io.BytesIO(read_packed(archive, entry)), f"{path} ({name})", budget)
        except ValueError as error:
            too_large = too_large or ValueError(f"its {name}: {error}")
    if too_large and not found:
        raise too_large
    return found


def _npy(file: IO[bytes], what: str, budget: Budget) -> Any:
    """The array of a .npy; of one of Python objects the object, or a list of them."""
    version = npy.read_magic(file)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, dtype = header(file)
    except Exception as error:  # numpy reads it with Python's own parsers, which raise what they like
        raise ValueError(f"its header is damaged: {reason_of(error)}") from error
    if len(shape) > 16 or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("its header is damaged: a shape that no array has")
    start = file.tell()
    if not dtype.hasobject:
        count = math.prod(shape)
        there = file.seek(0, io.SEEK_END) - start
        if dtype.itemsize * count > _MAX_BYTES or math.prod(size or 1 for size in shape) > 2**40:
            raise ValueError(f"it takes more than {_MAX_BYTES:,} bytes")
        if dtype.itemsize * count > there:
            raise ValueError("it is cut short")
        file.seek(0)
        return np.load(file, allow_pickle=False)
    data = file.read(_MAX_BYTES)
    names: set[Name] = set()
    found = read_pickles(io.BytesIO(data), len(data), functools.partial(_part, data), names, budget)
    hostile = sorted(str(name) for name in names if is_hostile(name))
    if hostile:
        raise WeightsError(f"{what} would run {', '.join(hostile[:5])} in programs that load it; delete it")
    state = found.state if isinstance(found, Record) else None
    items = state[-1] if isinstance(state, tuple) and state else None
    if not isinstance(items, list):
        raise ValueError("an array of Python objects that are no list")
    return items[0] if shape == () and len(items) == 1 else items


def _part(data: bytes, offset: int, length: int) -> bytes:
    return data[offset : offset + length]


def _plain(value: Any, budget: Budget, depth: int = 0) -> Any:
    budget.step()
    if isinstance(value, StoredTensor):
        budget.copy(value.size)
        return value.load()
    if isinstance(value, np.ndarray):
        budget.copy(value.size * (8 if value.dtype.kind == "u" else value.itemsize))
        if value.dtype.kind in "fiubc" and value.dtype.itemsize <= (16 if value.dtype.kind == "c" else 8):
            native = value.astype(value.dtype.newbyteorder("="))
            return torch.from_numpy(native.astype(np.float64) if value.dtype.kind == "u" else native.copy())
        return [str(item)[:1000] for item in value.ravel()[:10_000]] if value.ndim else str(value.item())[:1000]
    if depth < _DEEPEST:
        if isinstance(value, dict):
            return {key: _plain(item, budget, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [_plain(item, budget, depth + 1) for item in value]
    return value


__all__ = ["outline", "read_arrays", "shape_text"]
