"""Photos in a column of a Parquet file, as Hugging Face's datasets keep them, or as plain bytes."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from stkit.errors import PhotoError
from stkit.files import import_pyarrow
from stkit.photo.suffixes import IMAGE_SUFFIXES

_NAMES = ("__key__", "key", "file", "file_name", "filename", "image_path", "path", "name", "id")
_MOST = 2**30  # bytes of the photos of a row group
_MOST_NAMES = 2**26  # letters of all names
_TOGETHER = 8  # rows: a few kilobytes can say the same photo, or a name of megabytes, a million times


class ParquetImages:
    """An open Parquet file of photos: `names` of its rows, and `read`, which gives the bytes of one.

    The photos are in the first column of bytes, or of structures with `bytes` (and `path`) in them; their names in
    `path`, or in a column called `key`, `file`, `name` or alike, else they are numbers. A name without the suffix of a
    picture gets `.jpg`. Raises MissingPackageError, ValueError, and what pyarrow
    raises.
    """

    def __init__(self, file: IO[bytes]) -> None:
        pa, pq = import_pyarrow()
        self._file = pq.ParquetFile(file)
        self._lock = threading.Lock()
        self._group = -1
        self._parts: Iterator[tuple[int, Any]] = iter(())
        self._kept: dict[int, Any] = {}
        binary = (pa.types.is_binary, pa.types.is_large_binary)
        column = named = None
        for field in self._file.schema_arrow:
            inner = {one.name: one.type for one in field.type} if pa.types.is_struct(field.type) else {}
            kind = inner.get("bytes", field.type)
            if any(is_one(kind) for is_one in binary):
                column = field.name
                named = f"{field.name}.path" if "path" in inner else None
                break
        if column is None:
            raise ValueError("it has no column of photos (bytes, or a structure with bytes in it)")
        self._column = column
        texts = {field.name for field in self._file.schema_arrow if pa.types.is_string(field.type)}
        named = named or next((name for name in _NAMES if name in texts), None)
        rows = self._file.metadata.num_rows
        found = [str(row) for row in range(rows)]
        if named is not None:
            found = [name or str(row) for row, name in enumerate(self._texts(named))]
        self.names = [name if Path(name).suffix.lower() in IMAGE_SUFFIXES else f"{name}.jpg" for name in found]
        groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.metadata.num_row_groups)]
        self._ends = list(accumulate(groups))

    def read(self, row: int, where: Path) -> bytes:
        """The bytes of the photo in a row, `where` for messages. Raises PhotoError."""
        group = bisect_right(self._ends, row)
        first = self._ends[group - 1] if group else 0
        try:
            with self._lock:
                value = self._value(group, row - first, where)
        except (OSError, ValueError, IndexError, StopIteration) as error:
            raise PhotoError(f"{where} is damaged ({error}); copy or download the file again") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise PhotoError(f"{where} holds no photo")
        return bytes(data)

    def _texts(self, column: str) -> Iterator[str | None]:
        letters = 0
        for part in self._file.iter_batches(_TOGETHER, columns=[column]):
            for value in part.column(0).to_pylist():
                name = value.get("path") if isinstance(value, dict) else value
                letters += len(name or "")
                if letters > _MOST_NAMES:
                    raise ValueError(f"the names in its {column} are longer than any")
                yield name

    def _value(self, group: int, row: int, where: Path) -> Any:
        """That in a row of a row group. Photos come nearly in order: the rows around the last one are kept."""
        place = row // _TOGETHER
        if self._group != group or place < min(self._kept, default=0):
            self._require_room(group, where)
            parts = self._file.iter_batches(_TOGETHER, row_groups=[group], columns=[self._column])
            self._group, self._parts, self._kept = group, iter(enumerate(parts)), {}
        while place not in self._kept:
            number, part = next(self._parts)
            self._kept = {n: kept for n, kept in self._kept.items() if n > number - 3} | {number: part.column(0)}
        return self._kept[place][row % _TOGETHER].as_py()

    def _require_room(self, group: int, where: Path) -> None:
        known = self._file.metadata.row_group(group)
        size = sum(
            known.column(i).total_uncompressed_size
            for i in range(known.num_columns)
            if known.column(i).path_in_schema.split(".")[0] == self._column
        )
        if size > _MOST:
            raise PhotoError(f"{where} is in a row group of {size / 2**30:.1f} GiB; write the file in smaller ones")


__all__ = ["ParquetImages"]
