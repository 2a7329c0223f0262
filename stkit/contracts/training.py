"""The contract of trainings: what `stkit train NAME` trains, what it can be told, and where it says how far it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from stkit.contracts.inversion import ignore_progress

ConfigT = TypeVar("ConfigT")


def setting(help: str, *, least: float | None = None, most: float | None = None) -> Mapping[str, Any]:
    """Metadata of a field that `-o KEY=VALUE` sets, with its `help`; a number is from `least` to `most`."""
    return {"place": "option", "help": help, "least": least, "most": most}


def flag(
    help: str, *, names: str | None = None, least: float | None = None, most: float | None = None
) -> Mapping[str, Any]:
    """Metadata of a field with a flag of its own: `--steps`, or what `names` says, like "--aligned/--photos"."""
    return {**setting(help, least=least, most=most), "place": "flag", "names": names}


def argument(help: str) -> Mapping[str, Any]:
    """Metadata of a field that is given without a flag."""
    return {**setting(help), "place": "argument"}


@contextmanager
def no_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that nobody sees."""
    yield ignore_progress


@dataclass(frozen=True)
class Voice:
    """Where a training says how far it is: `say` gets lines, `bar` makes a progress bar that takes (done, total)."""

    say: Callable[[str], None] = lambda line: None
    bar: Callable[[str], AbstractContextManager[Callable[[int, int], None]]] = no_bar


SILENT = Voice()


class Trainer(ABC, Generic[ConfigT]):
    """A training, by the name that `stkit train` knows it by. Construction loads nothing."""

    name: ClassVar[str]
    description: ClassVar[str]
    """A sentence or two, for `--help`."""
    Config: type
    """A frozen dataclass of int, float, bool, str, Path, Literal, or one of them or None.

    The metadata of a field, by `argument`, `flag` or `setting`, say where the command line has it, with its help; a
    field without is a setting.
    """

    @abstractmethod
    def train(self, config: ConfigT, voice: Voice = SILENT) -> object:
        """Train; leave weights that `--weights` takes, or a checkpoint to go on from when it was interrupted.

        Raises UsageError for a config that cannot be, StkitError for what went wrong.
        """


__all__ = ["SILENT", "Trainer", "Voice", "argument", "flag", "no_bar", "setting"]
