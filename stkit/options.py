"""Options of plugins: pydantic models filled from Python keywords or from `-o KEY=VALUE`."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic

from stkit.errors import UsageError


class Options(pydantic.BaseModel):
    """Base of every plugin's nested `Options` class. Unknown keys are errors, and so are numbers that are none."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


OptionsT = TypeVar("OptionsT", bound=Options)


def build_options(cls: type[OptionsT], values: dict[str, Any]) -> OptionsT:
    """Validate `values` into `cls`; raises UsageError naming the key, the fault and the known keys."""
    try:
        return cls(**values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(cls.model_fields) or "none"
            raise UsageError(f"unknown option '{key}'; known options: {known}") from error
        raise UsageError(f"option '{key}': {first['msg']} (got {first.get('input')!r})") from error


def first_fault(error: pydantic.ValidationError) -> str:
    """What is wrong with data that a file holds, in some words."""
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(str(part)[:60] for part in first["loc"])
    given = first.get("input")
    shown = f"{given!r}"[:40] if isinstance(given, (str, bool, float, type(None))) else type(given).__name__
    what = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"'{key}' {what} (it is {shown})" if key else f"it {what} (it is {shown})"


def parse_options(cls: type[OptionsT], pairs: Iterable[str]) -> OptionsT:
    """Options from `KEY=VALUE` tokens; pydantic converts the text. A key given twice is an error."""
    return build_options(cls, split_pairs(pairs))


def split_pairs(pairs: Iterable[str]) -> dict[str, Any]:
    """The keys and texts of `KEY=VALUE` tokens. Raises UsageError for another form and for a key given twice."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise UsageError(f"option '{pair}' is not of the form KEY=VALUE")
        if key in values:
            raise UsageError(f"option '{key}' is given twice; keep one of them")
        values[key] = value
    return values


def edit_strength(text: str, flag: str) -> tuple[str, float]:
    """What is edited, and how far, of `age=1.5`. Raises UsageError that names the flag."""
    name, _, number = text.rpartition("=")
    try:
        strength = float(number)
    except ValueError:
        strength = math.nan
    if not name.strip() or not math.isfinite(strength):
        raise UsageError(f"{flag} '{text}' is not like age=+1.5 or ganspace:pc3=-2")
    return name.strip(), strength


def comma_list(text: str) -> list[str]:
    """The names in `a,b, c`, each once, in their order."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


class LatentSpace(str, enum.Enum):
    """The space that codes live in: `w` [B, w_dim] or `w_plus` [B, num_ws, w_dim]."""

    W = "w"
    W_PLUS = "w_plus"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class LayerRange:
    """Layers `first` to `last`, both included, counted from 0 (the coarsest)."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> LayerRange:
        """From `4-7` or `5`; raises UsageError."""
        first, dash, last = text.strip().partition("-")
        try:
            parsed = cls(int(first), int(last if dash else first))
        except ValueError:
            raise UsageError(f"--layers '{text}' is not like 4-7 or 5") from None
        if not 0 <= parsed.first <= parsed.last:
            raise UsageError(f"--layers '{text}': the first must not be above the last")
        return parsed

    def indices(self, num_ws: int) -> range:
        """The layers as a range; raises UsageError when they are not all below `num_ws`."""
        if self.last >= num_ws:
            raise UsageError(f"layers {self} do not fit a generator with layers 0-{num_ws - 1}")
        return range(self.first, self.last + 1)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


__all__ = [
    "LatentSpace",
    "LayerRange",
    "Options",
    "build_options",
    "comma_list",
    "edit_strength",
    "first_fault",
    "parse_options",
    "split_pairs",
]
