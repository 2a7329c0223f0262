"""`stkit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stkit.cli.common import console, progress_bar

COMMAND = "report"


def run(out: Annotated[Path, typer.Argument(help="The --out folder of stkit invert or stkit edit.")]) -> None:
    """Write OUT/report.html: all results on one page, before and after under a slider, the worst first.

    The page needs nothing beside it: it can be sent to others, and fetches nothing.
    """
    from stkit.jobs.report_page import write_report_page

    with progress_bar("reading pictures") as move:
        path = write_report_page(out, move)
    console.print(str(path))


__all__ = ["COMMAND", "run"]
