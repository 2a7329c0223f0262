"""Outputs that are complete or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from stkit.errors import OutputError

_TEMPORARY = re.compile(r"\..{0,40}-[0-9a-f]{12}(\.\w+)?")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` (same suffix), renamed to it when the block ends well.

    Missing parent folders are made. On any failure the temporary file is removed, `path` stays
    as it was, and an OSError becomes an OutputError that names the path.
    """
    path = Path(path)
    temporary = path.parent / f".{path.stem[:40]}-{secrets.token_hex(6)}{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # by the umask, unlike the files of tempfile
        yield temporary
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; choose another place with --out") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left in `folder`; no other process may be writing there."""
    if folder.is_dir():
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, complete or not at all. Raises OutputError."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_all(contents: Mapping[Path, bytes], overwrite: bool = False) -> None:
    """Write several files. A file that is there with other bytes is in the way, and then none is written.

    So the same command may be run again; `overwrite` replaces what is there. Raises OutputError.
    """
    if not overwrite:
        for path, data in contents.items():
            if _differs(path, data):
                raise OutputError(f"{path} is there already, with other content; --overwrite replaces it")
    for path, data in contents.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)


def _differs(path: Path, data: bytes) -> bool:
    try:
        return path.exists() and path.read_bytes() != data
    except OSError:  # what cannot be read would be lost too
        return True


def file_sha256(path: Path) -> str:
    """The sha256 of a file in hexadecimal, read in pieces. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


__all__ = ["atomic_path", "file_sha256", "remove_leftovers", "write_all", "write_text"]
