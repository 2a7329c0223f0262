"""Labels of photos: tables of text, found beside photos or in their archive; see `stkit.datasets.label_rows`."""

from __future__ import annotations

import collections
import logging
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from stkit.datasets.label_rows import MOST_LETTERS, archive_rows, has_own_labels, text_rows
from stkit.errors import LabelsError, PhotoError, UnknownNameError, UsageError, reason_of
from stkit.files import read_bytes, require_file
from stkit.photo.archives import ARCHIVE_SUFFIXES, open_archive, read_member, split_zip

_log = logging.getLogger("stkit")

_USUAL_NAMES = ("dataset.json", "list_attr_celeba.txt", "metadata.jsonl")
_MISSING = {"", "nan", "na", "n/a", "none", "null"}


@dataclass(frozen=True, eq=False)
class Labels:
    """One row a photo: `files` [N] as the label file names them, the cells of each column as text [N].

    `split` [N] holds the column of that name ("train", "val", ...), or is None where there is none.
    """

    path: Path
    files: list[str]
    cells: Mapping[str, Sequence[str]]
    split: np.ndarray | None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def names(self) -> list[str]:
        """The columns that hold labels."""
        return list(self.cells)

    def column(self, name: str, positive: str | None = None) -> np.ndarray:
        """The labels of column `name`, float64 [N], NaN where a cell is empty or not a finite number.

        CelebA's -1 and 1 become 0 and 1. With `positive` the column holds words (or classes): 1 where a
        cell is `positive`, 0 where it is another one; without it, of two words the last in the alphabet is 1
        (yes of no and yes, M of F and M), and a note says so. Raises UnknownNameError for a column that is
        not there, LabelsError where there is none at all, UsageError for other words without `positive` and for a
        `positive` that no cell has.
        """
        if not self.cells:
            raise LabelsError(f"labels {self.path} name files and say nothing of them; add a column '{name}'")
        if name not in self.cells:
            raise UnknownNameError(f"column in {self.path.name}", name, self.cells)
        cells = self.cells[name]
        known = np.array([cell.lower() not in _MISSING for cell in cells], dtype=bool)
        values = np.full(len(cells), np.nan)
        if positive is not None:
            if positive not in cells:
                raise UsageError(f"column '{name}' of {self.path} never holds '{positive}'; it holds {_counts(cells)}")
            values[known] = [cell == positive for cell, there in zip(cells, known, strict=True) if there]
            return values
        try:
            values[known] = [float(cell) for cell, there in zip(cells, known, strict=True) if there]
        except ValueError:
            words = [cell for cell, there in zip(cells, known, strict=True) if there and not _is_number(cell)]
            if 2 * len(words) < known.sum():
                raise UsageError(
                    f"column '{name}' of {self.path} holds numbers, but for {len(words)} cells: {_counts(words)}; "
                    "correct or empty them"
                ) from None
            both = sorted(set(words))
            if len(both) == 2 and len(words) == known.sum():
                _log.info(
                    "'%s': %s counts as 1, %s as 0; `%s=%s` turns it round", name, both[1], both[0], name, both[0]
                )
                return self.column(name, both[1])
            raise UsageError(
                f"column '{name}' of {self.path} holds words ({_counts(cells)}); choose which one counts as 1, "
                f"like {name}={_common(cells)[0][0]}"
            ) from None
        values[~np.isfinite(values)] = np.nan
        if set(values[np.isfinite(values)]) == {-1.0, 1.0}:
            values = (values + 1) / 2
        return values


@dataclass(frozen=True)
class AttributeSpec:
    """An attribute on the command line: a column, and for a column of words the one that counts as 1 (`sex=M`)."""

    column: str
    positive: str | None = None

    @classmethod
    def parse(cls, text: str) -> AttributeSpec:
        """From `smile` or `sex=M`. Raises UsageError."""
        column, sign, positive = text.strip().partition("=")
        if not column or (sign and not positive):
            raise UsageError(f"attribute '{text}' is not like smile or sex=M")
        return cls(column, positive or None)


def load_labels(path: Path) -> Labels:
    """Read a label file; its format is told from its contents.

    - CSV, TSV or semicolons, with a header and a column for the file (`file`, `filename`, `image_id`, `path`, ...);
    - CelebA's list_attr_celeba.txt: the number of rows, the attributes, then a file and -1 or 1 each;
    - NVIDIA's dataset.json: `{"labels": [["file", 3], ...]}` (column `label`) or `[["file", [0.1, 0.7]], ...]`
      (columns `label0`, `label1`, ...);
    - JSON objects with the file and its labels, in a list or one a line (Hugging Face's metadata.jsonl).

    A folder or archive of photos stands for the label file in it, for what a Parquet file or WebDataset's shards have
    beside each photo, or for `NAME.csv` beside it. Raises LabelsError saying what is wrong and in which line.
    """
    path = label_file(Path(path))
    if path.suffix.lower() in ARCHIVE_SUFFIXES:
        return _labels(path, *archive_rows(path))
    try:
        zipped = split_zip(path)
        data = read_bytes(path, MOST_LETTERS) if zipped is None else read_member(*zipped)
        text = data.decode("utf-8-sig")
    except PhotoError as error:
        raise LabelsError(f"cannot read labels: {error}") from error
    except OSError as error:
        raise LabelsError(f"cannot read labels {path}: {reason_of(error)}; check the path") from error
    except UnicodeDecodeError:
        raise LabelsError(f"labels {path} are not UTF-8 text; save them as a UTF-8 CSV") from None
    return _labels(path, *text_rows(text, path))


