"""Checkpoint files of any kind, opened safely: plain data with `StoredTensor` leaves.

Known containers: torch's zip files and its older format, plain pickles (NVIDIA's), safetensors, OpenVINO's IR.
`torch.load` is never called. Structure comes from `stkit.checkpoints.unpickle`, which runs nothing; numbers are bytes
at a place in the file whose bounds are checked, read when they are asked for.
"""

from __future__ import annotations

import functools
import hashlib
import io
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from stkit.checkpoints.budget import Budget
from stkit.checkpoints.names import is_hostile
from stkit.checkpoints.openvino import DAMAGED_ZIP, is_openvino, open_zip, read_openvino, source_files
from stkit.checkpoints.records import Storages, plain
from stkit.checkpoints.stored import ITEM_SIZES, Read, Storage, StoredTensor, contiguous
from stkit.checkpoints.unpickle import Name, read_pickle
from stkit.errors import WeightsError, reason_of
from stkit.files import file_sha256, parse_json, require_file

OPENVINO = "OpenVINO IR"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_HEADER = 16 * 2**20  # bytes of a safetensors file's header
_MAX_TENSORS = 50_000  # of a safetensors file
_MAX_STRUCTURE = 256 * 2**20  # bytes of a zip's data.pkl: all but the numbers


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file holds: dictionaries, lists, scalars, `StoredTensor`s, and inert `Record`s for all else.

    `names` are the classes and functions that it names, `hostile` those among them that belong to
    Python itself and that no checkpoint needs. `files` are those read, where `path` is not the only one.
    """

    path: Path
    container: str
    content: Any
    names: tuple[str, ...] = ()
    hostile: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def objects(self) -> Any:
        """What was saved: of a safetensors file the tensors, without what is said beside them."""
        return self.content["tensors"] if self.container == "safetensors" else self.content

    def sha256(self) -> str:
        """That of the file; of several, that of a list of theirs. Raises OSError."""
        if not self.files:
            return file_sha256(self.path)
        listed = "".join(f"{file_sha256(path)}  {path.name}\n" for path in self.files)
        return hashlib.sha256(listed.encode()).hexdigest()


def read_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint without running anything in it. Raises WeightsError."""
    try:
        require_file(path)
        if is_openvino(path):
            files = source_files(path)
            return Checkpoint(path, OPENVINO, read_openvino(path), files=() if files == [path] else tuple(files))
        with path.open("rb") as file:
            start = file.read(16)
            container, read = _sniff(start, path)
            names: set[Name] = set()
            if container == "safetensors":
                return Checkpoint(path, container, read(path, names))
            content = read(path, names)
    except WeightsError as error:
        raise WeightsError(f"cannot read {path}: {error}") from None
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from None
    hostile = tuple(sorted(str(name) for name in names if is_hostile(name)))
    return Checkpoint(path, container, content, tuple(sorted(map(str, names))), hostile)


def refuse_hostile(checkpoint: Checkpoint) -> None:
    """Raise WeightsError when a file would run something of Python's own where it is unpickled."""
    if checkpoint.hostile:
        raise WeightsError(
            f"{checkpoint.path} would run {', '.join(checkpoint.hostile[:5])} in programs that load it, which no "
            "honest checkpoint does; nothing of it was run here, delete it"
        )


def _sniff(start: bytes, path: Path) -> tuple[str, Callable[[Path, set[Name]], Any]]:
    if start[:4] == b"PK\x03\x04":
        return "torch zip file", _read_zip
    if len(start) > 8 and start[8:9] == b"{":
        return "safetensors", _read_safetensors
    if start[:1] in (b"\x80", b"(", b"c", b"]", b"}"):
        return "pickle", _read_pickle_file
    if not start:
        raise WeightsError("the file is empty; download or copy it again")
    if start.lstrip()[:1] == b"<":
        raise WeightsError("it is a web page, not a checkpoint; open the address in a browser and save the file itself")
    if start.startswith(b"version https://"):
        raise WeightsError("it is a Git LFS pointer; fetch the file itself with `git lfs pull`")
    raise WeightsError(
        f"a {path.suffix or 'file'} that is no checkpoint; known are torch files (.pt, .pth), NVIDIA pickles (.pkl), "
        "safetensors, and OpenVINO networks (.xml with .bin, or a wheel that holds them)"
    )


