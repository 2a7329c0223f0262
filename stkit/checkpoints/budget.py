"""What reading one file may cost: a few kilobytes can ask for hours and terabytes."""

from __future__ import annotations

from stkit.errors import WeightsError

_STEPS = 500_000  # of some microseconds and a few hundred bytes each; four times what the largest checkpoint takes
_SPARE = 256 * 2**20  # bytes


class Budget:
    """Counts the steps and the bytes of copies that reading one file takes, whatever is nested in it.

    Each object of a file may be looked at once, and its bytes copied about twice.
    """

    def __init__(self, size: int, steps: int | None = None) -> None:
        self._steps = _STEPS if steps is None else steps
        self._bytes = 2 * size + _SPARE

    def step(self, count: int = 1) -> None:
        """Note `count` steps. Raises WeightsError when there were too many."""
        self._steps -= count
        if self._steps < 0:
            raise WeightsError("it takes more steps to read than any checkpoint; download or copy it again")

    def copy(self, count: int) -> None:
        """Note `count` bytes that are there once more in memory. Raises WeightsError when there were too many."""
        self._bytes -= count
        if self._bytes < 0:
            raise WeightsError("it takes many times its own size in memory, which no honest file does")


__all__ = ["Budget"]
