"""Parquet files that may come from anywhere: what their footers and pages say is held against the file.

pyarrow takes their word for it: kilobytes that say so become gigabytes, and some footers end the process. The layout is
https://parquet.apache.org/docs/file-format/, in Thrift's compact protocol.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from stkit.errors import MissingPackageError

_STEPS = 500_000  # of values in a footer, about a microsecond each
_DEEPEST = 20
_HEADERS = (2**10, 2**16, 2**24)  # bytes in which a page's header ends, tried in turn
_SPARE = 2**26  # bytes


@dataclass(frozen=True)
class _Chunk:
    """The pages of a column in a row group: the column's name, with dots, and where they are, in bytes."""

    column: str
    start: int
    end: int


class ParquetTable:
    """An open Parquet file of `size` bytes; `schema` is Arrow's, `groups` are the rows of its row groups.

    Raises MissingPackageError, ValueError for a file that says what it does not hold, and what pyarrow raises.
    """

    def __init__(self, file: IO[bytes]) -> None:
        _, pq = import_pyarrow()
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._file = file
        self._opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
        self.schema = self._opened.schema_arrow
        groups = _groups(file, self.size)
        self.groups = [rows for rows, _ in groups]
        self._chunks = [chunks for _, chunks in groups]
        self._require_honest()

    @property
    def num_rows(self) -> int:
        """Of the whole file."""
        return sum(self.groups)

    def batches(
        self, columns: Sequence[str], together: int, most_page: int, most: int | None = None, group: int | None = None
    ) -> Iterator[Any]:
        """These columns of all rows, or those of one row group, `together` rows at once.

        Raises ValueError for pages of more than `most_page` bytes, and when all is `most` bytes or more.
        """
        groups = list(range(len(self.groups)) if group is None else [group])
        for number in groups:
            for chunk in self._chunks[number]:
                if any(f"{chunk.column}.".startswith(f"{name}.") for name in columns):
                    self._require_pages(chunk, most_page)
        taken = 0
        for batch in self._opened.iter_batches(together, row_groups=groups, columns=list(columns)):
            taken += batch.nbytes
            if most is not None and taken > most:
                raise ValueError(f"its {' and '.join(columns)} take more than {most:,} bytes")
            yield batch

    def _require_honest(self) -> None:
        if self.num_rows > self.size or min(self.groups, default=0) < 0:
            raise ValueError(f"it says that it has {self.num_rows:,} rows, more than it has bytes")
        end = 0
        for chunk in sorted((one for chunks in self._chunks for one in chunks), key=lambda one: one.start):
            if chunk.start < end or chunk.end < chunk.start:
                raise ValueError("its columns lie over each other")
            end = chunk.end
        if end > self.size:
            raise ValueError("it is cut short")

    def _require_pages(self, chunk: _Chunk, most: int) -> None:
        """Hold what the pages unpack to against the file, where that is on this machine."""
        if not isinstance(self._file, io.BufferedReader):
            return
        at, values, here = chunk.start, 0, self._file.tell()
        while at < chunk.end:
            header, length = _page_header(self._file, at, chunk.end)
            unpacked, packed = header.get(2), header.get(3)
            if not isinstance(unpacked, int) or not isinstance(packed, int) or packed < 0:
                raise ValueError("one of its pages is damaged")
            if not 0 <= unpacked <= most:
                raise ValueError(f"a page of its column {chunk.column} takes {unpacked:,} bytes")
            data = header.get(5) or header.get(8) or {}
            count = data.get(1, 0) if isinstance(data, dict) else 0
            if not isinstance(count, int):
                raise ValueError("one of its pages is damaged")
            values += max(0, count)
            at += length + packed
        self._file.seek(here)
        if 4 * values > 2 * self.size + _SPARE:
            raise ValueError(f"its column {chunk.column} says that it has {values:,} values")


def _groups(file: IO[bytes], size: int) -> list[tuple[int, list[_Chunk]]]:
    """The number of rows, and the chunks, of each row group."""
    file.seek(size - 8)
    length = int.from_bytes(file.read(4), "little")
    file.seek(max(0, size - 8 - length))
    try:
        footer = _Thrift(file.read(length)).struct()
        return [(_whole(group[3]), [_chunk(one) for one in group[1]]) for group in footer.get(4, [])]
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("its footer is damaged") from error


def _chunk(found: dict[int, Any]) -> _Chunk:
    known = found[3]
    start, first = _whole(known[9]), _whole(known.get(11, 0))
    start = first if 0 < first < start else start
    return _Chunk(b".".join(known[3]).decode(errors="replace"), start, start + _whole(known[7]))


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError("a number is of another type")
    return value


def _page_header(file: IO[bytes], at: int, end: int) -> tuple[dict[int, Any], int]:
    """The header of the page at a place, and its length."""
    for length in _HEADERS:
        file.seek(at)
        thrift = _Thrift(file.read(min(length, end - at)))
        try:
            return thrift.struct(), thrift.at
        except IndexError:
            continue
    raise ValueError("one of its pages is damaged")


class _Thrift:
    """A reader of structures in `data`, by the numbers of their fields. Raises IndexError where `data` ends."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.steps = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """As many bits as there are, seven a byte."""
        value = shift = 0
        while shift < 70:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError("its footer is damaged: a number of too many digits")

    def signed(self) -> int:
        value = self.number()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int = 0) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.signed()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self.value(kind, depth)
        return fields

    def value(self, kind: int, depth: int) -> Any:
        self.steps += 1
        if self.steps > _STEPS or depth > _DEEPEST:
            raise ValueError("its footer is larger than any")
        match kind:
            case 1 | 2 | 3:
                return self.byte()
            case 4 | 5 | 6:
                return self.signed()
            case 7:
                return self.bytes(8)
            case 8:
                return self.bytes(self.number())
            case 9 | 10:
                head = self.byte()
                count = head >> 4 if head >> 4 < 15 else self.number()
                return [self.value(head & 15, depth + 1) for _ in range(count)]
            case 12:
                return self.struct(depth + 1)
        raise ValueError("its footer is damaged: a value of an unknown kind")

    def bytes(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        self.at += count
        if len(found) < count:
            raise IndexError("the end")
        return found


def import_pyarrow() -> tuple[Any, Any]:
    """pyarrow and its reader of Parquet files. Raises MissingPackageError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingPackageError("Parquet files need pyarrow: pip install pyarrow") from error
    return pa, pq


__all__ = ["ParquetTable", "import_pyarrow"]
