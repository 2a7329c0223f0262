"""What `stkit invert` and `stkit edit` share: the flags of a request, and how what became of it is printed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from stkit.cli.common import (
    ENGINE,
    BoxFlag,
    DeviceFlag,
    DomainFlag,
    FaceFlag,
    InverterFlag,
    LandmarksFlag,
    OptionFlag,
    OverwriteFlag,
    QualityFlag,
    RefineFlag,
    WeightsFlag,
    bars,
    console,
    print_error,
)

if TYPE_CHECKING:
    from stkit.jobs.report import Report, Row
    from stkit.jobs.request import Request

FAILED = 3
"""The exit code when photos failed and the others are done."""
_SHOWN = 50

SHARED: Mapping[str, Any] = {
    "domain": DomainFlag,
    "weights": WeightsFlag,
    "inverter": InverterFlag,
    "options": OptionFlag,
    "quality": QualityFlag,
    "refine": RefineFlag,
    "face": FaceFlag,
    "landmarks": LandmarksFlag,
    "box": BoxFlag,
    "overwrite": OverwriteFlag,
    "device": DeviceFlag,
    "batch_size": Annotated[
        int, typer.Option("--batch-size", min=1, help="Photos of a folder that go through together.")
    ],
    "sheet": Annotated[bool, typer.Option("--sheet", help="For many photos: all results as contact sheets.")],
    **ENGINE,
}
"""The flags of the fields of `stkit.jobs.request.Request`."""
MANY = ("batch_size", "sheet", *ENGINE)
"""Those that are for many photos."""


def run_request(request: Request) -> Report:
    """Do what `request` says with bars on stderr, and print what became of it."""
    started = time.monotonic()
    try:
        with _bars() as tell:
            tell("loading the model", 0, 0)
            from stkit.jobs.run import run

            report = run(request, tell)
    except KeyboardInterrupt as interrupt:
        print_error(str(interrupt) or "interrupted")
        raise typer.Exit(130) from None
    if not report.alone:
        _summary(report, time.monotonic() - started)
    return report


def print_files(row: Row) -> None:
    """What one photo gave, and where it is."""
    for result in row.results:
        if result.summary:
            console.print(result.summary)
        for path in result.files:
            console.print(str(path))


def end(report: Report) -> None:
    """The exit code of what failed."""
    if report.failed:
        raise typer.Exit(FAILED)


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr for what is told, until something else is; none where stderr is no terminal."""
    with bars() as shown:
        task: Any = None
        now = ""

        def tell(what: str, done: int, total: int) -> None:
            nonlocal task, now
            if what != now:
                if task is not None:
                    shown.remove_task(task)
                task, now = shown.add_task(what, total=total or None), what
            shown.update(task, completed=done, total=total or None)

        yield tell


def _summary(report: Report, seconds: float) -> None:
    from rich.table import Table

    from stkit.files import one_line

    for row in report.failed[:_SHOWN]:
        # Most reasons begin with the path.
        text = row.reason if row.photo in row.reason else f"{row.photo}: {row.reason}"
        console.print(Text.assemble(("failed:", "red"), f" {one_line(text)}"))
    if len(report.failed) > _SHOWN:
        console.print(f"... and {len(report.failed) - _SHOWN} more in the report")
    counts = Counter(row.status for row in report.rows)
    table = Table(show_header=False)
    table.add_row("done", str(counts["ok"]))
    table.add_row("kept from an earlier run", str(counts["kept"]))
    table.add_row("failed", str(counts["failed"]))
    table.add_row("other files, left aside", str(report.ignored))
    for label, found in (
        ("mean MSE (images in [-1, 1])", [row.mse for row in report.rows if row.mse is not None]),
        ("mean LPIPS", [row.lpips for row in report.rows if row.lpips is not None]),
    ):
        if found:
            table.add_row(label, f"{sum(found) / len(found):.4f}")
    rate = f" ({counts['ok'] / seconds:.2f} photos/s)" if counts["ok"] else ""
    table.add_row("time", f"{seconds:.0f} s{rate}")
    console.print(table)
    for path in [*report.made, report.path]:
        console.print(str(path))


__all__ = ["FAILED", "MANY", "SHARED", "end", "print_files", "run_request"]
