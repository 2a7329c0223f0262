"""OpenVINO IR: a graph as XML over one flat file of numbers, in a wheel, in a folder, or lying beside each other.

Nothing is unpacked and nothing of the XML but layers, edges and their attributes is kept. Document types and entities
are refused before parsing; every constant must lie inside its file, with the size that its shape and type ask for.
"""

from __future__ import annotations

import functools
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn
from xml.etree.ElementTree import ParseError, XMLParser

from stkit.checkpoints.stored import ITEM_SIZES, Storage, StoredTensor, contiguous
from stkit.errors import WeightsError, reason_of
from stkit.files import read_packed, require_apart

_MAX_XML = 4 * 2**20  # bytes; that of a generator of 940 layers takes 425 kB
_MAX_BIN = 512 * 2**20
_MAX_DIRECTORY = 2**22  # bytes of an archive's list of files
_MAX_RATIO = 16  # numbers hardly shrink: what does more is no file of numbers
_MAX_DEPTH = 32
_TYPES = {"f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "i64": "int64", "i32": "int32",
          "i16": "int16", "i8": "int8", "u8": "uint8", "boolean": "bool"}  # fmt: skip
DAMAGED_ZIP = (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError,
               struct.error, zlib.error)  # fmt: skip
"""What `zipfile` raises for archives that are damaged or made to harm."""


