"""Where each tensor of a model lies in a foreign file: one table for reading and for writing.

A layout takes the names of our tensors to `Entry`s. Reading by it is strict: every tensor of the model is found
with its shape, and nothing is left over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from stkit.checkpoints.stored import StoredTensor, as_tensor, require_own_numbers
from stkit.errors import WeightsError
from stkit.tensors import state_shapes
from stkit.weights import Header

Shape = tuple[int, ...]
State = Mapping[str, StoredTensor | Tensor]

_AT_MOST = 10


@dataclass(frozen=True)
class Entry:
    """A tensor in a foreign file; `convert` makes ours of it where that takes more than another shape."""

    key: str
    shape: Shape
    convert: Callable[[Tensor], Tensor] | None = None


Layout = Mapping[str, Entry]


@dataclass(frozen=True, eq=False)
class Part:
    """A model that a checkpoint holds: what it would be here, and how to get it.

    `kind`, `architecture` and `config` are those of a weights file's header (`stkit.weights.Header`),
    and `convert()` gives its tensors. Raises WeightsError when the file does not hold what it seems to.
    `header` is there for files of stkit's own, which say more of themselves.
    """

    kind: str
    architecture: str
    config: Mapping[str, Any]
    convert: Callable[[], dict[str, Tensor]]
    header: Header | None = None


@dataclass(frozen=True, eq=False)
class Recognised:
    """What a checkpoint is. `facts` are for people; `notes` say what an import should know."""

    family: str
    what: str
    parts: tuple[Part, ...]
    facts: Mapping[str, str]
    notes: tuple[str, ...] = ()


def take(
    layout: Layout, shapes: Mapping[str, Shape], state: State, what: str, ignore: Iterable[str] = ()
) -> dict[str, Tensor]:
    """Our tensors of `shapes`, each from its place in `state`.

    `ignore` are keys of `state` that are constants or belong to other parts. Raises WeightsError with
    what is missing, left over or of another shape.
    """  # fmt: skip
    ignored = set(ignore)
    expected = {entry.key: entry.shape for entry in layout.values()}
    odd = [f"{key[:120]}, a {type(value).__name__}" for key, value in state.items() if not hasattr(value, "shape")]
    if odd:
        raise WeightsError(f"no {what} that stkit knows: {len(odd)} entries are no tensors: {_first(odd)}")
    found = {key: tuple(value.shape) for key, value in state.items() if key not in ignored}
    if found != expected:
        raise WeightsError(f"no {what} that stkit knows: {difference(expected, found)}")
    require_own_numbers(state[key] for key in found)
    out = {}
    for name, entry in layout.items():
        value = as_tensor(state[entry.key])
        out[name] = (entry.convert(value) if entry.convert else value).reshape(shapes[name]).contiguous()
    return out


def size_of(state: State, name: str, dimension: int, what: str) -> int:
    """A size of the tensor `name`. Raises WeightsError, which says that the file is not `what`."""
    shape = getattr(state.get(name), "shape", ())
    if len(shape) <= dimension:
        raise WeightsError(f"not {what}: {name} is missing or of another shape")
    return int(shape[dimension])


def give(layout: Layout, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` of ours under their foreign names and shapes; for layouts that need no `convert`."""
    return {entry.key: tensors[name].reshape(entry.shape).contiguous() for name, entry in layout.items()}


def difference(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> str:
    """What differs, at most ten of each kind, and the likely cause, in one line."""
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    wrong = [
        f"{key} {found[key]} and not {expected[key]}"
        for key in expected
        if key in found and found[key] != expected[key]
    ]
    listed = (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
    parts = [f"{len(keys)} {noun}: {_first(keys)}" for noun, keys in listed if keys]
    return f"{'; '.join(parts)} ({_cause(missing, unexpected, wrong)})"


def _first(keys: list[str]) -> str:
    return ", ".join(str(key)[:120] for key in keys[:_AT_MOST]) + (", ..." if len(keys) > _AT_MOST else "")


def _cause(missing: list[str], unexpected: list[str], wrong: list[str]) -> str:
    if any("embed" in key.lower() for key in unexpected):
        return "likely a class-conditional model, which stkit does not run"
    if any("skip" in key.lower() for key in unexpected):
        return "likely a residual architecture; stkit runs the skip generator of config-f"
    if missing and unexpected:
        return "likely another architecture, or keys that were renamed"
    if missing:
        return "likely an incomplete checkpoint, or one of a part of the model alone"
    if unexpected:
        return "likely a model with additions that stkit does not know"
    return "likely another table of channels, or image channels other than RGB"


__all__ = [
    "Entry",
    "Layout",
    "Part",
    "Recognised",
    "Shape",
    "State",
    "difference",
    "give",
    "size_of",
    "state_shapes",
    "take",
]
