"""What torch.save wrote, back as plain data with its tensors; nothing in it is executed, and classes are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stkit.checkpoints.budget import Budget
from stkit.checkpoints.reading import read_checkpoint
from stkit.checkpoints.stored import StoredTensor
from stkit.errors import WeightsError

_DEEPEST = 20


def read_saved(path: Path) -> Any:
    """Dictionaries, lists, tuples, text, numbers and tensors (on the CPU) of a file. Raises WeightsError."""
    content = read_checkpoint(path).objects
    budget = Budget(path.stat().st_size)
    known: dict[int, Any] = {}  # by the id of what lives in `content`

    def copied(value: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise WeightsError("nested deeper than any checkpoint, or in a circle")
        if id(value) not in known:
            known[id(value)] = new(value, depth + 1)
        return known[id(value)]

    def new(value: Any, depth: int) -> Any:
        if isinstance(value, StoredTensor):
            budget.copy(value.size)
            return value.load()
        if isinstance(value, dict):
            return {key: copied(item, depth) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)([copied(item, depth) for item in value])
        if value is not None and not isinstance(value, (str, bytes, int, float)):
            raise WeightsError(f"a {type(value).__name__} where data belongs")
        return value

    try:
        return copied(content, 0)
    except WeightsError as error:
        raise error if str(path) in str(error) else WeightsError(f"cannot read {path}: {error}") from None


__all__ = ["read_saved"]
