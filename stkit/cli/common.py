"""What the commands share: consoles, and the core flags in one place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from stkit.plugins import load_plugins

if TYPE_CHECKING:
    from stkit.editor import Editor

console = Console(soft_wrap=True, highlight=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False)


def print_error(message: str) -> None:
    """One line on stderr."""
    errors.print(f"[bold red]error:[/] {escape(' '.join(message.split()))}")


class NoteHandler(logging.Handler):
    """Log records of `stkit` as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        label = "warning" if record.levelno >= logging.WARNING else "note"
        errors.print(f"[{style}]{label}:[/] {escape(record.getMessage())}")


def open_editor(domain: str, weights: str | None, device: str) -> Editor:
    """The editor of `--weights`, or of the domain's default weights."""
    from stkit.editor import load

    return load(weights or load_plugins().domain(domain).default_weights, device)


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, moved by calls with (done, total); nothing where stderr is no terminal."""
    from rich.progress import Progress

    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task(text)
        yield lambda done, total: progress.update(task, completed=done, total=total)


DomainFlag = Annotated[str, typer.Option("--domain", help="What the photo shows; see `stkit domains`.")]
WeightsFlag = Annotated[
    str | None,
    typer.Option("--weights", help="Weights by name or folder; the domain's default otherwise. See `stkit weights`."),
]
InverterFlag = Annotated[str, typer.Option("--inverter", help="How to invert; see `stkit inverters`.")]
DeviceFlag = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
OutFlag = Annotated[Path, typer.Option("--out", help="Folder for what is made.")]
OptionFlag = Annotated[
    list[str] | None,
    typer.Option("-o", "--option", metavar="KEY=VALUE", help="An option of the method; may be repeated."),
]
AlignedFlag = Annotated[
    bool, typer.Option("--aligned/--photos", help="The images are crops framed like the weights' training data.")
]
LimitFlag = Annotated[int | None, typer.Option("--limit", min=1, help="Use this many photos, chosen at random.")]
ReplaceFlag = Annotated[bool, typer.Option("--replace", help="Replace what has this name already.")]

FaceFlag = Annotated[
    str,
    typer.Option(
        "--face", metavar="WHICH", help="all, largest, a number of `stkit faces`, or a place x,y in photo pixels."
    ),
]
LandmarksFlag = Annotated[
    Path | None,
    typer.Option("--landmarks", help="JSON list of [x, y] in photo pixels, instead of searching (see the docs)."),
]
BoxFlag = Annotated[
    str | None,
    typer.Option("--box", metavar="X,Y,W,H", help="Where the subject is, in photo pixels, instead of searching."),
]
OverwriteFlag = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there with other content.")]

__all__ = [
    "AlignedFlag",
    "BoxFlag",
    "DeviceFlag",
    "DomainFlag",
    "FaceFlag",
    "InverterFlag",
    "LandmarksFlag",
    "LimitFlag",
    "NoteHandler",
    "OptionFlag",
    "OutFlag",
    "OverwriteFlag",
    "ReplaceFlag",
    "WeightsFlag",
    "console",
    "errors",
    "open_editor",
    "print_error",
    "progress_bar",
]
