"""Photos inside ZIP and tar archives and Parquet files: `album.zip/trip/x.jpg` is a path like any other."""

from __future__ import annotations

import functools
import os
import tarfile
import threading
import weakref
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from stkit.errors import PhotoError, StkitError, reason_of
from stkit.files import marked_name, read_packed, require_apart, require_file, safe_name
from stkit.photo.parquet import ParquetImages
from stkit.remote import RemotePath

ARCHIVE_SUFFIXES = (".zip", ".tar", ".parquet")
_MAX_BYTES = 2**28  # of one member
_MAX_NAME = 255  # bytes; longer names no folder has either


@dataclass(frozen=True, eq=False)
class Archive:
    """An open archive: its files by their path inside, and the paths that it holds more than once.

    Paths lead nowhere but into the archive, and names that are too long for a file are shortened. `unpack` gives the
    bytes of one of `members`, and takes its path for messages.
    """

    members: dict[PurePosixPath, Any]
    repeated: frozenset[PurePosixPath]
    unpack: Callable[[Any, Path], bytes]


def open_archive(path: Path) -> Archive:
    """The archive at `path`. Raises PhotoError when it cannot be read."""
    try:
        if isinstance(path, RemotePath):
            known = path.described()
            return _open(path, repr(sorted(known.items(), key=str)), known.get("size") or 0)
        require_file(path)
        state = path.stat()
        return _open(path, state.st_mtime_ns, state.st_size)
    except FileNotFoundError as error:
        raise PhotoError(f"there is no file {path}; check the name") from error
    except StkitError:
        raise
    except Exception as error:  # what is damaged fails in as many ways as there are formats
        kind, reason = path.suffix[1:], reason_of(error)
        kind = {"zip": "a ZIP", "tar": "a tar"}.get(kind.lower(), f"a {kind}")
        raise PhotoError(f"cannot read {path} as {kind} archive: {reason}; copy or download it again") from error


@functools.lru_cache(maxsize=2)
def _open(path: Path, version: Any, size: int) -> Archive:
    """The archive that has this `version` and `size` (bytes)."""
    file = path.open("rb")
    try:
        if path.suffix.lower() == ".parquet":
            images = ParquetImages(file)
            archive = _archive(((name, row) for row, name in enumerate(images.names)), images.read)
        elif path.suffix.lower() == ".tar":
            archive = _open_tar(file)
        else:
            zipped = zipfile.ZipFile(file)
            require_apart(zipped, size)
            files = ((info.filename, info) for info in zipped.infolist() if not info.is_dir())
            archive = _archive(files, functools.partial(_unpack, zipped))
    except BaseException:
        file.close()
        raise
    weakref.finalize(archive, file.close)
    return archive


def _open_tar(file: IO[bytes]) -> Archive:
    lock = threading.Lock()

    def read(place: tuple[int, int], where: Path) -> bytes:
        _require_small(place[1], where)
        with lock:
            file.seek(place[0])
            data = file.read(place[1])
        if len(data) < place[1]:
            raise PhotoError(f"{where} is cut off; copy or download the archive again")
        return data

    with tarfile.open(fileobj=file, mode="r:") as tar:
        # A sparse file is not stored as it is.
        files = [(info.name, (info.offset_data, info.size)) for info in tar if info.isreg() and not info.issparse()]
    return _archive(files, read)


def _archive(files: Iterable[tuple[str, Any]], read: Callable[[Any, Path], bytes]) -> Archive:
    """The archive of files with these names."""
    members: dict[PurePosixPath, Any] = {}
    names: dict[PurePosixPath, str] = {}
    repeated = set()
    for name, member in files:
        # Some Windows programs write backslashes; parts that lead out of the archive lead nowhere here.
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            continue
        inside = PurePosixPath(*map(_shortened, parts))
        while inside in members and names[inside] != name:  # `a/x.jpg` and `../a/x.jpg`
            inside = inside.with_name(marked_name(inside.name, name))
        if inside in members:
            repeated.add(inside)
        members[inside], names[inside] = member, name
    return Archive(members, frozenset(repeated), read)


def _shortened(part: str) -> str:
    """A name of no more bytes than a file's may have; what is hidden stays so."""
    if len(os.fsencode(part)) <= _MAX_NAME:
        return part
    return "." * part.startswith(".") + safe_name(part)


def _unpack(file: zipfile.ZipFile, info: zipfile.ZipInfo, where: Path) -> bytes:
    """The bytes of a member, `where` for messages. Raises PhotoError, also for one larger than any photo."""
    if info.flag_bits & 1:
        raise PhotoError(f"{where} is encrypted; unpack the archive with its password first")
    _require_small(info.file_size, where)
    try:
        return read_packed(file, info)
    except Exception as error:  # a damaged member fails in as many ways as there are compression methods
        raise PhotoError(f"{where} is damaged ({reason_of(error)}); copy or download the archive again") from error


def _require_small(size: int, where: Path) -> None:
    if size > _MAX_BYTES:
        raise PhotoError(f"{where} would unpack to more than 256 MiB; unpack the archive and name the photo")


def split_zip(path: Path) -> tuple[Path, PurePosixPath] | None:
    """The archive and the path inside it when `path` leads into one, otherwise None.

    Of another machine, what is called like an archive is taken for one.
    """
    for parent in path.parents:
        if parent.suffix.lower() in ARCHIVE_SUFFIXES and (isinstance(parent, RemotePath) or parent.is_file()):
            return parent, PurePosixPath(path.relative_to(parent).as_posix())
    return None


def read_member(archive: Path, member: PurePosixPath) -> bytes:
    """The bytes of a file inside an archive. Raises PhotoError."""
    opened = open_archive(archive)
    where = archive / member
    info = opened.members.get(member)
    if info is None:
        raise PhotoError(f"there is no file {member} in {archive}; check the name")
    try:
        return opened.unpack(info, where)
    except OSError as error:
        raise PhotoError(f"cannot read {where}: {reason_of(error)}; try again") from error


__all__ = ["ARCHIVE_SUFFIXES", "Archive", "open_archive", "read_member", "split_zip"]
