"""The job of `stkit invert --format parquet`: codes of many photos in a few files, without pictures."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stkit.editor.results import Framed, Inverted
from stkit.errors import OutputError
from stkit.files import write_all
from stkit.jobs.invert import InversionJob, done_row
from stkit.jobs.outputs import difference, discard
from stkit.jobs.report import COLUMNS, Row
from stkit.jobs.sources import TABLE_SUFFIX, Item
from stkit.latents.latents import join_latents
from stkit.latents.table import Codes, drop_rows, encode_table, read_facts, read_rows
from stkit.measure.usual import warn_if_unusual
from stkit.photo.ondisk import fingerprint
from stkit.photo.reading import decode_photo, read_photo
from stkit.remote import RemotePath

logger = logging.getLogger("stkit")

_ROWS = 1000  # of a file
_SECONDS = 60  # so much work at most is lost when the process is killed
_OWN = tuple(name for name in COLUMNS if name != "folder")


@dataclass(frozen=True, eq=False, kw_only=True)
class CodesJob(InversionJob):
    """Inverts photos like `InversionJob`; the codes are in `Row.latents`, and nothing is written."""

    def prepare(self, item: Item) -> Row | list[Framed]:
        """Read, locate and crop; the earlier row where the photo is the same."""
        data = read_photo(item.path)
        if item.earlier is not None and item.earlier.sha256 == fingerprint(data):
            if item.earlier.notes:
                logger.warning("%s", item.earlier.notes)
            return dataclasses.replace(item.earlier, status="kept")
        return self.place.frame(self.editor, decode_photo(data, item.path))

    def finish(self, item: Item, result: list[Inverted]) -> Row:
        """The row with the codes of all subjects."""
        for one in result:
            warn_if_unusual(self.editor.weights, one.metrics, item.path, self.editor.domain)
        row = done_row(item, item.base(self.out), result, ())
        return dataclasses.replace(row, folder=str(self.out), latents=join_latents([one.latents for one in result]))


def shards_in(out: Path) -> list[Path]:
    """The files with codes in a folder, the oldest first."""
    return sorted(out.glob(f"codes-*{TABLE_SUFFIX}"))


def earlier_rows(out: Path, settings: Mapping[str, Any]) -> dict[str, Row]:
    """By their photos, the rows with codes that earlier runs with the same `settings` have left in `out`.

    Raises OutputError where they had others, LatentsError for a damaged file.
    """
    rows: dict[str, Row] = {}
    for path in shards_in(out):
        if (there := read_facts(path)["settings"]) != settings:
            raise OutputError(
                f"{path} was made with {difference(there, settings)}; choose another folder with --out, or give "
                "--overwrite"
            )
        for values in read_rows(path, _OWN):
            rows[values["photo"]] = Row(folder=str(out), **values)  # what came later counts
    return {photo: row for photo, row in rows.items() if row.status == "ok"}


def keep_codes(rows: Iterable[Row], out: Path, facts: Mapping[str, Any]) -> Generator[Row]:
    """The same rows without their codes, which are written to files in `out`, a thousand or a minute's work in each.

    At the end one row of each photo is left. Raises OutputError.
    """
    number = max((int(path.name[6:11]) for path in shards_in(out)), default=-1) + 1
    own = f"-{secrets.token_hex(4)}" if isinstance(out, RemotePath) else ""  # which is not locked
    waiting: list[Row] = []
    since = time.monotonic()

    def write() -> None:
        nonlocal number
        if waiting:
            path = out / f"codes-{number:05}{own}{TABLE_SUFFIX}"
            values = [{name: getattr(row, name) for name in _OWN} for row in waiting]
            write_all({path: encode_table(values, [_codes(row) for row in waiting], facts)}, overwrite=True)
            number += 1
            waiting.clear()

    try:
        for row in rows:
            if row.status in ("ok", "failed"):
                waiting.append(row)
            if len(waiting) >= _ROWS or time.monotonic() - since > _SECONDS:
                write()
                since = time.monotonic()
            yield dataclasses.replace(row, latents=None)
    finally:
        write()
    _drop_superseded(shards_in(out))


def _codes(row: Row) -> Codes | None:
    if row.latents is None:
        return None
    rows = [dataclasses.asdict(one) for one in row.latents.provenance]
    return Codes(row.latents.codes.detach().cpu().float().numpy(), rows)


def _drop_superseded(shards: Sequence[Path]) -> None:
    """Leave the last row of each photo."""
    seen: set[str] = set()
    for path in reversed(shards):
        photos = [row["photo"] for row in read_rows(path, ["photo"])]
        kept = [photo not in seen for photo in photos]
        if not any(kept):
            discard([path])
        elif not all(kept):
            write_all({path: drop_rows(path, kept)}, overwrite=True)
        seen.update(photos)


__all__ = ["CodesJob", "earlier_rows", "keep_codes", "shards_in"]
