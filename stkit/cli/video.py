"""`stkit edit` of a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stkit.cli.common import console, errors
from stkit.errors import OutputError

if TYPE_CHECKING:
    from stkit.editor.editor import Editor
    from stkit.jobs.video import VideoEdit

SmoothFlag = Annotated[float, typer.Option("--smooth", min=0, help="For a video: smoothing over time, in seconds.")]

_KEPT = (".mp4", ".mov", ".mkv", ".m4v")


def is_clip(sources: Sequence[str]) -> bool:
    """Whether `sources` are one video."""
    from stkit.photo.suffixes import VIDEO_SUFFIXES

    path = Path(sources[0])
    return len(sources) == 1 and path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()


def edit_clip(editor: Editor, source: Path, out: Path, edit: VideoEdit, overwrite: bool, batch_size: int) -> None:
    """Edit a video into `out`/STEM, with a bar for each of its passes. Raises OutputError and as `edit_video`."""
    from rich.progress import Progress

    from stkit.editor.steps import chain_label
    from stkit.files import safe_name
    from stkit.jobs.video import edit_video

    suffix = source.suffix.lower()
    stem = safe_name(source.stem)
    path = out / stem / f"{stem}.{chain_label(edit.steps)}{suffix if suffix in _KEPT else '.mkv'}"
    if path.exists() and not overwrite:
        raise OutputError(f"{path} is there already; --overwrite replaces it")
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bars:
        tasks = {}

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total or None)
            bars.update(tasks[step], completed=done)

        report = edit_video(editor, source, path, edit, batch_size, tell)
    noun = editor.domain.noun
    console.print(f"{report.edited} of {report.frames} frames edited, {report.without_subject} without a {noun}")
    console.print(str(path))


__all__ = ["SmoothFlag", "edit_clip", "is_clip"]
