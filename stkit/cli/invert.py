"""`stkit invert`."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stkit.cli.batch import BatchFlag, SheetFlag, require_many, run_job
from stkit.cli.common import (
    BoxFlag,
    DeviceFlag,
    DomainFlag,
    FaceFlag,
    InverterFlag,
    LandmarksFlag,
    OptionFlag,
    OutFlag,
    OverwriteFlag,
    QualityFlag,
    RefineFlag,
    WeightsFlag,
    console,
    open_editor,
    progress_bar,
)
from stkit.errors import UsageError

if TYPE_CHECKING:
    from stkit.editor.editor import Editor, Inversion
    from stkit.jobs.invert import InversionJob
    from stkit.jobs.sources import Item

COMMAND = "invert"


class LatentFiles(str, enum.Enum):
    """How the codes of a folder are kept."""

    EACH = "each"
    ONE = "one"


def run(
    photo: Annotated[list[str], typer.Argument(help="A photo; or folders, patterns like '*.jpg', ZIP archives.")],
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    inverter: InverterFlag = None,
    option: OptionFlag = None,
    quality: QualityFlag = "fast",
    refine: RefineFlag = None,
    face: FaceFlag = "largest",
    landmarks: LandmarksFlag = None,
    box: BoxFlag = None,
    out: OutFlag = Path("out"),
    overwrite: OverwriteFlag = False,
    device: DeviceFlag = "auto",
    latents: Annotated[
        LatentFiles, typer.Option("--latents", help="For a folder: a latent file for each photo, or one for all.")
    ] = LatentFiles.EACH,
    batch_size: BatchFlag = 8,
    sheet: SheetFlag = False,
) -> None:
    """Find the subject, invert it, and write crop, reconstruction, latents and a report to OUT/PHOTO/.

    Folders, patterns and ZIP archives go through in batches: what is done is kept, so an interrupted run continues
    when it is started again; OUT/report.csv has a row for each photo; the exit code is 3 when some failed.
    """
    from stkit.editor.refinement import quality_refinements
    from stkit.jobs.sources import is_batch

    refinements = quality_refinements(quality, refine)
    if is_batch(photo):
        require_many(landmarks, box)
        if latents is LatentFiles.ONE:
            from stkit.plugins import load_plugins

            known = load_plugins().inverters
            for name in (inverter or "", *(text.partition(":")[0] for text in refinements)):
                if name in known and known[name].tunes:
                    hint = "which one latent file cannot hold; leave out --latents"
                    raise UsageError(f"{name} tunes a generator for each photo, {hint}")

        def job() -> InversionJob:
            return _job(domain, weights, device, out, inverter, option, face, refinements, overwrite)

        finish = _join if latents is LatentFiles.ONE else None
        run_job(photo, out, job, 1 if refinements else batch_size, finish, sheet)
        return
    if sheet:
        raise UsageError("--sheet is for many photos; one has its side-by-side picture")
    editor = open_editor(domain, weights, device)
    if not overwrite:
        _refuse_other_settings(editor, Path(photo[0]), out, inverter, option or [], refinements)
    for inversion in invert_photo(editor, Path(photo[0]), inverter, option or [], face, landmarks, box, refinements):
        paths = save_inversion(editor, inversion, out, overwrite)
        console.print(", ".join(f"{name.upper()} {value:.4f}" for name, value in inversion.metrics.items()))
        for path in paths:
            console.print(str(path))


def _refuse_other_settings(
    editor: Editor, photo: Path, out: Path, inverter: str | None, pairs: list[str], refinements: Sequence[str]
) -> None:
    """Raise OutputError when OUT has results of `photo` by other settings: now, not after minutes of refinement."""
    from stkit.files import safe_name
    from stkit.jobs.outputs import earlier_results, inversion_settings, read_description
    from stkit.options import parse_options

    name = safe_name(photo.stem)
    description = out / name / f"{name}.json"
    known = read_description(description)
    if known is not None:
        chosen = editor.registry.inverter_for(editor.weights, inverter)
        options = parse_options(chosen.Options, pairs).model_dump(exclude_unset=True)
        settings = inversion_settings(editor, "+".join([chosen.name, *refinements]), options)
        earlier_results(description, [], known.get("sha256", ""), settings)


def invert_photo(
    editor: Editor,
    photo: Path,
    inverter: str | None,
    pairs: list[str],
    face: str = "largest",
    landmarks: Path | None = None,
    box: str | None = None,
    refinements: Sequence[str] = (),
) -> list[Inversion]:
    """Invert the chosen subjects, with the inverter's options given as KEY=VALUE tokens, and refine the codes.

    A bar shows the progress of what takes long.
    """
    from stkit.options import parse_options
    from stkit.photo.subjects import parse_box, read_landmarks

    options = parse_options(editor.registry.inverter_for(editor.weights, inverter).Options, pairs)
    with progress_bar("inverting") as on_progress:
        return editor.invert_all(
            photo,
            inverter,
            options.model_dump(exclude_unset=True),
            face=face,
            landmarks=read_landmarks(landmarks) if landmarks else None,
            box=parse_box(box) if box else None,
            refine=refinements,
            on_progress=on_progress,
        )


def save_inversion(editor: Editor, inversion: Inversion, out: Path, overwrite: bool = False) -> list[Path]:
    """Write everything about `inversion` to out/STEM/; the paths written. Raises OutputError, UsageError."""
    from stkit.files import write_all
    from stkit.jobs.outputs import describe_inversion, inversion_files, inversion_settings
    from stkit.latents.latents import save_latents_tuning

    settings = inversion_settings(editor, inversion.latents.provenance[0].inverter or "", inversion.options)
    base = inversion_base(out, inversion, overwrite)
    files = inversion_files(base, inversion, describe_inversion(editor, inversion, settings))
    save_latents_tuning(inversion.latents, base.parent)
    write_all(files, overwrite)
    return list(files)


def inversion_base(out: Path, inversion: Inversion, overwrite: bool = False) -> Path:
    """The beginning of the names of all files about an inversion: OUT/STEM/STEM, with the subject's number from 2.

    Raises UsageError when that folder is about another photo of the same name, unless it may be overwritten.
    """
    from stkit.jobs.outputs import photo_base, subject_base

    base = photo_base(out, inversion.photo.path, inversion.photo.sha256, overwrite)
    return subject_base(base, inversion.number)


def _job(
    domain: str | None,
    weights: str | None,
    device: str,
    out: Path,
    inverter: str | None,
    option: list[str] | None,
    face: str,
    refinements: Sequence[str],
    overwrite: bool,
) -> InversionJob:
    from stkit.jobs.invert import InversionJob
    from stkit.options import parse_options

    editor = open_editor(domain, weights, device)
    options = parse_options(editor.registry.inverter_for(editor.weights, inverter).Options, option or [])
    given = options.model_dump(exclude_unset=True)
    return InversionJob(editor, out, inverter, given, face, refinements, overwrite)


def _join(job: InversionJob, items: list[Item]) -> Path:
    from stkit.jobs.invert import join_folder

    return join_folder(job, items)


__all__ = ["COMMAND", "inversion_base", "invert_photo", "run", "save_inversion"]
