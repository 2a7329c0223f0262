"""What a user can get wrong, said in one line with the mend."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_LONG = 400  # characters of a reason; compilers give theirs with the whole program
_OBJECT = re.compile(r"( (?:of|in|from|for|with|file|object|stream))* ?<[A-Za-z_][\w.]* [^<>]*>")
_ADVICE = re.compile(r"(; use sys\.set_int_max_str_digits|\. To allow loading, ).*", re.DOTALL)  # for programmers


def reason_of(error: BaseException) -> str:
    """What an error of another library says, in one short line, without names and addresses of Python objects."""
    text = str(getattr(error, "strerror", None) or error)
    line = " ".join(_ADVICE.sub("", _OBJECT.sub("", text[: 50 * _LONG])).split()) or type(error).__name__
    return line if len(line) <= _LONG else f"{line[:_LONG].rstrip()} ..."


NO_MEMORY = "there is not enough memory for it; close other programs, make it smaller, or do fewer at once"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this machine has too little memory; libraries have several errors for that."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


class StkitError(Exception):
    """Something the user can mend. The message is one line: what is wrong, then what to do."""

    exit_code = 1


class UsageError(StkitError):
    """The command line or the call is wrong (exit code 2)."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A method, attribute, domain, weights or other name that is not there; `known` in the order to tell them."""

    def __init__(self, noun: str, name: str, known: Iterable[str]) -> None:
        known = list(known)
        begin = [other for other in known if name and other.startswith(name)]
        near = list(dict.fromkeys(begin + difflib.get_close_matches(name, known, n=3, cutoff=0.5)))[:3]
        mend = f"no {noun} is installed; see `stkit plugins`"
        if known:
            mend = f"there is: {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}"
        if near:
            mend = f"did you mean {' or '.join(near)}? T{mend[1:]}"
        super().__init__(f"no {noun} named '{name}': {mend}")
        self.name = name
        self._arguments = noun, name, known

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str]]]:
        """By what it was made of, not by its message: errors come back from other processes."""
        return type(self), self._arguments


class PhotoError(StkitError):
    """A photo that cannot be read."""


class SubjectError(StkitError):
    """No usable subject (face, car) in a photo."""


class WeightsError(StkitError):
    """A weights file that is missing, damaged or of the wrong kind."""


class LatentsError(StkitError):
    """A latent file that is damaged or belongs to another generator."""


class LabelsError(StkitError):
    """A label file that cannot be read, or whose labels are not enough."""


class OutputError(StkitError):
    """An output that cannot be written."""


class MissingPackageError(StkitError):
    """An optional package is needed; the message says what to install."""


__all__ = [
    "NO_MEMORY",
    "LabelsError",
    "LatentsError",
    "MissingPackageError",
    "OutputError",
    "PhotoError",
    "StkitError",
    "SubjectError",
    "UnknownNameError",
    "UsageError",
    "WeightsError",
    "is_out_of_memory",
    "reason_of",
]
