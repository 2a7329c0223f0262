"""What became of the photos of a job: rows, and report.csv and report.json in the output folder."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from stkit.files import parse_json, printable, read_text, write_all

if TYPE_CHECKING:
    from PIL import Image

    from stkit.latents.latents import Latents

logger = logging.getLogger("stkit")

REPORT = "report.csv"
COLUMNS = ("photo", "status", "reason", "folder", "subjects_found", "detector", "mse", "lpips", "sha256", "notes")
"""Of report.csv; fields of `Row`."""
_FORMAT = "stkit-report-1"

Status = Literal["ok", "kept", "failed", "not reached"]


@dataclass(frozen=True)
class Result:
    """One thing that a photo gave: the inversion of a subject, an edit, an edited clip.

    `files` are its files, what it is mainly about first; `metrics` what was measured, `summary` that as people read it.
    `view` is what to show of it in little room, where a photo was alone and is new.
    """

    files: tuple[Path, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    summary: str = ""
    view: Image.Image | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Row:
    """What became of one photo, or of one clip: a line of report.csv.

    `status` is "ok", "kept" (done by an earlier run), "failed" or "not reached"; `reason` says why it failed, `notes`
    what was remarkable, `folder` where the results are, `detector` what found the (first) subject; `mse` (images in
    [-1, 1]) and `lpips`, where that is installed, are of the reconstruction, means over the subjects. `latents` are
    codes on their way to where they are kept; no report has them.
    """

    photo: str
    status: Status
    reason: str = ""
    folder: str = ""
    subjects_found: int | None = None
    detector: str = ""
    mse: float | None = None
    lpips: float | None = None
    sha256: str = ""
    notes: str = ""
    results: tuple[Result, ...] = ()
    latents: Latents | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Report:
    """What a job did: a row for each photo, in the order of the sources; what cannot be read comes first.

    `out` is the folder with report.csv and report.json, `made` what was made of all photos together (contact sheets,
    joined latents), `ignored` the number of files that were left aside. `alone` says that one photo was named, and not
    a folder.
    """

    rows: tuple[Row, ...]
    out: Path
    made: tuple[Path, ...] = ()
    ignored: int = 0
    alone: bool = False

    @property
    def failed(self) -> list[Row]:
        """The rows of what failed."""
        return [row for row in self.rows if row.status == "failed"]

    @property
    def path(self) -> Path:
        """Where report.csv is."""
        return self.out / REPORT


def mean_metric(metrics: Iterable[Mapping[str, float]], name: str) -> float | None:
    """The mean of one metric; None unless all have it."""
    values = [one.get(name) for one in metrics]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def write_report(rows: Iterable[Row], path: Path) -> None:
    """Write report.csv at `path` (UTF-8, one line a row, in the given order), and report.json. Raises OutputError."""
    _write([_as_dict(row) for row in rows], path)


def add_to_report(rows: Sequence[Row], path: Path) -> None:
    """Write `rows` into the report at `path`, in the place of those of the same photos; the others there stay.

    What is called so and is no report of stkit stays as it is. Raises OutputError.
    """
    earlier = read_report(path.with_suffix(".json"))
    if earlier is None and path.exists():
        logger.info("%s is there already and no report of this version; it stays as it is", path)
        return
    photos = {printable(row.photo) for row in rows}
    _write([_as_dict(row) for row in [*(row for row in earlier or () if row.photo not in photos), *rows]], path)


def _as_dict(row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(row, name) for name in COLUMNS}
    for name in ("mse", "lpips"):
        values[name] = None if values[name] is None else round(values[name], 6)
    values = {key: printable(value) if isinstance(value, str) else value for key, value in values.items()}
    results = [
        {
            "files": [printable(str(path)) for path in one.files],
            "metrics": {name: round(value, 6) for name, value in one.metrics.items()},
        }
        for one in row.results
    ]
    return {**values, "results": results}


def _write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        errors = {name: "" if row[name] is None else f"{row[name]:.6f}" for name in ("mse", "lpips")}
        writer.writerow({**row, **errors})
    data = json.dumps({"format": _FORMAT, "photos": rows}, indent=1, ensure_ascii=False) + "\n"
    files = {path: text.getvalue().encode(), path.with_suffix(".json"): data.encode()}
    write_all(files, overwrite=True)


def read_report(path: Path) -> list[Row] | None:
    """The rows of a report.json; None where there is none, or something else."""
    rows = _read(path)
    try:
        return None if rows is None else [_as_row(row) for row in rows]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _as_row(row: Mapping[str, Any]) -> Row:
    if row["status"] not in get_args(Status):
        raise ValueError(f"no status '{row['status']}'")
    results = tuple(
        Result(tuple(map(Path, one["files"])), {name: float(value) for name, value in one["metrics"].items()})
        for one in row.get("results") or ()
    )
    values: dict[str, Any] = {
        name: str(row[name] or "") for name in ("reason", "folder", "detector", "sha256", "notes")
    }
    values |= {name: None if row[name] is None else float(row[name]) for name in ("mse", "lpips")}
    found = None if row["subjects_found"] is None else int(row["subjects_found"])
    return Row(printable(row["photo"]), row["status"], subjects_found=found, results=results, **values)


def _read(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a report.json; None where there is none, or something else."""
    try:
        data = parse_json(read_text(path))
        if data["format"] != _FORMAT:
            return None
        return [{**{name: None for name in COLUMNS}, **row, "photo": str(row["photo"])} for row in data["photos"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


__all__ = [
    "COLUMNS",
    "REPORT",
    "Report",
    "Result",
    "Row",
    "add_to_report",
    "mean_metric",
    "read_report",
    "write_report",
]
