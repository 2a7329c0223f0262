"""Modules within modules of a pickle: a tree in honest files, anything at all in others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from stkit.checkpoints.budget import Budget
from stkit.checkpoints.stored import StoredTensor
from stkit.checkpoints.unpickle import Record
from stkit.errors import WeightsError

_MAX_NAME = 200  # letters
_MAX_PARTS = 50_000
_DEEPEST = 20

Pairs = Iterable[tuple[Any, Any]]


def module_tensors(
    root: Record, tensors: Callable[[Record], Pairs], children: Callable[[Record], Pairs], separator: str
) -> dict[str, StoredTensor]:
    """The tensors of `root` and of all modules in it, by their names with those of their modules before them.

    Entries that are None or a number are no tensors. Raises WeightsError for anything else, and for what is no tree.
    """
    found: dict[str, StoredTensor] = {}
    budget = Budget(0, _MAX_PARTS)
    waiting = [("", 0, root)]
    while waiting:
        prefix, depth, module = waiting.pop()
        if depth > _DEEPEST:
            raise WeightsError("modules nested deeper than any generator")
        for name, value in tensors(module):
            budget.step()
            if isinstance(value, StoredTensor):
                found[prefix + _short(name)] = value
            elif value is not None and not isinstance(value, (int, float)):
                raise WeightsError(f"{prefix}{_short(name)} is not a plain tensor")
        for name, child in children(module):
            budget.step()
            if isinstance(child, Record):
                waiting.append((f"{prefix}{_short(name)}{separator}", depth + 1, child))
    return found


def _short(name: Any) -> str:
    return str(name)[:_MAX_NAME]


__all__ = ["module_tensors"]
