"""Running `stkit` in process: exit code and what is printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Result:
    code: int
    out: str
    err: str


Cli = Callable[..., Result]
Said = Callable[..., str]


def error_line(result: Result) -> str:
    """The one line of an error; nothing else may be on stderr but notes and warnings."""
    lines = [line for line in result.err.splitlines() if not line.startswith(("note:", "warning:"))]
    assert len(lines) == 1, result.err
    assert lines[0].startswith("error: ")
    return lines[0]
