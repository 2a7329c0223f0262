"""Photos inside ZIP archives: `album.zip/trip/x.jpg` is a path like any other."""

from __future__ import annotations

import functools
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stkit.errors import PhotoError, reason_of
from stkit.files import marked_name, read_packed, require_apart, safe_name

_MAX_BYTES = 2**28  # of one member
_MAX_NAME = 200  # bytes


@dataclass(frozen=True, eq=False)
class Archive:
    """An open ZIP archive: its files by their path inside, and the paths that it holds more than once.

    Paths lead nowhere but into the archive, and names that are too long for a file are shortened.
    """

    file: zipfile.ZipFile
    members: dict[PurePosixPath, zipfile.ZipInfo]
    repeated: frozenset[PurePosixPath]


def open_archive(path: Path) -> Archive:
    """The archive at `path`. Raises PhotoError when it cannot be read."""
    try:
        state = path.stat()
        return _open(path, state.st_mtime_ns, state.st_size)
    except FileNotFoundError as error:
        raise PhotoError(f"there is no file {path}; check the name") from error
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        reason = reason_of(error)
        raise PhotoError(f"cannot read {path} as a ZIP archive: {reason}; copy or download it again") from error


@functools.lru_cache(maxsize=2)
def _open(path: Path, modified: int, size: int) -> Archive:
    file = zipfile.ZipFile(path)
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    repeated = set()
    require_apart(file, size)
    for info in file.infolist():
        # Some Windows programs write backslashes; parts that lead out of the archive lead nowhere here.
        parts = [part for part in info.filename.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if info.is_dir() or not parts:
            continue
        inside = PurePosixPath(*(part if len(os.fsencode(part)) <= _MAX_NAME else safe_name(part) for part in parts))
        while inside in members and members[inside].filename != info.filename:  # `a/x.jpg` and `../a/x.jpg`
            inside = inside.with_name(marked_name(inside.name, info.filename))
        if inside in members:
            repeated.add(inside)
        members[inside] = info
    return Archive(file, members, frozenset(repeated))


def unpack(file: zipfile.ZipFile, info: zipfile.ZipInfo, where: Path) -> bytes:
    """The bytes of a member, `where` for messages. Raises PhotoError, also for one larger than any photo."""
    if info.flag_bits & 1:
        raise PhotoError(f"{where} is encrypted; unpack the archive with its password first")
    if info.file_size > _MAX_BYTES:
        raise PhotoError(f"{where} would unpack to more than 256 MiB; unpack the archive and name the photo")
    try:
        return read_packed(file, info)
    except Exception as error:  # a damaged member fails in as many ways as there are compression methods
        raise PhotoError(f"{where} is damaged ({reason_of(error)}); copy or download the archive again") from error


def split_zip(path: Path) -> tuple[Path, PurePosixPath] | None:
    """The archive and the path inside it when `path` leads into a ZIP file, otherwise None."""
    for parent in path.parents:
        if parent.suffix.lower() == ".zip" and parent.is_file():
            return parent, PurePosixPath(path.relative_to(parent).as_posix())
    return None


def read_member(archive: Path, member: PurePosixPath) -> bytes:
    """The bytes of a file inside a ZIP archive. Raises PhotoError."""
    opened = open_archive(archive)
    where = archive / member
    info = opened.members.get(member)
    if info is None:
        raise PhotoError(f"there is no file {member} in {archive}; check the name")
    return unpack(opened.file, info, where)


__all__ = ["Archive", "open_archive", "read_member", "split_zip", "unpack"]
