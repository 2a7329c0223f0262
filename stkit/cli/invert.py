"""`stkit invert`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stkit.cli.common import (
    DeviceFlag,
    DomainFlag,
    InverterFlag,
    OptionFlag,
    OutFlag,
    WeightsFlag,
    console,
    open_editor,
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
    out: OutFlag = Path("out"),
    device: DeviceFlag = "auto",
) -> None:
    """Find the subject, invert it, and write crop, reconstruction, latents and a report to OUT/PHOTO/."""
    editor = open_editor(domain, weights, device)
    inversion = invert_photo(editor, photo, inverter, option or [])
    paths = save_inversion(editor, inversion, out)
    console.print(f"MSE {inversion.metrics['mse']:.4f} (images in [-1, 1], {editor.weights.resolution} px)")
    for path in paths:
        console.print(str(path))


def invert_photo(editor: Editor, photo: Path, inverter: str, pairs: list[str]) -> Inversion:
    """Invert with options given as KEY=VALUE tokens."""
    from stkit.options import parse_options

    options = parse_options(editor.registry.inverter(inverter).Options, pairs)
    return editor.invert(photo, inverter, options.model_dump(exclude_unset=True))


def save_inversion(editor: Editor, inversion: Inversion, out: Path) -> list[Path]:
    """Write everything about `inversion` to out/STEM/; the paths written. Raises OutputError, UsageError."""
    from stkit.files import write_text
    from stkit.images import save_image, side_by_side
    from stkit.latents import save_latents

    photo = inversion.photo
    base = photo_base(out, photo.path, photo.sha256)
    report = {
        "photo": str(photo.path.absolute()),
        "sha256": photo.sha256,
        "size": list(photo.image.size),
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "domain": editor.domain.name,
        "subjects_found": inversion.subjects_found,
        "box": [round(x, 1) for x in inversion.subject.box],
        "weights": editor.weights.name,
        "generator": editor.weights.fingerprint,
        "inverter": inversion.latents.provenance[0].inverter,
        "resolution": editor.weights.resolution,
        "metrics": {name: round(value, 6) for name, value in inversion.metrics.items()},
    }
    pair = side_by_side([inversion.crop, inversion.image], ["photo", "reconstruction"])
    paths = [base.with_name(base.name + end) for end in (".crop.png", ".reconstruction.png", ".side-by-side.png")]
    for path, image in zip(paths, (inversion.crop, inversion.image, pair), strict=True):
        save_image(image, path)
    latents, description = (base.with_name(base.name + end) for end in (".latents.safetensors", ".json"))
    save_latents(inversion.latents, latents)
    write_text(description, json.dumps(report, indent=2) + "\n")
    return [*paths, latents, description]


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


__all__ = ["COMMAND", "invert_photo", "photo_base", "run", "save_inversion"]
