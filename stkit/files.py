"""Outputs that are complete or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from stkit.errors import OutputError


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


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, complete or not at all. Raises OutputError."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


__all__ = ["atomic_path", "write_text"]
