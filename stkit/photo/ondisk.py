"""The bytes of a photo's file: in memory, or of a large one on disk, where its picture needs the memory."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from stkit.errors import PhotoError, reason_of
from stkit.files import sha256_of

T = TypeVar("T")

LARGE_FILE = 2**26
"""Bytes of a file that is not kept in memory."""


@dataclass(frozen=True)
class OnDisk:
    """A file of `size` bytes, last changed at `changed` (ns), that is read again whenever its bytes are needed."""

    path: Path
    size: int
    changed: int


PhotoBytes = bytes | OnDisk


@contextmanager
def opened(data: PhotoBytes) -> Iterator[BinaryIO]:
    """A file to read `data` from. Raises PhotoError where it is gone or another one has taken its place."""
    if isinstance(data, bytes):
        yield io.BytesIO(data)
        return
    try:
        file = data.path.open("rb")
    except OSError as error:
        raise _unreadable(data, error) from error
    with file:
        state = os.fstat(file.fileno())
        if (state.st_size, state.st_mtime_ns) != (data.size, data.changed):
            raise PhotoError(f"{data.path} changed while it was read; start again")
        yield file


def head(data: PhotoBytes) -> bytes:
    """The first bytes, which tell the kind of a file. Raises PhotoError."""
    return _taken(data, lambda file: file.read(16))


def whole(data: PhotoBytes) -> bytes:
    """All bytes, in memory. Raises PhotoError."""
    return _taken(data, lambda file: file.read())


def fingerprint(data: PhotoBytes) -> str:
    """The sha256 in hexadecimal. Raises PhotoError."""
    return _taken(data, sha256_of)


def _taken(data: PhotoBytes, read: Callable[[BinaryIO], T]) -> T:
    with opened(data) as file:
        try:
            return read(file)
        except OSError as error:  # a disk that fails
            raise _unreadable(data, error) from error


def _unreadable(data: PhotoBytes, error: OSError) -> PhotoError:
    path = data.path if isinstance(data, OnDisk) else "the photo"
    return PhotoError(f"{path} cannot be read any more: {reason_of(error)}; start again")


__all__ = ["LARGE_FILE", "OnDisk", "PhotoBytes", "fingerprint", "head", "opened", "whole"]
