"""Folders on the command line: progress, the table at the end, report.csv, the exit code."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from stkit.cli.common import console, print_error, progress_bar
from stkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stkit.jobs.runner import FolderJob, Row
    from stkit.jobs.sources import Item, Listing

FAILED = 3
"""The exit code when photos failed and the others are done."""
_SHOWN = 50

SheetFlag = Annotated[bool, typer.Option("--sheet", help="For many photos: all results as contact sheets.")]
BatchFlag = Annotated[int, typer.Option("--batch-size", min=1, help="Photos of a folder that go through together.")]


def run_job(
    sources: Sequence[str],
    out: Path,
    make_job: Callable[[], FolderJob],
    batch_size: int,
    finish: Callable[[Any, list[Item]], Path] | None = None,
    sheet: bool = False,
) -> None:
    """List `sources`, run the job on them, and report; `finish` gets what is done, and its path is printed.

    With `sheet` the pictures of what is done are put together on contact sheets.

    Ends with exit code 3 when a photo failed. However it ends, report.csv has a row for every photo.
    """
    from stkit.jobs.previews import contact_sheets
    from stkit.jobs.runner import REPORT, Row, locked, run_batch, write_report
    from stkit.jobs.sources import list_photos

    listing = list_photos(sources, out)
    started = time.monotonic()
    rows = [Row(path, "failed", reason) for path, reason in listing.problems]
    done = {str(item.path): Row(str(item.path), "not reached") for item in listing.items}
    with locked(out):
        job = make_job()
        try:
            with progress_bar("photos") as progress:
                progress(0, len(done))
                for count, row in enumerate(run_batch(listing.items, job, batch_size), 1):
                    done[row.photo] = row
                    progress(count, len(done))
            items = [item for item in listing.items if done[str(item.path)].status in ("ok", "kept")]
            made = [finish(job, items)] if finish and items else []
            if sheet:
                made += contact_sheets([(str(item.name), job.pictures(item)) for item in items], out / "contact-sheet")
        except KeyboardInterrupt:
            reached = sum(row.status != "not reached" for row in done.values())
            print_error(f"interrupted after {reached} of {len(done)} photos; start the same command again to go on")
            raise typer.Exit(130) from None
        finally:
            write_report([*done.values(), *rows], out / REPORT)
    rows += done.values()
    _summary(rows, listing, time.monotonic() - started)
    for path in [*made, out / REPORT]:
        console.print(str(path))
    if any(row.status == "failed" for row in rows):
        raise typer.Exit(FAILED)


def require_many(landmarks: Path | None, box: str | None) -> None:
    """Raise UsageError for flags that speak of one photo."""
    if landmarks is not None or box is not None:
        raise UsageError("--landmarks and --box are for one photo; name it alone")


def _summary(rows: list[Row], listing: Listing, seconds: float) -> None:
    from rich.table import Table

    from stkit.jobs.runner import printable

    failed = [row for row in rows if row.status == "failed"]
    for row in failed[:_SHOWN]:
        # Most reasons begin with the path.
        text = row.reason if row.photo in row.reason else f"{row.photo}: {row.reason}"
        console.print(Text.assemble(("failed:", "red"), f" {printable(text)}"))
    if len(failed) > _SHOWN:
        console.print(f"... and {len(failed) - _SHOWN} more in the report")
    counts = Counter(row.status for row in rows)
    errors = [row.mse for row in rows if row.mse is not None]
    table = Table(show_header=False)
    table.add_row("done", str(counts["ok"]))
    table.add_row("kept from an earlier run", str(counts["kept"]))
    table.add_row("failed", str(counts["failed"]))
    table.add_row("other files, left aside", str(listing.ignored))
    if errors:
        table.add_row("mean MSE (images in [-1, 1])", f"{sum(errors) / len(errors):.4f}")
    rate = f" ({counts['ok'] / seconds:.2f} photos/s)" if counts["ok"] else ""
    table.add_row("time", f"{seconds:.0f} s{rate}")
    console.print(table)


__all__ = ["FAILED", "BatchFlag", "SheetFlag", "require_many", "run_job"]
