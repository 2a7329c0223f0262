"""Outputs that are complete or not there: written under a temporary name, then renamed; and what they may be called."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import stat
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from stkit.errors import OutputError, reason_of
from stkit.remote import RemotePath, upload

LOCK = ".stkit.lock"
"""The file in a folder that something is made in, held locked meanwhile; a folder with one in it holds no photos."""

_NAME_BYTES = 100
"""Of a name: two of them and the endings of results still make a file name of less than 255 bytes."""

_DEEPEST = 20
_MOST_JSON = 32 * 2**20  # letters; Python takes twenty times as much memory
MOST_LINES = 2**28
"""Bytes of what runs write line by line."""

_TURNING = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"  # writing, or a line
_UNSAFE = re.compile(rf"[\x00-\x1f\x7f-\x9f{_TURNING}<>:\"/\\|?*]")
_UNPRINTABLE = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_TURNING}\ud800-\udfff]")
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])\s*(\..*)?", re.IGNORECASE)
_MARKED = re.compile(r"~[0-9a-f]{16}(\.\w{1,10})?$", re.ASCII)
_TEMPORARY = re.compile(r"\..{0,40}-[0-9a-f]{12}(\.\w+)?")


def safe_name(text: str, size: int = _NAME_BYTES) -> str:
    """A name for a file or folder made of `text`, which may come from anywhere: one component of a path, never more.

    `text` itself where every file system takes it for a name, which is at most `size` bytes long, neither empty nor
    hidden nor the name of a device, without separators, drive letters and what `printable` escapes. Otherwise
    `marked_name(text, text)`; so is what looks like one already, so that two texts never give one name.
    """
    plain = _cleaned(text)
    if plain == text and len(_encoded(text)) <= size and not _MARKED.search(text):
        return text
    return marked_name(text, text, size)


def marked_name(look: str, source: str, size: int = _NAME_BYTES) -> str:
    """A safe name that looks like `look`, with a hash of `source` before its suffix: another source, another name.

    It is at most `size` bytes long, which are 40 at least.
    """
    stem, suffix = os.path.splitext(_cleaned(look))
    if not re.fullmatch(r"\.\w{1,10}", suffix, re.ASCII):
        stem, suffix = stem + suffix, ""
    mark = f"~{hashlib.sha256(source.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}{suffix}"
    return (_encoded(stem)[: size - len(mark)].decode("utf-8", "ignore").rstrip(". ") or "_") + mark


def _cleaned(text: str) -> str:
    """`text` with `_` for what file systems do not take, or take for something else."""
    try:
        decoded = _encoded(text).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        decoded = ""
    if decoded != text:  # surrogates that are no bytes of a file name, or bytes that would be read as another text
        text = re.sub("[\ud800-\udfff]", "_", text)
    text = _UNSAFE.sub("_", text).rstrip(". ")
    return f"_{text[text.startswith('.') :]}" if not text or text.startswith(".") or _DEVICE.fullmatch(text) else text


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def require_file(path: Path, most: int | None = None) -> None:
    """Raise OSError for pipes and devices, which may never end, and for files of more than `most` bytes."""
    if isinstance(path, RemotePath):
        size = path.described().get("size") or 0
    else:
        state = path.stat()
        size = state.st_size
        if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device and no file", str(path))
    if most is not None and size > most:
        raise OSError(errno.EFBIG, f"it has {size:,} bytes, more than any file of its kind", str(path))


def no_folders(folder: Path, pattern: str) -> list[Path]:
    """What is called like `pattern` in `folder`: files, and pipes, devices and broken links, of which reading tells."""
    return sorted(path for path in folder.glob(pattern) if not path.is_dir())


def read_bytes(path: Path, most: int) -> bytes:
    """The bytes of a file that may come from anywhere. Raises OSError, also as `require_file` does."""
    require_file(path, most)
    return path.read_bytes()


def read_text(path: Path, most: int = _MOST_JSON, encoding: str = "utf-8") -> str:
    """The text of a file that may come from anywhere. Raises OSError as `read_bytes`, and ValueError for no text."""
    return read_bytes(path, most).decode(encoding)


def parse_json(text: str | bytes, most: int = _MOST_JSON) -> Any:
    """JSON out of a file that may come from anywhere. Raises ValueError for what is none, is huge or nested deeply."""
    if len(text) > most:
        raise ValueError(f"JSON of more than {most:,} letters")
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    except ValueError as error:
        if isinstance(error, (json.JSONDecodeError, UnicodeError)):
            raise
        raise ValueError("a number of thousands of digits") from None  # Python's own words name its settings
    level = [data]
    for _ in range(_DEEPEST):
        level = [child for value in level for child in _children(value)]
        if not level:
            return data
    raise ValueError("JSON nested too deeply")


@contextlib.contextmanager
def left_by_a_run(path: Path) -> Iterator[None]:
    """Raise OutputError for what goes wrong in reading `path`, which an earlier run has left."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise OutputError(f"{path} is damaged ({reason_of(error)}); delete it and start again") from error


