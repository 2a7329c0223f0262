"""`stkit invert`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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

if TYPE_CHECKING:
    from stkit.editor import Editor, Inversion

COMMAND = "invert"


def run(
    photo: Annotated[Path, typer.Argument(help="A photo.")],
    domain: DomainFlag = "faces",
    weights: WeightsFlag = None,
    inverter: InverterFlag = "style-transformer",
    option: OptionFlag = None,
    quality: QualityFlag = "fast",
    refine: RefineFlag = None,
    face: FaceFlag = "largest",
    landmarks: LandmarksFlag = None,
    box: BoxFlag = None,
    out: OutFlag = Path("out"),
    overwrite: OverwriteFlag = False,
    device: DeviceFlag = "auto",
) -> None:
    """Find the subject, invert it, and write crop, reconstruction, latents and a report to OUT/PHOTO/."""
    from stkit.refinement import quality_refinements

    refinements = quality_refinements(quality, refine)
    editor = open_editor(domain, weights, device)
    for inversion in invert_photo(editor, photo, inverter, option or [], face, landmarks, box, refinements):
        paths = save_inversion(editor, inversion, out, overwrite)
        console.print(f"MSE {inversion.metrics['mse']:.4f} (images in [-1, 1], {editor.weights.resolution} px)")
        for path in paths:
            console.print(str(path))


def invert_photo(
    editor: Editor,
    photo: Path,
    inverter: str,
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
    from stkit.subjects import parse_box, read_landmarks

    options = parse_options(editor.registry.inverter(inverter).Options, pairs)
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
    from stkit.images import encode_image, side_by_side
    from stkit.latents import encode_latents, save_latents_tuning

    photo = inversion.photo
    base = inversion_base(out, inversion)
    report = {
        "photo": str(photo.path.absolute()),
        "sha256": photo.sha256,
        "size": list(photo.image.size),
        "domain": editor.domain.name,
        "subjects_found": inversion.subjects_found,
        "subject": inversion.number,
        "problems": list(inversion.subject.problems),
        "box": [round(x, 1) for x in inversion.subject.box],
        "weights": editor.weights.name,
        "generator": editor.weights.fingerprint,
        "inverter": inversion.latents.provenance[0].inverter,
        "resolution": editor.weights.resolution,
        "metrics": {name: round(value, 6) for name, value in inversion.metrics.items()},
        "refinements": [gain.to_dict() for gain in inversion.gains],
    }
    pair = side_by_side([inversion.crop, inversion.image], ["photo", "reconstruction"])
    pictures = {".crop.png": inversion.crop, ".reconstruction.png": inversion.image, ".side-by-side.png": pair}
    paths = {end: base.with_name(base.name + end) for end in pictures}
    contents = {paths[end]: encode_image(image, paths[end]) for end, image in pictures.items()}
    contents[base.with_name(base.name + ".latents.safetensors")] = encode_latents(inversion.latents)
    contents[base.with_name(base.name + ".json")] = (json.dumps(report, indent=2) + "\n").encode()
    save_latents_tuning(inversion.latents, base.parent)
    write_all(contents, overwrite)
    return list(contents)


def inversion_base(out: Path, inversion: Inversion) -> Path:
    """The beginning of the names of all files about an inversion: OUT/STEM/STEM, with the subject's number from 2."""
    base = photo_base(out, inversion.photo.path, inversion.photo.sha256)
    return base if inversion.number == 1 else base.with_name(f"{base.name}.face{inversion.number}")


def photo_base(out: Path, photo: Path, sha256: str) -> Path:
    """OUT/STEM/STEM, the beginning of the names of all files about a photo.

    Raises UsageError when that folder is about another photo of the same name.
    """
    from stkit.errors import UsageError

    folder = out / photo.stem
    description = folder / f"{photo.stem}.json"
    if description.is_file():
        try:
            known = json.loads(description.read_text(encoding="utf-8")).get("sha256")
        except (ValueError, AttributeError):
            known = None
        if known != sha256:
            raise UsageError(f"{folder} is about another photo of that name; choose another folder with --out")
    return folder / photo.stem


__all__ = ["COMMAND", "inversion_base", "invert_photo", "photo_base", "run", "save_inversion"]
