"""Room in memory: threads that decode photos at once stay under a bound together, and a large photo waits its turn."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Iterator

ROOM = 1_500_000_000
"""Bytes that photos of all threads may take at once; one that needs more has it to itself."""


class _Room:
    """What is taken of ROOM by all threads."""

    def __init__(self) -> None:
        self.taken = 0
        self.changed = threading.Condition()

    def take(self, amount: int, wait: bool) -> None:
        with self.changed:
            if wait:
                self.changed.wait_for(lambda: self.taken + amount <= ROOM)
            self.taken += amount

    def give_back(self, amount: int) -> None:
        with self.changed:
            self.taken -= amount
            self.changed.notify_all()


_room = _Room()
_taken: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("taken", default=None)


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """What this thread takes inside is given back at the end; a turn within a turn is part of it."""
    if _taken.get() is not None:
        yield
        return
    amounts: list[int] = []
    token = _taken.set(amounts)
    try:
        yield
    finally:
        _taken.reset(token)
        _room.give_back(sum(amounts))


def take(amount: int) -> None:
    """Wait until there is room for `amount` bytes, and take it until the end of this thread's turn.

    A turn that has taken some already does not wait: what it waits for might wait for it.
    """
    amounts = _taken.get()
    if amounts is not None:
        _room.take(min(amount, ROOM), wait=not amounts)
        amounts.append(min(amount, ROOM))


__all__ = ["ROOM", "take", "turn"]
