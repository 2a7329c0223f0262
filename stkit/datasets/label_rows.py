"""Rows of labels: CSV and TSV with a header, CelebA's list_attr_celeba.txt, JSON, Parquet, WebDataset's shards.

Each reader gives the names of the columns, the first of which has the files, and the cells of each row as text.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from stkit.errors import LabelsError, PhotoError, StkitError, reason_of
from stkit.files import parse_json
from stkit.parquet import ParquetTable, import_pyarrow
from stkit.photo.archives import open_archive, read_member
from stkit.photo.suffixes import IMAGE_SUFFIXES

Rows = tuple[list[str], Iterable[Sequence[str]]]

MOST_LETTERS = 2**28
"""Of all labels of a file; bytes, where it is binary."""
_FILE_COLUMNS = ("file", "filename", "file_name", "image", "image_id", "image_path", "img", "path", "photo")
_DIGITS = 12  # of a number of rows
_SIDECARS = (".json", ".cls")
_MOST_PAGE = 2**26  # bytes of labels
_TOGETHER = 1024  # rows


def text_rows(text: str, path: Path) -> Rows:
    """The rows of a label file's `text`, whose format is told from it. Raises LabelsError."""
    lines = text.splitlines()
    first = next((line.strip() for line in lines if line.strip()), "")
    if not first:
        raise LabelsError(f"labels {path} are empty; give a CSV with a header and a column 'file'")
    if first[0] in "{[":
        return _read_json(text, path)
    if first.isdecimal():
        return _read_celeba(lines, path)
    return _read_table(text, first, path)


def has_own_labels(source: Path, inside: Iterable[PurePosixPath]) -> bool:
    """Whether an archive of these files has labels beside each photo: columns, or files called like it."""
    if source.suffix.lower() == ".parquet":
        with _told(source), source.open("rb") as file:
            return bool(_label_columns(ParquetTable(file)))
    return source.suffix.lower() == ".tar" and any(path.suffix.lower() in _SIDECARS for path in inside)