def read_left(path: Path) -> dict[str, Any]:
    """The JSON object that an earlier run has left. Raises OutputError where it is damaged."""
    with left_by_a_run(path):
        found = parse_json(read_text(path))
        if not isinstance(found, dict):
            raise ValueError("no dict")
    return found


def read_left_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects, one a line, that an earlier run has left. Raises OutputError where one is damaged."""
    with left_by_a_run(path):
        rows = [parse_json(line) for line in read_lines(path)]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line that is no object")
    return rows


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that may come from anywhere. Raises OSError, ValueError as `read_text`."""
    return read_text(path, MOST_LINES).splitlines()


def _children(value: Any) -> Iterable[Any]:
    """The lists and dictionaries that `value` holds itself."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in values if isinstance(child, (dict, list))]


def printable(text: str) -> str:
    """`text` for a terminal or a report: control characters, what turns writing round and lone surrogates as \\x1b, ...

    Line ends and tabs stay.
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """`text` with single spaces for line ends and other white space."""
    return " ".join(text.split())


def name_key(name: str) -> str:
    """Equal for names that some file system takes for the same."""
    return unicodedata.normalize("NFC", name).casefold()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` (same suffix), renamed to it when the block ends well.

    Missing parent folders are made. On any failure the temporary file is removed, `path` stays
    as it was, and an OSError becomes an OutputError that names the path.
    """
    if isinstance(path, RemotePath):
        try:
            with upload(path) as local:
                yield local
        except OSError as error:
            raise _unwritable(path, error) from error
        return
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # by the umask, unlike the files of tempfile
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {reason_of(error)}; choose another place with --out or STKIT_HOME")


def _temporary(path: Path) -> Path:
    return path.parent / f".{path.stem[:40]}-{secrets.token_hex(6)}{path.suffix}"


@contextlib.contextmanager
def reserved(path: Path, size: int) -> Iterator[Callable[[], None]]:
    """Keep `size` bytes of the disk free for `path`, until the function that is given is called. Raises OutputError."""
    if isinstance(path, RemotePath):
        yield lambda: None
        return
    held = _temporary(path)
    with contextlib.ExitStack() as freed:
        freed.callback(held.unlink, missing_ok=True)
        try:
            held.write_bytes(bytes(size))
        except OSError as error:
            raise _unwritable(path, error) from error
        yield freed.close


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left in `folder`; no other process may be writing there."""
    if not isinstance(folder, RemotePath) and folder.is_dir():
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    path.unlink()


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """The folder `out`, made where it is missing, for this process alone; a killed process leaves no lock behind.

    A folder on another machine (`RemotePath`) is marked as one of results, and not locked.

    Raises OutputError when another process holds it or nothing can be written there.
    """
    if isinstance(out, RemotePath):
        write_all({out / LOCK: b""}, overwrite=True)  # nothing can be held there; it says what the folder is
        yield
        return
    import filelock

    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / LOCK, blocking=False)
        lock.acquire()
    except filelock.Timeout:
        raise OutputError(
            f"another stkit is writing to {out}; wait until it is done, or choose another folder with --out"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise OutputError(f"cannot write to {out}: {reason_of(error)}; choose another folder with --out") from error
    try:
        remove_leftovers(out)
        yield
    finally:
        lock.release()


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
        return path.exists() and read_bytes(path, len(data)) != data
    except OSError:  # what cannot be read would be lost too
        return True


def require_apart(archive: zipfile.ZipFile, size: int) -> None:
    """Raise BadZipFile when members of an archive of `size` bytes share their bytes, or lie beyond its end.

    Kilobytes can stand for terabytes so.
    """
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise zipfile.BadZipFile(f"its files lie over each other at {info.filename[:60]}")
        end = info.header_offset + 30 + info.compress_size
        if end > size:
            raise zipfile.BadZipFile(f"its {info.filename[:60]} lies beyond its end")


def read_packed(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A file of an archive, never more of it than `info.file_size`, whatever it would unpack to.

    Raises what `ZipFile.read` raises; BadZipFile also for packings that cannot be unpacked piece by piece.
    """
    if info.flag_bits & 1:
        raise zipfile.BadZipFile("it is encrypted; unpack the archive with its password first")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile("it is packed in an unusual way; pack it again as ordinary ZIP")
    with archive.open(info) as file:
        return b"".join(iter(lambda: file.read(2**20), b""))


def file_sha256(path: Path) -> str:
    """The sha256 of a file in hexadecimal, read in pieces. Raises OSError."""
    require_file(path)
    with path.open("rb") as file:
        return sha256_of(file)


def sha256_of(file: BinaryIO) -> str:
    """The sha256 in hexadecimal of what is left to read of an open file, read in pieces. Raises OSError."""
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


__all__ = [
    "LOCK",
    "MOST_LINES",
    "atomic_path",
    "file_sha256",
    "left_by_a_run",
    "locked",
    "marked_name",
    "name_key",
    "no_folders",
    "one_line",
    "parse_json",
    "printable",
    "read_bytes",
    "read_left",
    "read_left_lines",
    "read_lines",
    "read_packed",
    "read_text",
    "remove_leftovers",
    "require_apart",
    "require_file",
    "reserved",
    "safe_name",
    "sha256_of",
    "write_all",
    "write_text",
]
