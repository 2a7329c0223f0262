"""`stkit edit` of folders, patterns, ZIP archives and videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from stkit.cli.batch import run_job
from stkit.cli.common import console, errors
from stkit.errors import OutputError, UsageError

if TYPE_CHECKING:
    from stkit.chain import EditStep
    from stkit.editor import Editor
    from stkit.latents import Latents
    from stkit.paste import Blend
    from stkit.video import VideoEdit

SmoothFlag = Annotated[float, typer.Option("--smooth", min=0, help="For a video: smoothing over time, in seconds.")]

_KEPT = (".mp4", ".mov", ".mkv", ".m4v")


def is_many(sources: Sequence[str]) -> bool:
    """Whether `sources` are more than a photo or a latent file."""
    from stkit.sources import is_batch

    return is_batch(sources) or _is_video(sources[0])


def edit_many(
    editor: Editor,
    sources: Sequence[str],
    out: Path,
    steps: Sequence[EditStep],
    references: Latents | None,
    *,
    seed: int,
    blend: Blend,
    crop_only: bool,
    inverter: str,
    overwrite: bool,
    batch_size: int,
    smooth: float,
) -> None:
    """Edit all photos of `sources`, or the one video; see `stkit.batch_edit` and `stkit.video`."""
    from stkit.batch_edit import EditJob

    if len(sources) == 1 and _is_video(sources[0]):
        from stkit.video import VideoEdit

        if crop_only:
            raise UsageError("--crop-only is for photos; leave it out for a video")
        edit = VideoEdit(steps, references, seed, blend, smooth, inverter)
        _edit_video(editor, Path(sources[0]), out, edit, overwrite, batch_size)
        return

    def job() -> EditJob:
        return EditJob(editor, out, steps, references, seed, blend, crop_only, inverter, {}, overwrite)

    run_job(sources, out, job, batch_size)


def _edit_video(editor: Editor, source: Path, out: Path, edit: VideoEdit, overwrite: bool, batch_size: int) -> None:
    from rich.progress import Progress

    from stkit.chain import chain_label
    from stkit.video import edit_video

    suffix = source.suffix.lower()
    name = f"{source.stem}.{chain_label(edit.steps)}{suffix if suffix in _KEPT else '.mkv'}"
    path = out / source.stem / name
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
    console.print(escape(str(path)))


def _is_video(source: str) -> bool:
    from stkit.sources import VIDEO_SUFFIXES

    return Path(source).suffix.lower() in VIDEO_SUFFIXES and not Path(source).is_dir()


__all__ = ["SmoothFlag", "edit_many", "is_many"]
