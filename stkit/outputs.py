"""What an inversion leaves on disk: pictures, latents and a description, which comes last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stkit.errors import OutputError, UsageError, WeightsError
from stkit.files import write_all

if TYPE_CHECKING:
    from PIL import Image

    from stkit.domains import Subject
    from stkit.editor import Editor
    from stkit.latents import Latents

LATENTS_SUFFIX = ".latents.safetensors"


def inversion_settings(editor: Editor, inverter: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the outcome besides the photo, JSON-ready: two runs with equal settings give equal codes."""
    from stkit.weights import load_header

    try:
        kind = editor.weights.inverter_kind(inverter.split("+")[0])
        weights = load_header(editor.weights.path(kind)).fingerprint
    except WeightsError:  # an inverter that needs no weights of its own
        weights = None
    return {
        "generator": editor.weights.fingerprint,
        "alignment": editor.weights.alignment.to_dict(),
        "inverter": inverter,
        "inverter_weights": weights,
        "options": {key: str(value) for key, value in sorted(options.items())},
    }


def describe_inversion(
    editor: Editor,
    photo: Path,
    sha256: str,
    size: tuple[int, int],
    subject: Subject,
    subjects_found: int,
    metrics: Mapping[str, float],
    settings: Mapping[str, Any],
    number: int = 1,
    refinements: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The JSON-ready description of an inversion; `size` is the photo's (width, height), `number` the subject's."""
    return {
        "photo": str(photo.absolute()),
        "sha256": sha256,
        "size": list(size),
        "domain": editor.domain.name,
        "subjects_found": subjects_found,
        "subject": number,
        "problems": list(subject.problems),
        "box": [round(x, 1) for x in subject.box],
        "weights": editor.weights.name,
        "generator": editor.weights.fingerprint,
        "inverter": settings["inverter"],
        "resolution": editor.weights.resolution,
        "metrics": {name: round(value, 6) for name, value in metrics.items()},
        "refinements": list(refinements),
        "settings": settings,
    }


def inversion_files(
    base: Path, crop: Image.Image, image: Image.Image, latents: Latents, description: Mapping[str, Any]
) -> dict[Path, bytes]:
    """The files of an inversion, whose paths begin with `base`; the description, which tells of the others, last."""
    from stkit.images import encode_image, side_by_side
    from stkit.latents import encode_latents

    pair = side_by_side([crop, image], ["photo", "reconstruction"])
    pictures = {".crop.png": crop, ".reconstruction.png": image, ".side-by-side.png": pair}
    paths = {end: base.with_name(base.name + end) for end in pictures}
    files = {paths[end]: encode_image(picture, paths[end]) for end, picture in pictures.items()}
    files[base.with_name(base.name + LATENTS_SUFFIX)] = encode_latents(latents)
    files[base.with_name(base.name + ".json")] = description_bytes(description)
    return files


def description_bytes(description: Mapping[str, Any]) -> bytes:
    """A description as its file holds it."""
    return (json.dumps(description, indent=2) + "\n").encode()


def replace_files(files: Mapping[Path, bytes]) -> None:
    """Write `files`, whose last one describes the others: it goes before they change. Raises OutputError."""
    discard(list(files)[-1:])
    write_all(files, overwrite=True)


def discard(paths: Sequence[Path]) -> None:
    """Remove files, which need not be there. Raises OutputError."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot replace {path}: {error.strerror}; choose another place with --out") from error


def read_description(path: Path) -> dict[str, Any] | None:
    """The description at `path`, None when there is none; of a damaged one nothing is known ({})."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def earlier_results(
    description: Path, others: Sequence[Path], sha256: str, settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The description of results that serve: of the same photo with the same settings, and complete.

    None when there are none or they are not complete. Raises OutputError when others are in their place.
    """
    known = read_description(description)
    if known is None:
        return None
    if known.get("sha256") != sha256:
        raise OutputError(
            f"{description.parent} is about another photo of that name; choose another folder with --out, or give "
            "--overwrite"
        )
    if known.get("settings") != settings:
        raise OutputError(
            f"{description.parent} was made with another model or other options; choose another folder with --out, or "
            "give --overwrite"
        )
    return known if all(path.is_file() for path in others) else None


def photo_base(out: Path, photo: Path, sha256: str, overwrite: bool = False) -> Path:
    """OUT/STEM/STEM, the beginning of the names of all files about a photo.

    Raises UsageError when that folder is about another photo of the same name, unless it may be overwritten.
    """
    folder = out / photo.stem
    known = read_description(folder / f"{photo.stem}.json")
    if known is not None and known.get("sha256") != sha256 and not overwrite:
        raise UsageError(
            f"{folder} is about another photo of that name; choose another folder with --out, or give --overwrite"
        )
    return folder / photo.stem


__all__ = [
    "LATENTS_SUFFIX",
    "describe_inversion",
    "description_bytes",
    "discard",
    "earlier_results",
    "inversion_files",
    "inversion_settings",
    "photo_base",
    "read_description",
    "replace_files",
]
