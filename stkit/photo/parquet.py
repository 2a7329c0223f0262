"""Photos in a column of a Parquet file, as Hugging Face's datasets keep them, or as plain bytes."""

from __future__ import annotations

import threading
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from stkit.errors import MissingPackageError, PhotoError
from stkit.photo.suffixes import IMAGE_SUFFIXES

_NAMES = ("__key__", "key", "file", "file_name", "filename", "image_path", "path", "name", "id")
_MOST = 2**30  # bytes of the photos that are read together


class ParquetImages:
    """An open Parquet file of photos: `names` of its rows, and `read`, which gives the bytes of one.

    The photos are in the first column of bytes, or of structures with `bytes` (and `path`) in them; their names in
    `path`, or in a column called `key`, `file`, `name` or alike, else they are numbers. A name without the suffix of a
    picture gets `.jpg`. Raises MissingPackageError, ValueError, and what pyarrow
    raises.
    """

    def __init__(self, file: IO[bytes]) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingPackageError("Parquet files need pyarrow: pip install pyarrow") from error
        self._file = pq.ParquetFile(file)
        self._lock = threading.Lock()
        self._last: tuple[int, Any] = (-1, None)
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
            values = self._file.read(columns=[named]).column(0).to_pylist()
            given = [value.get("path") if isinstance(value, dict) else value for value in values]
            found = [name or str(row) for row, name in enumerate(given)]
        self.names = [name if Path(name).suffix.lower() in IMAGE_SUFFIXES else f"{name}.jpg" for name in found]
        groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.metadata.num_row_groups)]
        self._ends = list(accumulate(groups))

    def read(self, row: int, where: Path) -> bytes:
        """The bytes of the photo in a row, `where` for messages. Raises PhotoError."""
        group = bisect_right(self._ends, row)
        first = self._ends[group - 1] if group else 0
        try:
            with self._lock:  # photos come in order: the row group that one is in serves the next ones
                if self._last[0] != group:
                    self._require_room(group, where)
                    self._last = (group, self._file.read_row_group(group, columns=[self._column]).column(0))
                value = self._last[1][row - first].as_py()
        except (OSError, ValueError) as error:
            raise PhotoError(f"{where} is damaged ({error}); copy or download the file again") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise PhotoError(f"{where} holds no photo")
        return bytes(data)

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
