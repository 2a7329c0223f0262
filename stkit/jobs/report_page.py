"""report.html: the report of an output folder for people, the worst photo first, with its pictures under a slider."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from stkit.contracts.inversion import ignore_progress
from stkit.errors import OutputError, PhotoError, UsageError
from stkit.files import atomic_path
from stkit.jobs.outputs import BEFORE_AFTER_SUFFIX, PAIR_SUFFIX, read_description
from stkit.jobs.page import MOST, Card, Picture, inline_picture, picture_side, render_page
from stkit.jobs.report import REPORT, Result, Row, read_report
from stkit.photo.images import split_row
from stkit.photo.reading import load_photo
from stkit.photo.suffixes import IMAGE_SUFFIXES

PAGE = "report.html"
_ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")
"""Bytes of a name that are no UTF-8, as reports write them; names of results have no backslashes of their own."""
_ENDS = (".crop.png", ".reconstruction.png", BEFORE_AFTER_SUFFIX)


def write_report_page(out: Path, on_progress: Callable[[int, int], None] = ignore_progress) -> Path:
    """Write `out`/report.html from the report.json that inverting or editing left in `out`; its path.

    A card for each result: what failed first, then by LPIPS (by MSE where that was not measured), the worst first.
    The pictures are in the page, those of the first `MOST` cards; its links lead to the files in `out`, where they
    are. `on_progress` gets (cards done, cards in all). Raises UsageError where there is no report, OutputError.
    """
    rows = read_report(out / Path(REPORT).with_suffix(".json"))
    if rows is None:
        raise UsageError(f"there is no report.json of stkit in {out}; give the --out folder of stkit invert or edit")
    path = out / PAGE
    _require_own(path)
    pairs = [(row, result) for row in rows for result in row.results or (None,)]
    pairs.sort(key=_badness, reverse=True)
    top = _common_folder(rows)
    side = picture_side(len(pairs))

    def card(index: int) -> Card:
        row, result = pairs[index]
        return _card(out, top, row, result, side if index < MOST else 0)

    cards = []
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        for one in pool.map(card, range(len(pairs))):
            cards.append(one)
            on_progress(len(cards), len(pairs))
    page = render_page(f"Report of {out.resolve().name}", _about(out, pairs), _facts(rows), cards=cards)
    with atomic_path(path) as temporary:
        temporary.write_bytes(page)
    return path


def _require_own(path: Path) -> None:
    """Raise OutputError where something else has the page's name."""
    try:
        with path.open("rb") as file:
            if b'<meta name="generator" content="stkit">' in file.read(2000):
                return
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"cannot replace {path}: {error.strerror}; move it away") from error
    raise OutputError(f"{path} is there already and no report of stkit; move it away")


def _badness(pair: tuple[Row, Result | None]) -> tuple[bool, float, float]:
    row, result = pair
    metrics = result.metrics if result else {}
    return row.status in ("failed", "not reached"), metrics.get("lpips", -1.0), metrics.get("mse", -1.0)


def _common_folder(rows: Sequence[Row]) -> str:
    """The folder that all photos are in, whose name need not be repeated."""
    try:
        return os.path.commonpath([os.path.dirname(row.photo) for row in rows])
    except ValueError:  # of some the folder is named from the root, of others not
        return ""


def _card(out: Path, top: str, row: Row, result: Result | None, side: int) -> Card:
    title = os.path.relpath(row.photo, top) if top else row.photo
    notes = [row.notes] if row.notes else []
    if result is None:
        return Card(title, notes=notes, failed=row.reason or ("not reached" if row.status != "ok" else ""))
    files = [found for path in result.files if (found := _below(out, path))]
    if len(row.results) > 1:
        title += f" ({row.results.index(result) + 1})"
    facts = {name.upper() if name in ("mse", "lpips") else name: _figure(v) for name, v in result.metrics.items()}
    if row.detector:
        facts["seen by"] = row.detector
    if (row.subjects_found or 0) > 1:
        facts["found"] = str(row.subjects_found)
    link = quote(os.fsencode(_main(files).relative_to(out).as_posix())) if files else ""
    return Card(title, list(_pictures(files, side)) if side else [], facts, notes, link=link)


def _figure(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() and value else f"{value:.4f}"


def _below(out: Path, path: Path) -> Path | None:
    """Where a file of a report is in `out` now, wherever that was when it was written."""
    path = Path(_ESCAPED.sub(lambda found: chr(int(found[1], 16)), str(path)))
    parts = path.parts[1:] if path.is_absolute() else path.parts
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    return next((found for i in range(len(parts)) if (found := out.joinpath(*parts[i:])).is_file()), None)


def _main(files: Sequence[Path]) -> Path:
    return next((path for path in files if path.name.endswith(PAIR_SUFFIX)), files[0])


def _pictures(files: Sequence[Path], side: int) -> Iterator[Picture]:
    """What to show of a result: photo and reconstruction, before and after, or the strip of a sweep."""
    ends = {end: path for path in files for end in _ENDS if path.name.endswith(end)}
    try:
        if ".reconstruction.png" in ends and ".crop.png" in ends:
            yield _picture(load_photo(ends[".crop.png"]).image, side, "photo")
            yield _picture(load_photo(ends[".reconstruction.png"]).image, side, "reconstruction")
        elif BEFORE_AFTER_SUFFIX in ends:
            row = load_photo(ends[BEFORE_AFTER_SUFFIX]).image
            parts = split_row(row, _count(row) if ".crop.png" in ends else 2)
            yield _picture(parts[0], side, "before")
            yield _picture(parts[-1], side, "after")
        elif files and files[0].suffix.lower() in IMAGE_SUFFIXES:
            yield _picture(load_photo(files[0]).image, 2 * side, "")
    except PhotoError:  # it was written well, but is somebody's file now
        return


def _picture(image: Image.Image, side: int, caption: str) -> Picture:
    return Picture(inline_picture(image, side), caption)


def _count(row: Image.Image) -> int:
    """How many crops, which are square, are beside each other."""
    return next((count for count in (2, 3) if (part := split_row(row, count)[0]).width == part.height), 2)


def _facts(rows: Sequence[Row]) -> dict[str, str]:
    facts = {"photos": f"{len(rows):,}"}
    failed = sum(row.status == "failed" for row in rows)
    if failed:
        facts["failed"] = f"{failed:,}"
    if left := sum(row.status == "not reached" for row in rows):
        facts["not reached"] = f"{left:,}"
    if noted := sum(bool(row.notes) for row in rows):
        facts["with notes"] = f"{noted:,}"
    for name, label in (("lpips", "mean LPIPS"), ("mse", "mean MSE")):
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        if values:
            facts[label] = f"{sum(values) / len(values):.4f}"
    return facts


def _about(out: Path, pairs: Sequence[tuple[Row, Result | None]]) -> str:
    """With what the results were made, as the first one's description says, and how the page is sorted."""
    files = [_below(out, path) for _, result in pairs if result for path in result.files[-1:]]
    known = next((data for path in files if path and (data := read_description(path))), {})
    settings = known.get("settings") or {}
    what = [f"weights {known['weights']}"] if known.get("weights") else []
    what += [f"inverter {settings['inverter']}"] if settings.get("inverter") else []
    edits = settings.get("edits") or []
    what += [f"{edit.get('attribute') or edit.get('method')}={edit.get('strength')}" for edit in edits]
    text = ", ".join(what) + ". " if what else ""
    shown = f" Pictures of the first {MOST:,} are shown." if len(pairs) > MOST else ""
    return f"{text}What failed comes first, then the worst reconstruction.{shown}"


__all__ = ["PAGE", "write_report_page"]
