"""Files of stkit's own with something else in them than stkit writes: other types, other sizes, other shapes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

ODD: list[Any] = [
    None, True, -1, 0, 3, 60000, 50_000_000, 2**63, 1e308, 0.5, "", "x", "../x", "\x1b[2Jx", "x" * 20_000, [], [[]],
    ["x"], [1.5] * 3, [[1, 2], [3]], {}, {"x": 1}, {"x": {"y": []}},
]  # fmt: skip
"""What a key of a header may hold instead of what belongs there."""


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places in JSON, the whole included, and not more than two of a list."""
    yield path
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, (*path, key))
    elif isinstance(data, list):
        for i, value in enumerate(data[:2]):
            yield from leaves(value, (*path, i))


def with_value(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """`data` with `value` at a place."""
    if not path:
        return value
    changed = list(data) if isinstance(data, list) else dict(data)
    changed[path[0]] = with_value(data[path[0]], path[1:], value)
    return changed


def without(data: Any, path: tuple[Any, ...]) -> Any:
    """`data` without what is at a place."""
    changed = list(data) if isinstance(data, list) else dict(data)
    if len(path) == 1:
        del changed[path[0]]
    else:
        changed[path[0]] = without(data[path[0]], path[1:])
    return changed


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file."""
    with safetensors.safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file; the header of weights is signed as stkit signs it."""
    said = dict(metadata)
    if "stkit" in said:
        said["sha256"] = hashlib.sha256(said["stkit"].encode()).hexdigest()
    path.write_bytes(safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}, metadata=said))


def odd_headers(path: Path, key: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each change of the JSON under `key` of the metadata of `path`: what it is, and what makes it."""
    tensors, metadata = read(path)
    data = json.loads(metadata[key])

    def change(text: str) -> Callable[[], None]:
        return lambda: write(path, tensors, {**metadata, key: text})

    def replace(place: tuple[Any, ...], value: Any) -> Callable[[], None]:
        return lambda: change(json.dumps(with_value(data, place, value)))()

    def leave_out(place: tuple[Any, ...]) -> Callable[[], None]:
        return lambda: change(json.dumps(without(data, place)))()

    for place in leaves(data):
        for value in ODD:
            yield f"{path.name}: {place} is {str(value)[:30]}", replace(place, value)
        if place:
            yield f"{path.name}: {place} is left out", leave_out(place)
    yield f"{path.name}: deep", change("[" * 100_000 + "]" * 100_000)
    yield f"{path.name}: deep in it", change('{"notes":' + "[" * 900 + "]" * 900 + "}")
    yield f"{path.name}: long integer", change("1" * 5000)
    yield f"{path.name}: no JSON", change("{")


def odd_tensors(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each change of the tensors of `path`, their fingerprint made right."""
    from stkit.tensors import tensors_fingerprint

    tensors, metadata = read(path)
    header = json.loads(metadata["stkit"]) if "stkit" in metadata else None

    def change(changed: Mapping[str, Tensor]) -> Callable[[], None]:
        def make() -> None:
            said = dict(metadata)
            if header is not None:
                own = tensors_fingerprint(changed)
                theirs = own if header["generator"] == header["fingerprint"] else header["generator"]
                said["stkit"] = json.dumps({**header, "fingerprint": own, "generator": theirs})
            write(path, changed, said)

        return make

    for name, value in list(tensors.items())[:6]:
        others = {
            "a scalar": torch.tensor(1.0), "empty": torch.empty(0), "of no rows": torch.empty(0, *value.shape[1:]),
            "int": torch.zeros(value.shape, dtype=torch.int64), "bool": torch.zeros(value.shape, dtype=torch.bool),
            "nan": torch.full(value.shape, torch.nan), "flat": torch.ones(max(1, value.numel())), "wider": torch.ones(
                *value.shape, 2), "huge and empty": torch.empty(0, 2**40), "complex": torch.zeros(3).to(torch.cfloat),
            "float8": torch.zeros(3).to(torch.float8_e4m3fn), "half": torch.zeros(value.shape).half(),
        }  # fmt: skip
        for what, other in others.items():
            yield f"{path.name}: {name} is {what}", change({**tensors, name: other})
        yield f"{path.name}: no {name}", change({k: v for k, v in tensors.items() if k != name})
    yield f"{path.name}: no tensors", change({})
    yield f"{path.name}: one more", change({**tensors, "x": torch.zeros(2)})
    yield f"{path.name}: styles.50000000", change({**tensors, "styles.50000000": torch.zeros(2)})
