"""`stkit edit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stkit.cli.batch import BatchFlag, SheetFlag, require_many, run_job
from stkit.cli.common import (
    BoxFlag,
    DeviceFlag,
    DomainFlag,
    EditOutFlag,
    FaceFlag,
    InverterFlag,
    LandmarksFlag,
    OptionFlag,
    OverwriteFlag,
    QualityFlag,
    RefineFlag,
    WeightsFlag,
    console,
    open_editor,
)
from stkit.cli.invert import inversion_base, invert_photo, save_inversion
from stkit.cli.seeing import PreviewFlag, ShowFlag, print_preview, show_images
from stkit.cli.video import SmoothFlag, edit_clip, is_clip
from stkit.errors import PhotoError, UsageError
from stkit.jobs.outputs import LATENTS_SUFFIX, crop_files

if TYPE_CHECKING:
    from PIL import Image

    from stkit.editor.editor import Editor
    from stkit.editor.results import Edit, Inversion
    from stkit.editor.steps import EditStep
    from stkit.latents.latents import Latents
    from stkit.photo.images import Photo

COMMAND = "edit"


def run(
    source: Annotated[
        list[str],
        typer.Argument(help="A photo, a video, or latents that stkit wrote; or folders, patterns, ZIP archives."),
    ],
    method: Annotated[str | None, typer.Option("--method", help="How to edit; see `stkit methods`.")] = None,
    attribute: Annotated[str | None, typer.Option("--attribute", help="What to change.")] = None,
    strength: Annotated[
        float | None, typer.Option("--strength", help="How far; 1, the default, is one standard deviation.")
    ] = None,
    edits: Annotated[
        list[str] | None,
        typer.Option("--edit", metavar="[METHOD:]ATTRIBUTE=STRENGTH", help="Instead of --method; repeat to chain."),
    ] = None,
    sweep: Annotated[
        str | None, typer.Option("--sweep", metavar="FIRST:LAST:COUNT", help="A strip of strengths, like -3:3:7.")
    ] = None,
    animate: Annotated[bool, typer.Option("--animate", help="With --sweep, a GIF too.")] = False,
    ref: Annotated[list[Path] | None, typer.Option("--ref", help="A reference photo; may be repeated.")] = None,
    layers: Annotated[str | None, typer.Option("--layers", help="Layers to edit, like 4-7; 0 is the coarsest.")] = None,
    blend: Annotated[str, typer.Option("--blend", help="residual, replace or poisson.")] = "residual",
    crop_only: Annotated[bool, typer.Option("--crop-only", help="The aligned crop instead of the photo.")] = False,
    face: FaceFlag = "largest",
    landmarks: LandmarksFlag = None,
    box: BoxFlag = None,
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    inverter: InverterFlag = None,
    quality: QualityFlag = "fast",
    refine: RefineFlag = None,
    option: OptionFlag = None,
    out: EditOutFlag = None,
    overwrite: OverwriteFlag = False,
    show: ShowFlag = False,
    preview: PreviewFlag = False,
    device: DeviceFlag = "auto",
    seed: Annotated[int, typer.Option("--seed", help="For methods that draw random numbers.")] = 0,
    batch_size: BatchFlag = 8,
    sheet: SheetFlag = False,
    smooth: SmoothFlag = 0.08,
) -> None:
    """Edit a photo, or its latents without inverting again; write the edited photo and the edited latents.

    Folders, patterns, ZIP archives and latents of many photos go through in batches, as with `stkit invert`; of a video
    every frame is edited.
    """
    from stkit.editor.refinement import quality_refinements
    from stkit.editor.steps import chain_label
    from stkit.files import write_all
    from stkit.jobs.edit import EditJob
    from stkit.jobs.previews import parse_sweep
    from stkit.jobs.video import VideoEdit
    from stkit.latents.latents import join_latents, save_latents_tuning
    from stkit.photo.paste import parse_blend

    refinements = quality_refinements(quality, refine)
    chosen_blend = parse_blend(blend)
    out, latents_out = out or Path("out"), out
    strengths = parse_sweep(sweep) if sweep else []
    if animate and not sweep:
        raise UsageError("--animate shows a sweep; give --sweep FIRST:LAST:COUNT too")
    editor = open_editor(domain, weights, device)
    references = join_latents([_reference(editor, photo, inverter) for photo in ref]) if ref else None
    steps = _steps(editor, method, attribute, strength, edits or [], option or [], layers, references)
    editor.try_steps(steps, references, seed)
    if strengths and len(steps) != 1:
        raise UsageError("--sweep goes through the strengths of one edit; give one --edit, or --method and --attribute")

    many, clip = _is_many(source), is_clip(source)
    if many or clip:
        if sweep or show or preview:
            raise UsageError("--sweep, --show and --preview are for one photo; name it alone")
        require_many(landmarks, box)
    if clip:
        if crop_only or sheet or refinements or face != "largest":
            raise UsageError("--crop-only, --sheet, --quality, --refine and --face are for photos, not for a video")
        video_edit = VideoEdit(steps, references, seed, chosen_blend, smooth, inverter)
        edit_clip(editor, Path(source[0]), out, video_edit, overwrite, batch_size)
        return
    if many:

        def job() -> EditJob:
            return EditJob(
                editor,
                out,
                steps,
                references,
                seed,
                chosen_blend,
                crop_only,
                inverter,
                face=face,
                refine=refinements,
                overwrite=overwrite,
            )

        run_job(source, out, job, 1 if refinements else batch_size, sheet=sheet)
        return
    if sheet:
        raise UsageError("--sheet is for many photos; one has its before-after picture")
    base, latents, photo, metrics, inversions = _open(
        editor, Path(source[0]), inverter, face, landmarks, box, refinements, out, latents_out, overwrite
    )
    if crop_only:
        photo = None

    def edit_by(steps: list[EditStep]) -> Edit:
        return editor.render(editor.apply(latents, steps, references, seed), photo, chosen_blend, metrics)

    if strengths:
        files, picture = _sweep_files(base, steps[0], strengths, animate, edit_by)
    else:
        edit = edit_by(steps)
        name = base.with_name(f"{base.name}.{chain_label(steps)}")
        files, picture = _edit_files(name, edit, inversions if len(inversions) == 1 else [])
    for inversion in inversions:
        if overwrite or not _report(out, inversion).exists():
            save_inversion(editor, inversion, out, overwrite)
    save_latents_tuning(latents, base.parent)
    write_all(files, overwrite)
    if preview:
        print_preview(picture)
    for path in files:
        console.print(str(path))
    if show:
        show_images([next(iter(files))])


def _steps(
    editor: Editor,
    method: str | None,
    attribute: str | None,
    strength: float | None,
    edits: list[str],
    pairs: list[str],
    layers: str | None,
    references: Latents | None,
) -> list[EditStep]:
    """What to do, from the flags of one method or from `--edit`. Raises UsageError."""
    from stkit.editor.steps import EditStep
    from stkit.options import LayerRange, parse_options

    chosen = LayerRange.parse(layers) if layers else None
    if edits and (method or attribute):
        raise UsageError("give either --method and --attribute, or --edit")
    if edits:
        if strength is not None:
            raise UsageError("--strength goes with --method; an --edit names its own, like --edit age=+1.5")
        if pairs:
            raise UsageError("-o goes with a single --method; an --edit takes its method's default options")
        return [editor.parse_step(text, references, chosen) for text in edits]
    if method is None:
        raise UsageError("give --method and --attribute, or --edit like --edit age=+1.5; see `stkit methods`")
    options = parse_options(editor.registry.editing_method(method).Options, pairs)
    strength = 1.0 if strength is None else strength
    return [EditStep(method, attribute, strength, chosen, options.model_dump(exclude_unset=True))]


def _is_many(sources: Sequence[str]) -> bool:
    """Whether `sources` are more than one photo or the latents of one."""
    from stkit.jobs.sources import LATENT_SUFFIX, is_batch, list_photos

    if is_batch(sources):
        return True
    return sources[0].endswith(LATENT_SUFFIX) and len(list_photos(sources, Path()).items) > 1


def _reference(editor: Editor, source: Path, inverter: str | None) -> Latents:
    """The codes of a reference photo, or of a latent file."""
    from stkit.jobs.sources import LATENT_SUFFIX
    from stkit.latents.latents import load_latents

    if source.suffix == LATENT_SUFFIX:
        return load_latents(source)
    return invert_photo(editor, source, inverter, [])[0].latents


def _open(
    editor: Editor,
    source: Path,
    inverter: str | None,
    face: str,
    landmarks: Path | None,
    box: str | None,
    refinements: Sequence[str],
    out: Path,
    latents_out: Path | None,
    overwrite: bool,
) -> tuple[Path, Latents, Photo | None, dict[str, float], list[Inversion]]:
    """Beginning of the names to write, and latents, photo, metrics and inversions of a photo or a latent file.

    What is made of latents goes to `latents_out`, or beside them.
    """
    from stkit.editor.results import find_photo
    from stkit.files import safe_name
    from stkit.latents.latents import join_latents, load_latents

    if source.suffix == ".safetensors":
        if not source.is_file():
            raise PhotoError(f"no file {source}; `stkit invert PHOTO` writes latents to out/PHOTO/")
        if face != "largest" or landmarks or box or refinements:
            raise UsageError(
                "--face, --landmarks, --box, --quality and --refine are for photos; these latents are inverted already"
            )
        latents = load_latents(source)
        name = safe_name(source.name.removesuffix(LATENTS_SUFFIX).removesuffix(".safetensors"))
        return (latents_out or source.parent) / name, latents, find_photo(latents), {}, []
    inversions = invert_photo(editor, source, inverter, [], face, landmarks, box, refinements)
    base = inversion_base(out, inversions[0], overwrite)
    if face == "all":
        base = base.with_name(f"{base.name}.all")
    latents = join_latents([inversion.latents for inversion in inversions])
    return base, latents, inversions[0].photo, dict(inversions[0].metrics), inversions


def _report(out: Path, inversion: Inversion) -> Path:
    base = inversion_base(out, inversion, overwrite=True)
    return base.with_name(f"{base.name}.json")


def _edit_files(base: Path, edit: Edit, inversions: list[Inversion]) -> tuple[dict[Path, bytes], Image.Image]:
    """The files of one edit, the picture itself first; and what to preview."""
    from stkit.jobs.previews import before_after, subject_view
    from stkit.latents.latents import encode_latents
    from stkit.photo.images import encode_image, side_by_side

    def path(end: str) -> Path:
        return base.with_name(base.name + end)

    if edit.photo is not None:
        main = path(edit.suffix)
        files = {main: edit.encode(main)}
        sheet, picture = before_after(edit), subject_view(edit, edit.image)
    else:
        crops = [inversion.crop for inversion in inversions] + [edit.unedited, edit.crop]
        sheet = side_by_side(crops, ["photo", "reconstruction", "edited"][-len(crops) :])
        files, picture = crop_files(base, edit), edit.crop
    files[path(".before-after.png")] = encode_image(sheet, path(".before-after.png"))
    return {**files, path(LATENTS_SUFFIX): encode_latents(edit.latents)}, picture


def _sweep_files(
    base: Path, step: EditStep, strengths: list[float], animate: bool, edit_by: Callable[[list[EditStep]], Edit]
) -> tuple[dict[Path, bytes], Image.Image]:
    """The strip of a sweep, and its animation; and what to preview."""
    import dataclasses

    from stkit.jobs.previews import encode_gif, sweep_frames
    from stkit.photo.images import encode_image, side_by_side

    swept = [dataclasses.replace(step, strength=strength) for strength in strengths]
    frames = sweep_frames([edit_by([one]) for one in swept])
    strip = side_by_side(frames, [one.caption for one in swept])
    name = f"{base.name}.{step.name}.sweep{strengths[0]:+g}to{strengths[-1]:+g}x{len(strengths)}"
    files = {base.with_name(f"{name}.png"): encode_image(strip, base.with_name(f"{name}.png"))}
    if animate:
        files[base.with_name(f"{name}.gif")] = encode_gif(frames)
    return files, strip


__all__ = ["COMMAND", "run"]
