"""`stkit invert`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from stkit.cli.common import OutFlag
from stkit.cli.flags import takes
from stkit.cli.requests import MANY, SHARED, end, print_files, run_request
from stkit.jobs.request import InvertRequest

COMMAND = "invert"


class Format(str, enum.Enum):
    """What a folder of photos leaves."""

    FOLDER = "folder"
    PARQUET = "parquet"


class LatentFiles(str, enum.Enum):
    """How the codes of a folder are kept."""

    EACH = "each"
    ONE = "one"


FLAGS = {
    "photo": Annotated[list[str], typer.Argument(help="A photo; or folders, patterns like '*.jpg', archives, URLs.")],
    **{name: flag for name, flag in SHARED.items() if name not in ("overwrite", "device", *MANY)},
    "out": OutFlag,
    "overwrite": SHARED["overwrite"],
    "device": SHARED["device"],
    "latents": Annotated[
        LatentFiles, typer.Option("--latents", help="For a folder: a latent file for each photo, or one for all.")
    ],
    "format": Annotated[
        Format,
        typer.Option("--format", help="For a folder: files of each photo, or codes and measures alone, as Parquet."),
    ],
    **{name: SHARED[name] for name in MANY},
}


@takes(InvertRequest, FLAGS, {"photo": "sources"}, out=Path("out"), latents=LatentFiles.EACH, format=Format.FOLDER)
def run(request: InvertRequest) -> None:
    """Find the subject, invert it, and write crop, reconstruction, latents and a report to OUT/PHOTO/.

    Folders, patterns and ZIP archives go through in batches: what is done is kept, so an interrupted run continues
    when it is started again; OUT/report.csv has a row for each photo; the exit code is 3 when some failed.
    """
    report = run_request(request)
    if report.alone:
        print_files(report.rows[0])
    end(report)


__all__ = ["COMMAND", "Format", "LatentFiles", "run"]
