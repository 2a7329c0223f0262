"""What the commands share: consoles, and the core flags in one place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from stkit.errors import UsageError
from stkit.files import one_line, printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from stkit.editor.editor import Editor
    from stkit.weights import Weights


class _Console(Console):
    """What files and their contents are called can steer a terminal: all text is shown by `printable`."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """See `Console`."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)

    def render_str(self, text: str, **options: Any) -> Text:
        """See `Console`: what it drops of a text without a word (bells, form feeds) is shown, too."""
        return super().render_str(printable(text), **options)


# Without emoji: "optimize:100: done" has one.
# Names and paths go through it as they are: they may hold brackets.
console = _Console(soft_wrap=True, highlight=False, emoji=False, markup=False)
errors = _Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


EDIT, LOOK, MODELS, TRAIN, PLUGINS = "Edit photos", "Look", "Models", "Train", "Plugins"
"""The panels of `stkit --help`."""


def print_error(message: str) -> None:
    """One line on stderr."""
    errors.print(f"[bold red]error:[/] {escape(one_line(printable(message)))}")


class NoteHandler(logging.Handler):
    """Log records of `stkit` as lines on stderr, the same one only once."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() in self._told:
            return
        self._told.add(record.getMessage())
        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        label = "warning" if record.levelno >= logging.WARNING else "note"
        errors.print(f"[{style}]{label}:[/] {escape(one_line(printable(record.getMessage())))}")


def open_weights(domain: str | None, weights: str | None) -> Weights:
    """Those of `--weights`, or the default weights of `--domain`. Raises UsageError if both are given and differ."""
    from stkit.editor import opening

    return opening.open_weights(domain, weights)


def open_editor(domain: str | None, weights: str | None, device: str) -> Editor:
    """The editor of `--weights`, or of the default weights of `--domain`; UsageError if both are given and differ."""
    with waiting("loading the model"):
        from stkit.editor import opening

        return opening.open_editor(domain, weights, device)


def bars() -> Progress:
    """Bars on stderr with the time gone and the time left, gone when they end; none where stderr is no terminal."""
    from rich import progress

    class Times(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            times = ((task.elapsed, "gone"), (task.time_remaining, "left"))
            return Text(", ".join(f"{timedelta(seconds=int(time))} {what}" for time, what in times if time is not None))

    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TaskProgressColumn(), Times())
    return progress.Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show what is being done, and since when, where nobody knows how long it will take."""
    with bars() as shown:
        shown.add_task(text, total=None)
        yield


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, moved by calls with (done, total); none where stderr is no terminal."""
    with bars() as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


Name = Annotated[str, typer.Argument(help="Its name.")]


def noun_group(name: str, text: str, table: Callable[[], None], show: Callable[[str], None]) -> typer.Typer:
    """A group whose bare name prints `table`, with `show NAME`."""
    group = typer.Typer(name=name, help=text, invoke_without_command=True)

    @group.callback()
    def list_all(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            table()

    @group.command("show", help=f"One of the {name}, in detail.")
    def show_one(name: Name) -> None:
        show(name)

    return group


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under bold headings."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """One line a fact."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in facts.items():
        table.add_row(Text(printable(key), "bold"), str(value))
    console.print(table)


DomainFlag = Annotated[
    str | None,
    typer.Option("--domain", help="What the photo shows, see `stkit domains`; what --weights are for, else faces."),
]
WeightsFlag = Annotated[
    str | None,
    typer.Option("--weights", help="Weights by name or folder; the domain's default otherwise. See `stkit weights`."),
]
InverterFlag = Annotated[
    str | None,
    typer.Option("--inverter", help="How to invert; with the weights' own encoder by default. See `stkit inverters`."),
]
QualityFlag = Annotated[
    str | None,
    typer.Option(
        "--quality",
        help="fast: the inverter alone; balanced: codes refined; best: the generator as well. By default fast, or what "
        "edits with these weights need.",
    ),
]
RefineFlag = Annotated[
    list[str] | None,
    typer.Option("--refine", metavar="NAME[:STEPS]", help="optimize:100 or pti, in turn; instead of --quality."),
]
DeviceFlag = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]