@dataclass(frozen=True, eq=False)
class Layer:
    """An operation of a graph; `value` is a constant's.

    `inputs` are the names of the layers before it, by port, and `origins` which of their outputs each is, from 0 on.
    """

    name: str
    kind: str
    attributes: Mapping[str, str]
    inputs: tuple[str, ...]
    origins: tuple[int, ...]
    value: StoredTensor | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: its layers by name, in the order of the file."""

    name: str
    layers: Mapping[str, Layer]


@dataclass
class _Raw:
    """A layer as the XML gives it."""

    name: str
    kind: str
    data: Mapping[str, str] = field(default_factory=dict)
    inputs: dict[int, tuple[_Raw, int]] = field(default_factory=dict)


class _Reader:
    """What an XMLParser calls: keeps layers and edges, no tree."""

    def __init__(self) -> None:
        self.name = ""
        self.layers: dict[str, _Raw] = {}
        self.edges: dict[tuple[str, int], tuple[str, int]] = {}
        self._path: list[str] = []
        self._names: set[str] = set()
        self._layer: _Raw | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag)
        if len(self._path) > _MAX_DEPTH:
            raise WeightsError("its XML is nested deeper than any graph's")
        match self._path:
            case ["net"]:
                self.name = attributes.get("name", "")
            case ["net", "layers", "layer"]:
                self._layer = self._add(attributes)
            case ["net", "layers", "layer", "data"] if self._layer is not None:
                self._layer.data = attributes
            case ["net", "edges", "edge"]:
                to = attributes.get("to-layer", ""), _number(attributes.get("to-port", ""))
                if to in self.edges:
                    raise WeightsError(f"its graph has two edges to port {to[1]} of layer {to[0][:40]}")
                self.edges[to] = attributes.get("from-layer", ""), _number(attributes.get("from-port", ""))
            case [root] if root != "net":
                raise WeightsError(f"it is XML ({root[:40]}), but no OpenVINO graph")

    def _add(self, attributes: dict[str, str]) -> _Raw:
        number, name = attributes.get("id", ""), attributes.get("name", "")
        if not name or number in self.layers or name in self._names:
            raise WeightsError(f"its graph has two layers {name[:60] or number[:60]!r}, or one without a name")
        self._names.add(name)
        self.layers[number] = _Raw(name, attributes.get("type", ""))
        return self.layers[number]

    def end(self, tag: str) -> None:
        self._path.pop()

    def close(self) -> None:
        pass


Numbers = tuple[int, Callable[[int, int], bytes]]
"""Of a file of numbers: its size in bytes, and what gives `length` bytes at `offset`."""


def is_openvino(path: Path) -> bool:
    """Whether `path` is a folder, an XML file, a wheel, or a zip file with pairs of an XML and a .bin file."""
    if path.is_dir() or path.suffix.lower() in (".xml", ".whl"):
        return True
    try:
        if not zipfile.is_zipfile(path):
            return False
        with open_zip(path) as archive:
            return bool(_pairs(archive.namelist()))
    except (WeightsError, *DAMAGED_ZIP):
        return False


def read_openvino(path: Path) -> dict[str, Graph]:
    """The graphs of a wheel, of a folder, or of an XML file with its partner, by the names of their files.

    The partner of a MappingNetwork.xml is the SynthesisNetwork.xml beside it. Raises WeightsError, OSError.
    """
    if path.is_dir() or path.suffix.lower() == ".xml":
        return _read_loose(path)
    try:
        with open_zip(path) as archive:
            return _read_zip(path, archive)
    except DAMAGED_ZIP as error:
        raise WeightsError(f"damaged or cut short ({reason_of(error)[:80]}); download or copy it again") from None


def source_files(path: Path) -> list[Path]:
    """The files that `read_openvino` reads for `path`."""
    if path.is_dir() or path.suffix.lower() == ".xml":
        return sorted(file for xml in _loose(path) for file in (xml, xml.with_suffix(".bin")))
    return [path]


def _loose(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(xml for xml in path.glob("*.xml") if xml.with_suffix(".bin").is_file())
    words = ("Mapping", "Synthesis")
    names = {path.name, *(path.name.replace(a, b) for a, b in (words, words[::-1]))}
    return sorted(path.with_name(name) for name in names if name == path.name or path.with_name(name).is_file())


def _read_loose(path: Path) -> dict[str, Graph]:
    graphs = {}
    for xml in _loose(path):
        if xml.stat().st_size > _MAX_XML:
            _refuse_size(xml.name, _MAX_XML)
        numbers = xml.with_suffix(".bin")
        if not numbers.is_file():
            raise WeightsError(f"there is no {numbers.name} beside {xml.name}; copy both files of the network")
        graphs[xml.stem] = parse_graph(xml.read_bytes(), (numbers.stat().st_size, functools.partial(_part, numbers)))
    if not graphs:
        raise WeightsError("a folder without an OpenVINO network (.xml with .bin); name the file itself")
    return graphs


def _part(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def open_zip(path: Path) -> zipfile.ZipFile:
    """The archive, once its end says that the list of files is no longer than a wheel's or a checkpoint's.

    Raises WeightsError, and what DAMAGED_ZIP lists.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - 2**16 - 22 - 20 - 56)
        file.seek(start)
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:
        raise WeightsError("damaged or cut short (its list of files is missing); download or copy it again")
    (directory,) = struct.unpack_from("<L", tail, at + 12)
    locator = tail[max(0, at - 20) : at]
    if locator.startswith(b"PK\6\7"):  # of a file in the 64-bit form, which torch writes
        (place,) = struct.unpack_from("<Q", locator, 8)
        record = tail[max(0, at - 76) : at - 20]
        if place != start + at - 76 or not record.startswith(b"PK\6\6"):
            raise WeightsError("damaged or cut short (its list of files is missing); download or copy it again")
        (directory,) = struct.unpack_from("<Q", record, 40)
    if directory > _MAX_DIRECTORY:
        raise WeightsError("its list of files is longer than any checkpoint's")
    archive = zipfile.ZipFile(path)
    try:
        require_apart(archive, size)
    except zipfile.BadZipFile:
        archive.close()
        raise
    return archive


def _pairs(names: list[str]) -> list[tuple[str, str]]:
    """The XML files that have a .bin file beside them, each with it."""
    there = set(names)
    pairs = [(name, name.removesuffix(".xml") + ".bin") for name in names if name.endswith(".xml")]
    return [(xml, numbers) for xml, numbers in pairs if numbers in there]


