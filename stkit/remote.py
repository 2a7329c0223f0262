"""Paths on other machines: `s3://bucket/x.jpg` is a path like any other, read and written by fsspec."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PosixPath, WindowsPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from stkit.errors import MissingPackageError, UsageError, reason_of

if TYPE_CHECKING:
    _Path = PosixPath
else:
    _Path = WindowsPath if os.name == "nt" else PosixPath

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.IGNORECASE | re.DOTALL)  # a drive has one letter

_STORES = {"abfs", "abfss", "az", "gcs", "gs", "memory", "s3", "s3a"}


class RemotePath(_Path):
    """A URL that `fsspec` opens (https://filesystem-spec.readthedocs.io), with the methods of a path that stkit uses.

    They raise OSError, whatever the protocol's library raises, and MissingPackageError where that is not installed.
    Nothing is cached, and credentials are those that the library finds. A write is complete or not there.
    """

    def __str__(self) -> str:
        found = _URL.fullmatch(super().__str__().replace("\\", "/"))
        return f"{found[1]}://{found[2]}" if found else super().__str__()  # of "s3:", whose path has no more

    def __fspath__(self) -> str:
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return as_path, (str(self),)

    def absolute(self) -> RemotePath:
        return self

    def described(self) -> dict[str, Any]:
        """What the protocol says of it, `size` (bytes, if known) and `type` ("file", "directory") among it."""
        with _as_oserror(self):
            system, name = _system(self)
            return dict(system.info(name))

    def stat(self, **_: Any) -> os.stat_result:
        """Kind and size, and a number that is its own; nothing else is known."""
        said = self.described()
        kind = stat.S_IFDIR if said["type"] == "directory" else stat.S_IFREG
        return os.stat_result((kind, hash(self), 0, 1, 0, 0, said.get("size") or 0, 0, 0, 0))

    def _is(self, kind: str) -> bool:
        try:
            return kind in ("any", self.described()["type"])
        except FileNotFoundError:
            return False

    def exists(self, **_: Any) -> bool:
        return self._is("any")

    def is_file(self, **_: Any) -> bool:
        return self._is("file")

    def is_dir(self, **_: Any) -> bool:
        return self._is("directory")

    def is_symlink(self) -> bool:
        return False

    def open(self, mode: str = "rb", *_: Any, **__: Any) -> Any:
        """The file, to be read here and there."""
        with _as_oserror(self):
            system, name = _system(self)
            return system.open(name, mode, block_size=2**18)

    def read_bytes(self) -> bytes:
        with _as_oserror(self):
            system, name = _system(self)
            return system.cat_file(name)

    def read_text(self, encoding: str | None = None, *_: Any, **__: Any) -> str:
        return self.read_bytes().decode(encoding or "utf-8")

    def write_bytes(self, data: Any) -> int:
        with _as_oserror(self):
            system, name = _system(self)
            system.pipe_file(name, bytes(data))
        return len(data)

    def unlink(self, missing_ok: bool = False) -> None:
        with _as_oserror(self), contextlib.suppress(*([FileNotFoundError] if missing_ok else [])):
            system, name = _system(self)
            system.rm_file(name)

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Nothing: buckets have no folders."""

    def glob(self, pattern: str, **_: Any) -> Iterator[RemotePath]:  # type: ignore[override]
        with contextlib.suppress(FileNotFoundError):
            yield from (self / pattern).find()

    def find(self) -> list[RemotePath]:
        """All files below it, or that match its wildcards, in order."""
        with _as_oserror(self):
            system, name = _system(self)
            names = system.glob(name) if any(one in name for one in "*?[") else system.find(name)
            return sorted(RemotePath(system.unstrip_protocol(name)) for name in names)


def is_remote(text: str | os.PathLike[str]) -> bool:
    """Whether a name is a URL that is not of this machine's files."""
    found = _URL.match(os.fspath(text))
    return found is not None and found[1].lower() != "file"


def is_store(text: str) -> bool:
    """Whether a name is of this machine, or of storage whose owner decides who gets in: not any address whatever."""
    return not is_remote(text) or text.partition(":")[0].lower() in _STORES


def as_path(text: str | os.PathLike[str]) -> Path:
    """The path that a name or a URL is of. Raises UsageError for a URL that is no path, like one with `//` in it."""
    name = os.fspath(text)
    if name.lower().startswith("file:/"):
        return Path(unquote(urlsplit(name).path))
    if not is_remote(name):
        return Path(name)
    path = RemotePath(name)
    plain = re.sub(r":/+", "://", name, count=1).rstrip("/")
    if str(path) != plain:
        raise UsageError(f"{name} has an empty or a '.' part, which names no file here; rename it, or list it plainly")
    return path


@contextlib.contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """`path` itself, or where it is a URL, a temporary copy of its file on this machine. Raises OSError."""
    if not isinstance(path, RemotePath):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="stkit-") as folder:
        local = Path(folder) / f"copy{path.suffix}"
        local.write_bytes(path.read_bytes())
        yield local


@contextlib.contextmanager
def upload(path: RemotePath) -> Iterator[Path]:
    """A temporary file of this machine, which is at `path` when the block ends well. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="stkit-") as folder:
        local = Path(folder) / f"upload{path.suffix}"
        local.touch()
        yield local
        path.write_bytes(local.read_bytes())


def _system(path: RemotePath) -> tuple[Any, str]:
    """The file system of a URL, and the name there. Raises MissingPackageError, UsageError."""
    import fsspec

    url = str(path)
    try:
        system, name = fsspec.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise MissingPackageError(f"{url} needs a package of its protocol: {error}") from error
    except ValueError as error:  # a protocol that nobody knows
        raise UsageError(f"cannot open {url}: {reason_of(error)}") from error
    return system, name


@contextlib.contextmanager
def _as_oserror(path: Path) -> Iterator[None]:
    """What the libraries of protocols raise as OSError."""
    try:
        yield
    except (OSError, MissingPackageError, UsageError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {reason_of(error)}") from error


__all__ = ["RemotePath", "as_path", "is_remote", "is_store", "local_copy", "upload"]
