"""Photos in a column of a Parquet file, as Hugging Face's datasets keep them, or as plain bytes."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from stkit.errors import PhotoError, reason_of
from stkit.parquet import ParquetTable, import_pyarrow
from stkit.photo.suffixes import IMAGE_SUFFIXES

_NAMES = ("__key__", "key", "file", "file_name", "filename", "image_path", "path", "name", "id")
_MOST_PAGE = 2**30  # bytes of photos
_MOST_NAMES = 2**26  # bytes of all names
_TOGETHER = 8  # names: a few kilobytes can say one of megabytes a million times
_KEPT = 24  # photos
_MOST_KEPT = 2**28  # bytes of them


class ParquetImages:
    """An open Parquet file of photos: `names` of its rows, and `read`, which gives the bytes of one.

    The photos are in the first column of bytes, or of structures with `bytes` (and `path`) in them; their names in
    `path`, or in a column called `key`, `file`, `name` or alike, else they are numbers. A name without the suffix of a
    picture gets `.jpg`. Raises MissingPackageError, ValueError, and what pyarrow
    raises.
    """

    def __init__(self, file: IO[bytes]) -> None:
        pa, _ = import_pyarrow()
        self._table = ParquetTable(file)
        self._lock = threading.Lock()
        self._group = -1
        self._parts: Iterator[tuple[int, Any]] = iter(())
        self._kept: dict[int, Any] = {}
        binary = (pa.types.is_binary, pa.types.is_large_binary)
        column = named = None
        for field in self._table.schema:
            inner = {one.name: one.type for one in field.type} if pa.types.is_struct(field.type) else {}
            kind = inner.get("bytes", field.type)
            if any(is_one(kind) for is_one in binary):
                column = field.name
                named = f"{field.name}.path" if "path" in inner else None
                break
        if column is None:
            raise ValueError("it has no column of photos (bytes, or a structure with bytes in it)")
        self._column = column
        texts = {field.name for field in self._table.schema if pa.types.is_string(field.type)}
        named = named or next((name for name in _NAMES if name in texts), None)
        found = [str(row) for row in range(self._table.num_rows)]
        if named is not None:
            found = [name or str(row) for row, name in enumerate(self._texts(named))]
            if len(found) != self._table.num_rows:
                raise ValueError("its footer says another number of rows than it has")
        self.names = [name if Path(name).suffix.lower() in IMAGE_SUFFIXES else f"{name}.jpg" for name in found]
        self._ends = list(accumulate(self._table.groups))

    def read(self, row: int, where: Path) -> bytes:
        """The bytes of the photo in a row, `where` for messages. Raises PhotoError."""
        group = bisect_right(self._ends, row)
        first = self._ends[group - 1] if group else 0
        try:
            with self._lock:
                value = self._value(group, row - first)
        except (OSError, ValueError, IndexError, MemoryError, StopIteration) as error:
            raise PhotoError(f"{where} is damaged ({reason_of(error)}); copy or download the file again") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise PhotoError(f"{where} holds no photo")
        return bytes(data)

    def _texts(self, column: str) -> Iterator[str | None]:
        for part in self._table.batches([column], _TOGETHER, _MOST_NAMES, _MOST_NAMES):
            for value in part.column(0).to_pylist():
                yield value.get("path") if isinstance(value, dict) else value

    def _value(self, group: int, row: int) -> Any:
        """That in a row of a row group. Photos come nearly in order: the last ones are kept."""
        if self._group != group or row < min(self._kept, default=0):
            parts = self._table.batches([self._column], 1, _MOST_PAGE, group=group)
            self._group, self._parts, self._kept = group, iter(enumerate(parts)), {}
        while row not in self._kept:
            number, part = next(self._parts)
            self._kept[number] = part.column(0)
            while len(self._kept) > _KEPT or (len(self._kept) > 1 and self._kept_bytes() > _MOST_KEPT):
                del self._kept[min(self._kept)]
        return self._kept[row][0].as_py()

    def _kept_bytes(self) -> int:
        return sum(part.nbytes for part in self._kept.values())


__all__ = ["ParquetImages"]