def _read_zip(path: Path, archive: zipfile.ZipFile) -> dict[str, Graph]:
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise WeightsError("the archive holds two files of one name; download or copy it again")
    graphs: dict[str, Graph] = {}
    for xml, numbers in _pairs(list(entries)):
        inside = PurePosixPath(xml.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or ":" in xml:
            raise WeightsError(f"the archive's {xml[:80]!r} leads out of it, which no honest wheel's does")
        if inside.stem in graphs:
            raise WeightsError(f"the archive holds two networks {inside.stem[:60]}; unpack it and name a folder")
        for entry in (entries[xml], entries[numbers]):
            if entry.flag_bits & 1:
                raise WeightsError(f"{entry.filename[:80]} is encrypted; unpack the archive with its password first")
        data = entries[numbers]
        if data.file_size > _MAX_BIN or data.file_size > _MAX_RATIO * data.compress_size + 2**16:
            raise WeightsError(f"{numbers[:80]} would unpack to {data.file_size:,} bytes, more than numbers do")
        if entries[xml].file_size > _MAX_XML:
            _refuse_size(xml[:80], _MAX_XML)
        part = functools.partial(_slice, functools.cache(functools.partial(_unpack, path, numbers)))
        graphs[inside.stem] = parse_graph(read_packed(archive, entries[xml]), (data.file_size, part))
    if not graphs:
        raise WeightsError("an archive without an OpenVINO network (.xml with .bin)")
    return graphs


def _unpack(path: Path, name: str) -> bytes:
    """A file of an archive, its checksum verified."""
    try:
        with zipfile.ZipFile(path) as archive:
            return read_packed(archive, archive.getinfo(name))
    except DAMAGED_ZIP as error:
        raise WeightsError(f"cannot read {path}: damaged at {name[:60]} ({reason_of(error)[:60]}); download or copy it "
                           "again") from None  # fmt: skip


def _slice(read: Callable[[], bytes], offset: int, length: int) -> bytes:
    return read()[offset : offset + length]


def parse_graph(xml: bytes, numbers: Numbers) -> Graph:
    """The graph that `xml` describes over a file of numbers. Raises WeightsError."""
    try:
        text = xml.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise WeightsError("its XML is not UTF-8; OpenVINO writes no other") from None
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise WeightsError("its XML declares a document type or entities, which no OpenVINO graph needs")
    reader = _Reader()
    parser = XMLParser(target=reader, encoding="utf-8")  # whatever the text itself says
    try:
        parser.feed(text.encode())
        parser.close()
    except ParseError as error:
        raise WeightsError(
            f"its XML is damaged or cut short ({reason_of(error)[:80]}); download or copy it again"
        ) from None
    if not reader.layers:
        raise WeightsError("its XML describes no OpenVINO graph")
    for (to, port), (origin, output) in reader.edges.items():
        if to not in reader.layers or origin not in reader.layers:
            raise WeightsError("its graph has an edge to or from a layer that is not there")
        reader.layers[to].inputs[port] = reader.layers[origin], output
    layers = {raw.name: _layer(raw, numbers) for raw in reader.layers.values()}
    if sum(layer.value.size for layer in layers.values() if layer.value) > 2 * numbers[0] + 2**20:
        raise WeightsError("its constants share the same numbers, which no OpenVINO graph's do")
    return Graph(reader.name, layers)


def _layer(raw: _Raw, numbers: Numbers) -> Layer:
    value = _constant(raw, numbers) if raw.kind == "Const" else None
    before = [raw.inputs[port] for port in sorted(raw.inputs)]
    names, outputs = (layer.name for layer, _ in before), (port - len(layer.inputs) for layer, port in before)
    return Layer(raw.name, raw.kind, raw.data, tuple(names), tuple(outputs), value)


def _constant(raw: _Raw, numbers: Numbers) -> StoredTensor:
    size, read = numbers
    dtype = _TYPES.get(raw.data.get("element_type", ""))
    if dtype is None:
        raise WeightsError(f"constant {raw.name[:60]} is of type {raw.data.get('element_type', '')[:20]!r}")
    text = raw.data.get("shape", "").strip()
    shape = [_number(part) for part in text.split(",")] if text else []
    offset, length = _number(raw.data.get("offset", "")), _number(raw.data.get("size", ""))
    if len(shape) > 8 or math.prod(shape) * ITEM_SIZES[dtype] != length or offset + length > size:
        raise WeightsError(f"constant {raw.name[:60]} of shape {text[:60]!r} does not fit the data stored for it")
    storage = Storage(dtype, math.prod(shape), lambda at, wanted: read(offset + at, wanted))
    return contiguous(storage, shape)


def _number(text: str) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,15}\s*", text, re.ASCII):
        raise WeightsError(f"its graph says {text[:30]!r} where a number belongs")
    return int(text)


def _refuse_size(name: str, limit: int) -> NoReturn:
    raise WeightsError(f"{name} takes more than {limit:,} bytes, which no graph needs")


__all__ = ["DAMAGED_ZIP", "Graph", "Layer", "is_openvino", "open_zip", "parse_graph", "read_openvino", "source_files"]