def archive_rows(path: Path) -> Rows:
    """What a Parquet file has in columns beside the photos, or WebDataset's `.json` and `.cls`. Raises LabelsError."""
    with _told(path):
        found = _columns(path) if path.suffix.lower() == ".parquet" else _sidecars(path)
        return _read_records(list(found), path)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong with an archive, as a LabelsError."""
    try:
        yield
    except PhotoError as error:
        raise LabelsError(f"cannot read labels: {error}") from error
    except StkitError:
        raise
    except Exception as error:  # pyarrow's errors are of many kinds
        raise LabelsError(f"cannot read labels of {path}: {reason_of(error)}; copy or download it again") from error


def _label_columns(table: ParquetTable) -> list[str]:
    """The columns of a Parquet file that hold numbers or words."""
    pa, _ = import_pyarrow()
    kinds = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
    )
    return [field.name for field in table.schema if any(is_one(field.type) for is_one in kinds)]


def _columns(path: Path) -> Iterator[dict[str, Any]]:
    names = {row: str(name) for name, row in open_archive(path).members.items()}
    with path.open("rb") as file:
        table = ParquetTable(file)
        columns, number = _label_columns(table), 0
        for part in table.batches(columns, _TOGETHER, _MOST_PAGE, MOST_LETTERS):
            for row in part.to_pylist():
                if number in names:
                    yield {"file": names[number], **{name: row[name] for name in columns if name not in _FILE_COLUMNS}}
                number += 1


def _sidecars(path: Path) -> Iterator[dict[str, Any]]:
    """A record a photo, of the files that are called like it up to the first dot of their name."""
    members = open_archive(path).members
    photos = {_key(member): member for member in members if member.suffix.lower() in IMAGE_SUFFIXES}
    found: dict[PurePosixPath, dict[str, Any]] = collections.defaultdict(dict)
    letters = 0
    for member in members:
        if member.suffix.lower() not in _SIDECARS or _key(member) not in photos:
            continue
        text = read_member(path, member).decode("utf-8", "replace").strip()
        letters += len(text)
        if letters > MOST_LETTERS:
            raise LabelsError(f"the labels in {path} take more than {MOST_LETTERS:,} letters")
        if member.suffix.lower() == ".cls":
            found[_key(member)]["label"] = text
            continue
        try:
            record = parse_json(text)
        except ValueError as error:
            raise LabelsError(f"labels {path / member} are not JSON: {reason_of(error)}") from error
        if not isinstance(record, dict):
            raise LabelsError(f'labels {path / member} are no JSON object, like {{"age": 31}}')
        found[_key(member)] |= {name: value for name, value in record.items() if name not in _FILE_COLUMNS}
    for key, record in found.items():
        yield {"file": str(photos[key]), **record}


def _key(member: PurePosixPath) -> PurePosixPath:
    return member.with_name(member.name.split(".")[0] or member.name)


def _read_table(text: str, header: str, path: Path) -> tuple[list[str], Iterator[list[str]]]:
    delimiter = max(",\t;", key=header.count)
    # Not strict: a stray quote inside a cell is no reason to refuse a file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    filled = (row for row in reader if any(cell.strip() for cell in row))
    try:
        columns = [name.strip() for name in next(filled, [])]
    except csv.Error as error:
        raise LabelsError(f"cannot read labels {path} at line {reader.line_num}: {reason_of(error)}") from error
    columns = [" ".join(name.split()) for name in columns]
    if not columns:
        raise LabelsError(f"labels {path} are empty; give a CSV with a header and a column 'file'")
    place = next((i for i, name in enumerate(columns) if name.lower() in _FILE_COLUMNS), None)
    if place is None and len(columns) == 1:
        raise LabelsError(
            f"the header of {path} is one column, '{columns[0][:40]}'; separate columns by commas, tabs or semicolons"
        )
    if place is None:
        raise LabelsError(
            f"labels {path} have no column for the file; name one of {', '.join(columns[:8])} 'file' in the header"
        )

    def rows() -> Iterator[list[str]]:
        try:
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(columns):
                    raise LabelsError(
                        f"line {reader.line_num} of {path} has {len(row)} cells and the header {len(columns)}"
                    )
                yield [row[place].strip(), *row[:place], *row[place + 1 :]]
        except csv.Error as error:
            raise LabelsError(f"cannot read labels {path} at line {reader.line_num}: {reason_of(error)}") from error

    return [columns[place], *columns[:place], *columns[place + 1 :]], rows()


def _read_celeba(lines: Sequence[str], path: Path) -> tuple[list[str], list[list[str]]]:
    filled = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    if len(filled[0][1][0]) > _DIGITS:
        raise LabelsError(f"line {filled[0][0]} of {path} is no number of rows; give a CSV with a header")
    count = int(filled[0][1][0])
    columns = filled[1][1] if len(filled) > 1 else []
    for number, row in filled[2:]:
        if len(row) != len(columns) + 1:
            raise LabelsError(f"line {number} of {path} has {len(row) - 1} labels and the header {len(columns)}")
    if len(filled) - 2 != count:
        raise LabelsError(f"{path} announces {count} rows and has {max(len(filled) - 2, 0)}; copy it again")
    return ["file", *columns], [row for _, row in filled[2:]]


def _read_json(text: str, path: Path) -> Rows:
    wanted = '{"labels": [["file", label], ...]}'
    try:
        data = _parse(text)
    except ValueError as error:
        raise LabelsError(f"labels {path} are not JSON: {reason_of(error)}") from error
    entries = data.get("labels") if isinstance(data, dict) else data
    if isinstance(entries, dict):
        entries = [list(pair) for pair in entries.items()]
    if not entries or not isinstance(entries, list):
        raise LabelsError(f"{path} has no labels; NVIDIA's dataset.json is like {wanted}")
    if isinstance(entries[0], dict):
        return _read_records(entries, path)
    rows = []
    for i, entry in enumerate(entries):
        whole = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)
        values = entry[1] if whole and isinstance(entry[1], list) else [entry[1]] if whole else []
        if not whole or any(isinstance(value, (list, dict)) for value in values):
            raise LabelsError(f"entry {i} of the labels in {path} is {str(entry)[:40]!r}, not like {wanted}")
        rows.append([entry[0], *("" if value is None else _text(value) for value in values)])
        if len(rows[-1]) != len(rows[0]) or isinstance(entry[1], list) != isinstance(entries[0][1], list):
            raise LabelsError(
                f"entry {i} of the labels in {path} has {len(values)} labels, the first {len(rows[0]) - 1}"
            )
    width = len(rows[0]) - 1
    several = isinstance(entries[0][1], list)
    return ["file", *([f"label{i}" for i in range(width)] if several else ["label"])], rows


def _parse(text: str) -> Any:
    """A JSON value; a list of those on each line, where there are several."""
    try:
        value = parse_json(text, MOST_LETTERS)
    except ValueError:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) < 2 or not lines[0][1].strip().endswith("}"):
            raise
        return [_parse_line(*numbered) for numbered in lines]
    return [value] if isinstance(value, dict) and "labels" not in value else value


def _parse_line(number: int, line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        raise ValueError(f"in line {number}, {reason_of(error)}") from error


def _read_records(records: Sequence[Any], path: Path) -> Rows:
    """Of JSON objects: the columns are the names of what is a number, a word, true or false in one of them."""
    columns: dict[str, None] = {}
    for i, record in enumerate(records):
        if not isinstance(record, dict):
            raise LabelsError(f"entry {i} of the labels in {path} is {str(record)[:40]!r}, and the first one an object")
        columns |= dict.fromkeys(name for name, value in record.items() if isinstance(value, (str, int, float)))
    place = next((name for name in columns if name.lower() in _FILE_COLUMNS), None)
    if place is None:
        raise LabelsError(
            f"labels {path} do not say which file they are of; name one of {', '.join(list(columns)[:8])} 'file'"
        )
    nameless = next((i for i, record in enumerate(records) if not isinstance(record.get(place), str)), None)
    if nameless is not None:
        raise LabelsError(f"entry {nameless} of the labels in {path} has no '{place}'")
    names = [place, *(name for name in columns if name != place)]
    return names, [[_cell(record.get(name)) for name in names] for record in records]


def _cell(value: Any) -> str:
    """A number or a word as text; nothing for what is none."""
    return _text(value) if isinstance(value, (str, int, float)) else ""


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


__all__ = ["MOST_LETTERS", "Rows", "archive_rows", "has_own_labels", "text_rows"]
