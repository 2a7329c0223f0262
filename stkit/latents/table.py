"""Codes of many photos as Parquet files: one row a photo, what failed among them, for other programs and for stkit."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stkit.errors import LatentsError, StkitError, reason_of
from stkit.files import parse_json, require_file
from stkit.parquet import ParquetTable, import_pyarrow

_FORMAT = "stkit-codes-1"
_MOST = 2**31  # bytes of codes in one file
_MOST_PAGE = 2**26  # bytes
_TOGETHER = 8  # rows
_FACTS = ("generator", "space", "settings")


class NoCodesError(LatentsError):
    """All photos of a file failed, as may be those of one of many."""


@dataclass(frozen=True, eq=False)
class Codes:
    """The codes of one photo, float32 [subjects, num_ws, w_dim], and where each came from, JSON-ready."""

    codes: np.ndarray
    provenance: Sequence[Mapping[str, Any]]


def encode_table(rows: Sequence[Mapping[str, Any]], codes: Sequence[Codes | None], facts: Mapping[str, Any]) -> bytes:
    """A Parquet file of `rows`, which have the same keys, and of the `codes` of each, None where there are none.

    It has the columns of the rows and `codes` (float32, flat), their `shape` and `provenance` (JSON); `facts`
    (`generator`, `space`, `settings`), JSON-ready, stand in its schema.
    """
    pa, pq = import_pyarrow()
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    kinds = {name: _kind(values) for name, values in columns.items()}
    columns["codes"] = [None if one is None else one.codes.ravel() for one in codes]
    columns["shape"] = [None if one is None else list(one.codes.shape) for one in codes]
    columns["provenance"] = [None if one is None else json.dumps(list(one.provenance)) for one in codes]
    kinds |= _code_kinds()
    said = {b"stkit": json.dumps({"format": _FORMAT, **{name: facts[name] for name in _FACTS}}).encode()}
    data = io.BytesIO()
    pq.write_table(pa.table(columns, schema=pa.schema(list(kinds.items()), metadata=said)), data)
    return data.getvalue()


def read_facts(path: Path) -> dict[str, Any]:
    """The facts that a file of `encode_table` was made with. Raises LatentsError, MissingPackageError."""
    with _opened(path) as table:
        return _facts(table)


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """These columns of each row. Raises LatentsError, MissingPackageError."""
    with _opened(path) as table:
        _facts(table)
        return [row for batch in _batches(table, columns) for row in batch.to_pylist()]


def drop_rows(path: Path, kept: Sequence[bool]) -> bytes:
    """The file with the rows that are `kept` alone. Raises LatentsError, MissingPackageError."""
    pa, pq = import_pyarrow()
    data = io.BytesIO()
    with _opened(path) as table:
        parts = pa.Table.from_batches(_batches(table, table.schema.names), table.schema)
        pq.write_table(parts.filter(pa.array(list(kept))), data)
    return data.getvalue()


def load_table(path: Path) -> tuple[dict[str, Any], list[Codes]]:
    """The facts of a file of `encode_table`, and the codes of all photos that have some, finite ones.

    Raises LatentsError, NoCodesError, MissingPackageError.
    """
    kinds = _code_kinds()
    with _opened(path) as table:
        facts = _facts(table)
        found = {field.name: field.type for field in table.schema}
        if any(found.get(name) != kind for name, kind in kinds.items()):
            raise ValueError(f"its {', '.join(kinds)} are not of the types that stkit writes")
        parts = []
        for batch in _batches(table, list(kinds)):
            for numbers, shape, provenance in zip(*(batch.column(name) for name in kinds), strict=True):
                if numbers.is_valid:
                    codes = np.array(numbers.values, np.float32).reshape(shape.as_py())
                    if not np.isfinite(codes).all():
                        raise ValueError("codes that are not finite")
                    told = parse_json(provenance.as_py())
                    if not isinstance(told, list):
                        raise ValueError("a provenance that is no list")
                    parts.append(Codes(codes, told))
        if not parts:
            raise NoCodesError(f"{path} holds no codes: all its photos failed")
        return facts, parts


def _batches(table: ParquetTable, columns: Sequence[str]) -> Iterator[Any]:
    """These columns, some rows at once; none takes many times the size of the file."""
    return table.batches(columns, _TOGETHER, _MOST_PAGE, min(_MOST, 4 * table.size + _MOST_PAGE))


def _code_kinds() -> dict[str, Any]:
    """The columns of codes and their Arrow types."""
    pa, _ = import_pyarrow()
    return {"codes": pa.list_(pa.float32()), "shape": pa.list_(pa.int32()), "provenance": pa.string()}


def _kind(values: Sequence[Any]) -> Any:
    """The Arrow type of a column of text, or of numbers."""
    pa, _ = import_pyarrow()
    kinds = {type(value) for value in values} - {type(None)}
    return {frozenset({int}): pa.int32(), frozenset({float}): pa.float64()}.get(frozenset(kinds), pa.string())


def _facts(table: ParquetTable) -> dict[str, Any]:
    found = parse_json((table.schema.metadata or {}).get(b"stkit", b"{}"))
    if not isinstance(found, dict) or found.get("format") != _FORMAT or not set(_FACTS) <= found.keys():
        raise ValueError("it is not of stkit")
    return found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[ParquetTable]:
    """The Parquet file, and what goes wrong in reading it as LatentsError."""
    try:
        require_file(path)
        with path.open("rb") as file:
            yield ParquetTable(file)
    except FileNotFoundError as error:
        raise LatentsError(f"there is no file {path}; check the name") from error
    except StkitError:
        raise
    except Exception as error:  # pyarrow has errors of its own
        raise LatentsError(f"cannot read codes from {path}: {reason_of(error)}; invert the photos again") from error


__all__ = ["Codes", "NoCodesError", "drop_rows", "encode_table", "load_table", "read_facts", "read_rows"]