def _require_folder(path: Path | None) -> Path | None:
    from stkit.photo.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

    if path is None or path.is_dir():
        return path
    if path.exists():
        raise UsageError(f"--out {path} is a file; give a folder's name")
    if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        raise UsageError(f"--out is the folder for all that is made, but '{path}' is a picture's name; give a folder's")
    return path


OutFlag = Annotated[Path, typer.Option("--out", help="Folder for what is made.", callback=_require_folder)]
EditOutFlag = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for what is made: out, or that of the latents.", callback=_require_folder),
]
OptionFlag = Annotated[
    list[str] | None,
    typer.Option("-o", "--option", metavar="KEY=VALUE", help="An option of the method; may be repeated."),
]
AlignedFlag = Annotated[
    bool, typer.Option("--aligned/--photos", help="The images are crops framed like the weights' training data.")
]
LimitFlag = Annotated[int | None, typer.Option("--limit", min=1, help="Use this many photos, chosen at random.")]
ReplaceFlag = Annotated[bool, typer.Option("--replace", help="Replace what has this name already.")]

ENGINE: Mapping[str, Any] = {
    "engine": Annotated[
        str | None, typer.Option("--engine", help="For many photos: spread them over processes or machines, by ray.")
    ],
    "address": Annotated[
        str | None,
        typer.Option("--address", help="Its cluster: auto, HOST:PORT, ray://...; by default this machine."),
    ],
    "workers": Annotated[int | None, typer.Option("--workers", min=1, help="The engine's, at most.")],
    "gpus_per_worker": Annotated[float, typer.Option("--gpus-per-worker", min=0.0, help="A share of 1 is enough.")],
}
"""The flags of the fields of `stkit.jobs.request.Spreading`."""

FIT: Mapping[str, Any] = {
    "aligned": AlignedFlag,
    "limit": LimitFlag,
    "domain": DomainFlag,
    "weights": WeightsFlag,
    "inverter": InverterFlag,
    "out": Annotated[Path | None, typer.Option("--out", help="Another folder than that of your own directions.")],
    "replace": ReplaceFlag,
    "device": DeviceFlag,
    **ENGINE,
}
"""The flags that fits to labelled codes end with."""
LABELLED: Mapping[str, Any] = {
    "attribute": Annotated[str, typer.Option("--attribute", help="A column; for one of words the positive: sex=M.")],
    "labels": Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="CSV, TSV, list_attr_celeba.txt or JSON with a column file, or an archive with labels in it.",
        ),
    ],
    "images": Annotated[
        Path | None, typer.Option("--images", help="The labelled photos: a folder or an archive; or their latents.")
    ],
    "samples": Annotated[
        int | None, typer.Option("--samples", min=100, help="Instead of photos: this many of the generator's images.")
    ],
    "scorer": Annotated[
        str | None,
        typer.Option("--scorer", help="Labels the samples; one or several: A,B. See `stkit scorers`."),
    ],
}
"""The flags that fits to labelled codes begin with."""

FaceFlag = Annotated[
    str,
    typer.Option(
        "--face", metavar="WHICH", help="all, largest, a number of `stkit faces`, or a place x,y in photo pixels."
    ),
]
LandmarksFlag = Annotated[
    Path | None,
    typer.Option("--landmarks", help="JSON list of \\[x, y] in photo pixels, instead of searching (see the docs)."),
]
BoxFlag = Annotated[
    str | None,
    typer.Option("--box", metavar="X,Y,W,H", help="Where the subject is, in photo pixels, instead of searching."),
]
OverwriteFlag = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there with other content.")]

__all__ = [
    "EDIT",
    "ENGINE",
    "FIT",
    "LABELLED",
    "LOOK",
    "MODELS",
    "PLUGINS",
    "TRAIN",
    "AlignedFlag",
    "BoxFlag",
    "DeviceFlag",
    "DomainFlag",
    "EditOutFlag",
    "FaceFlag",
    "InverterFlag",
    "LandmarksFlag",
    "LimitFlag",
    "Name",
    "NoteHandler",
    "OptionFlag",
    "OutFlag",
    "OverwriteFlag",
    "QualityFlag",
    "RefineFlag",
    "ReplaceFlag",
    "WeightsFlag",
    "bars",
    "console",
    "errors",
    "noun_group",
    "open_editor",
    "open_weights",
    "print_error",
    "print_facts",
    "print_table",
    "progress_bar",
    "waiting",
]