def _read_zip(path: Path, names: set[Name]) -> Any:
    size = path.stat().st_size
    try:
        with open_zip(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(pickles) != 1 or len(entries) != len(archive.infolist()):
                raise WeightsError("a zip file, but not one written by torch.save; unpack it first if that is inside")
            root = pickles[0].removesuffix("data.pkl")
            if entries[pickles[0]].file_size > _MAX_STRUCTURE:
                raise WeightsError(f"its structure alone takes more than {_MAX_STRUCTURE:,} bytes")
            if any(entry.compress_type or entry.flag_bits & 1 for entry in entries.values()):
                raise WeightsError("compressed or encrypted entries, which torch.save does not write")
            if sum(entry.file_size for entry in entries.values()) > size:
                raise WeightsError("entries that lie over each other, or beyond its end; download or copy it again")
            if entries.get(root + "byteorder") and archive.read(root + "byteorder").strip() != b"little":
                raise WeightsError("it was written on a big-endian machine; write it again on another")
            structure = archive.read(pickles[0])
    except DAMAGED_ZIP as error:
        raise WeightsError(f"damaged or cut short ({reason_of(error)[:80]}); download or copy it again") from None
    readers: dict[str, Read] = {}

    def storage(key: str, dtype: str, count: int) -> Storage:
        entry = entries.get(f"{root}data/{key}")
        if entry is None or entry.file_size != count * ITEM_SIZES[dtype]:
            raise WeightsError(f"the numbers of storage {key[:40]} are missing or of another size")
        return Storage(dtype, count, readers.setdefault(key, _ZipEntry(path, entry).read))

    budget = Budget(size)
    return plain(read_pickle(io.BytesIO(structure), names, budget), budget, storage)


class _ZipEntry:
    """An uncompressed entry, whose checksum is verified before the first part of it is given out."""

    def __init__(self, path: Path, entry: zipfile.ZipInfo) -> None:
        self.path = path
        self.entry = entry
        self._verified = False

    def read(self, offset: int, length: int) -> bytes:
        """Raises WeightsError when it is damaged."""
        with self.path.open("rb") as file:
            start = self._start(file)
            if length == self.entry.file_size:
                file.seek(start)
                data = file.read(length)
                self._require(zlib.crc32(data))
                return data
            if not self._verified:
                file.seek(start)
                checksum, left = 0, self.entry.file_size
                while left and (block := file.read(min(left, 2**20))):
                    checksum, left = zlib.crc32(block, checksum), left - len(block)
                self._require(checksum)
            file.seek(start + offset)
            return file.read(length)

    def _start(self, file: IO[bytes]) -> int:
        place = self.entry.header_offset
        if 0 <= place < self.path.stat().st_size:
            file.seek(place)
            header = file.read(30)
            if len(header) == 30 and header[:4] == b"PK\x03\x04":
                name, extra = struct.unpack("<HH", header[26:])
                return int(place + 30 + name + extra)
        raise self._damaged()

    def _require(self, checksum: int) -> None:
        if checksum != self.entry.CRC:
            raise self._damaged()
        self._verified = True

    def _damaged(self) -> WeightsError:
        return WeightsError(
            f"cannot read {self.path}: damaged at {self.entry.filename[:60]}; download or copy it again"
        )


def _read_pickle_file(path: Path, names: set[Name]) -> Any:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        budget = Budget(len(data))
        return read_pickles(cast("IO[bytes]", data), len(data), functools.partial(_span, path), names, budget)


def _span(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def read_pickles(file: IO[bytes], size: int, span: Read, names: set[Name], budget: Budget, nested: bool = False) -> Any:
    """A plain pickle, or a file of torch's format before 1.6: magic number, version, system, object, keys, numbers.

    `span` reads a part of the file. `nested` is for such a file inside a pickle, which may hold nothing that nests
    again, and takes from the same `budget`.
    """
    inside = None if nested else functools.partial(_read_nested, names, budget)
    first = read_pickle(file, names, budget)
    if first != _LEGACY_MAGIC:
        return plain(first, budget, None, inside)
    read_pickle(file, names, budget)
    read_pickle(file, names, budget)
    content = read_pickle(file, names, budget)
    keys = read_pickle(file, names, budget)
    offset, places = file.tell(), dict[str, int]()
    requested: dict[str, Storage] = {}

    def storage(key: str, dtype: str, count: int) -> Storage:
        # The numbers follow in the order of `keys`, with sizes that only the references tell: placed below.
        known = requested.setdefault(key, Storage(dtype, count, lambda at, length: span(places[key] + at, length)))
        if (known.dtype, known.count) != (dtype, count):
            raise WeightsError(f"storage {key[:40]} is used as two types")
        return known

    result = plain(content, budget, storage, inside)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(requested) - set(keys):
        raise WeightsError("damaged: storages that the file does not list")
    for key in keys:
        if key not in requested:
            raise WeightsError(f"storage {key[:40]} is listed but not used")
        own = requested[key]
        file.seek(offset)
        if offset + 8 + own.size > size or file.read(8) != struct.pack("<q", own.count):
            raise WeightsError("damaged or cut short; download or copy it again")
        places[key] = offset + 8
        offset += 8 + own.size
    return result


def _read_nested(names: set[Name], budget: Budget, data: bytes) -> Any:
    view = memoryview(data)
    return read_pickles(
        io.BytesIO(data), len(data), lambda at, length: view[at : at + length], names, budget, nested=True
    )


def _read_safetensors(path: Path, names: set[Name]) -> Any:
    """`{"tensors": ..., "metadata": ...}` of a safetensors file."""
    import safetensors

    dtypes = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
              "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "U16": "uint16",
              "U32": "uint32", "U64": "uint64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn",
              "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz",
              "F8_E5M2FNUZ": "float8_e5m2fnuz"}  # fmt: skip
    try:
        with path.open("rb") as raw:
            (length,) = struct.unpack("<Q", raw.read(8))
            if _MAX_HEADER < length < path.stat().st_size:
                raise WeightsError(f"its header takes more than {_MAX_HEADER:,} bytes")
            header: Mapping[str, Any] = parse_json(raw.read(min(length, _MAX_HEADER)))
        with safetensors.safe_open(path, framework="numpy") as file:  # checks the header and all offsets
            metadata = dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise WeightsError(f"damaged or cut short ({reason_of(error)[:80]}); download or copy it again") from None
    if len(header) > _MAX_TENSORS:
        raise WeightsError(f"{len(header):,} tensors, more than any checkpoint has")
    tensors: dict[str, StoredTensor] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = dtypes.get(entry["dtype"])
        if dtype is None:
            raise WeightsError(f"tensor {name[:60]} is of type {entry['dtype']}, which stkit does not read")
        start, end = entry["data_offsets"]
        read = functools.partial(_part, path, 8 + length + start)
        storage = Storage(dtype, (end - start) // ITEM_SIZES[dtype], read)
        tensors[name] = contiguous(storage, entry["shape"])
    return {"tensors": tensors, "metadata": metadata}


def _part(path: Path, start: int, offset: int, length: int) -> bytes:
    return _span(path, start + offset, length)


__all__ = ["OPENVINO", "Checkpoint", "Storages", "read_checkpoint", "read_pickles", "refuse_hostile"]