def label_file(source: Path) -> Path:
    """`source`, or the label file of photos where it is their folder or archive: in it, or else beside it.

    That is NVIDIA's dataset.json, CelebA's list_attr_celeba.txt, Hugging Face's metadata.jsonl, or the only CSV or TSV
    at the top, which is the folder that all else is in. An archive that has labels beside each photo is its own.
    Raises LabelsError.
    """
    try:
        if source.exists():
            require_file(source)
        if source.is_dir():
            inside = [PurePosixPath(path.name) for path in sorted(source.iterdir()) if path.is_file()]
        elif source.suffix.lower() in ARCHIVE_SUFFIXES or zipfile.is_zipfile(source):
            inside = list(open_archive(source).members)
        else:
            return source
    except OSError as error:
        raise LabelsError(f"cannot read labels {source}: {reason_of(error)}; check the path") from error
    except PhotoError as error:
        raise LabelsError(f"cannot read labels: {error}") from error
    for name in _USUAL_NAMES:
        found = sorted((path for path in inside if path.name == name), key=lambda path: len(path.parts))
        if found:
            return source / found[0]
    seen = [path for path in inside if not any(part.startswith((".", "__MACOSX")) for part in path.parts)]
    top = PurePosixPath(os.path.commonpath([path.parent for path in seen])) if seen else None
    tables = [path for path in seen if path.suffix.lower() in (".csv", ".tsv") and path.parent == top]
    if len(tables) > 1:
        choice = f"choose one, like --labels {source / tables[0]}"
        raise LabelsError(f"{source} holds {len(tables)} tables ({tables[0]}, {tables[1]}); {choice}")
    if tables:
        return source / tables[0]
    if has_own_labels(source, inside):
        return source
    beside = labels_beside(source)
    if beside.is_file():
        return beside
    raise LabelsError(f"{source} holds no label file ({', '.join(_USUAL_NAMES)} or a CSV); give one with --labels")


def labels_beside(source: Path) -> Path:
    """Where the CSV of a folder or archive of images lies, if any: `photos.csv` for `photos` and `photos.zip`."""
    source = source.resolve()
    return source.with_name(source.name + ".csv") if source.is_dir() else source.with_suffix(".csv")


def match_photos(labels: Labels, names: Iterable[str]) -> dict[int, str]:
    """Row of the labels -> photo, for the photos `names`: by the whole path, otherwise by the bare file name.

    Raises LabelsError when none matches, or when a bare file name stands for several photos.
    """
    names = list(names)
    whole = set(names)
    bare: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        bare[PurePosixPath(name.replace("\\", "/")).name].append(name)
    found: dict[int, str] = {}
    for row, file in enumerate(labels.files):
        candidates = [file] if file in whole else bare.get(PurePosixPath(file).name, [])
        if len(candidates) > 1:
            raise LabelsError(
                f"'{file}' in {labels.path} stands for {len(candidates)} photos ({candidates[0]}, {candidates[1]}, "
                f"...); write their folders into the label file too"
            )
        if candidates:
            found[row] = candidates[0]
    if not found:
        some = f"{labels.files[0]!r} there, {names[0]!r} here" if names else "there is no photo"
        raise LabelsError(f"no photo has a row in {labels.path}: {some}; the file names must agree")
    return found


def _labels(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Labels:
    """`columns` with the file first, and as many cells a row."""
    twice = [name for name, count in collections.Counter(columns).items() if count > 1]
    if twice:
        raise LabelsError(f"labels {path} have the column '{twice[0]}' more than once; rename one of them")
    table = list(rows)
    if not table:
        raise LabelsError(f"labels {path} have a header and no rows")
    own = [row[0] for row in table]
    files = [name.replace("\\", "/") for name in own]
    if len(set(files)) < len(set(own)):  # some programs write backslashes for slashes, and some mean them
        files = own
    repeated = [file for file, count in collections.Counter(files).items() if count > 1]
    if repeated:
        raise LabelsError(f"labels {path} have {len(repeated)} files in several rows, like '{repeated[0]}'; keep one")
    cells = {name: [row[i].strip() for row in table] for i, name in enumerate(columns) if i and name != "split"}
    split = None
    if "split" in columns:
        split = np.array([row[columns.index("split")].strip() for row in table])
    return Labels(path, files, cells, split)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _common(cells: Sequence[str]) -> list[tuple[str, int]]:
    return collections.Counter(cell for cell in cells if cell.lower() not in _MISSING).most_common()


def _counts(cells: Sequence[str]) -> str:
    common = _common(cells)
    return ", ".join(f"{value} {count}" for value, count in common[:8]) + (", ..." if len(common) > 8 else "")


__all__ = ["AttributeSpec", "Labels", "label_file", "labels_beside", "load_labels", "match_photos"]
