"""What an inversion leaves on disk: pictures, latents and a description, which comes last."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stkit.errors import OutputError, WeightsError
from stkit.files import parse_json, read_text, safe_name, write_all

if TYPE_CHECKING:
    from stkit.editor.editor import Editor
    from stkit.editor.results import Edit, Inverted


class TakenError(OutputError):
    """The folder of a photo's results is about another photo of that name (exit code 2, as for wrong usage)."""

    exit_code = 2


LATENTS_SUFFIX = ".latents.safetensors"
PAIR_SUFFIX = ".side-by-side.png"
BEFORE_AFTER_SUFFIX = ".before-after.png"
_TOLD = ("inverter", "blend", "smooth", "seed")
_OTHERS = {
    "inverter_weights": "an inverter that was trained otherwise",
    "options": "other options of the inverter",
    "edits": "other edits",
    "files": "other directions",
    "references": "another reference",
    "mark": "another choice of --no-mark",
    "crop_only": "another choice of --crop-only",
    "landmarks": "other landmarks",
}
"""Settings that are told with their values, and what the others are called where "another" alone will not do."""


def inversion_settings(editor: Editor, inverter: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the outcome besides the photo, JSON-ready: two runs with equal settings give equal codes."""
    from stkit.weights import load_header

    # An inverter without weights of its own starts from the codes of the weights' encoder, where there is one.
    names = [inverter.split("+")[0], *([editor.weights.own_inverter()] if editor.weights.inverters() else [])]
    weights = None
    for name in names:
        with contextlib.suppress(WeightsError):
            weights = load_header(editor.weights.path(editor.weights.inverter_kind(name))).fingerprint
            break
    return {
        "generator": editor.weights.fingerprint,
        "alignment": editor.weights.alignment.to_dict(),
        "inverter": inverter,
        "inverter_weights": weights,
        "options": {key: str(value) for key, value in sorted(options.items())},
    }


def describe_inversion(editor: Editor, inverted: Inverted, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON-ready description of an inversion that was made with `settings`."""
    framed = inverted.framed
    return {
        "photo": str(framed.path.absolute()),
        "sha256": framed.sha256,
        "size": list(framed.size),
        "domain": editor.domain.name,
        "subjects_found": framed.subjects_found,
        "subject": framed.number,
        "detector": framed.subject.detector,
        "problems": list(framed.subject.problems),
        "box": [round(x, 1) for x in framed.subject.box],
        "weights": editor.weights.name,
        "generator": editor.weights.fingerprint,
        "inverter": settings["inverter"],
        "resolution": editor.weights.resolution,
        "metrics": rounded(inverted.metrics),
        "refinements": [gain.to_dict() for gain in inverted.gains],
        "settings": settings,
    }


def rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics as a description holds them."""
    return {name: round(value, 6) for name, value in metrics.items()}


def inversion_files(base: Path, inverted: Inverted, description: Mapping[str, Any]) -> dict[Path, bytes]:
    """The files of an inversion, whose paths begin with `base`; the description, which tells of the others, last."""
    from stkit.latents.latents import encode_latents
    from stkit.photo.images import encode_image, side_by_side

    pair = side_by_side([inverted.crop, inverted.image], ["photo", "reconstruction"])
    pictures = {".crop.png": inverted.crop, ".reconstruction.png": inverted.image, PAIR_SUFFIX: pair}
    paths = {end: with_end(base, end) for end in pictures}
    files = {paths[end]: encode_image(picture, paths[end]) for end, picture in pictures.items()}
    files[with_end(base, LATENTS_SUFFIX)] = encode_latents(inverted.latents)
    files[with_end(base, ".json")] = description_bytes(description)
    return files


def inversion_paths(base: Path) -> list[Path]:
    """The paths of `inversion_files`, in their order."""
    return [with_end(base, end) for end in (".crop.png", ".reconstruction.png", PAIR_SUFFIX, LATENTS_SUFFIX, ".json")]


def crop_files(base: Path, edit: Edit) -> dict[Path, bytes]:
    """The edited crops of all subjects, as pictures by path."""
    from stkit.photo.writeback import encode_marked

    paths = [with_end(subject_base(base, number), ".crop.png") for number in range(1, len(edit.crops) + 1)]
    return {path: encode_marked(crop, path, edit.mark) for path, crop in zip(paths, edit.crops, strict=True)}


def with_end(base: Path, end: str) -> Path:
    """A path that begins with `base`: its name may hold dots, which are no suffix."""
    return base.with_name(base.name + end)


def subject_base(base: Path, number: int) -> Path:
    """`base` for the subject of that number: its own for the first, the largest."""
    return base if number == 1 else with_end(base, f".face{number}")


def description_bytes(description: Mapping[str, Any]) -> bytes:
    """A description as its file holds it."""
    return (json.dumps(description, indent=2) + "\n").encode()


def replace_files(files: Mapping[Path, bytes]) -> None:
    """Write `files`, whose last one describes the others: it goes before they change. Raises OutputError."""
    discard(list(files)[-1:])
    write_all(files, overwrite=True)


def write_results(files: Mapping[Path, bytes], alone: bool, overwrite: bool) -> None:
    """Write `files`, whose last one describes the others and is only there when it says the same. Raises OutputError.

    Without a description, what is there of one of many photos was left by a run that was killed, and is replaced. Of a
    photo that is `alone` nothing else is replaced unless `overwrite`.
    """
    if alone and not overwrite:
        *others, description = files
        write_all({path: files[path] for path in others})
        write_all({description: files[description]}, overwrite=True)
    else:
        replace_files(files)


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
        known = parse_json(read_text(path))
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
    known = require_photo(description, sha256)
    if known is None:
        return None
    if known.get("settings") != settings:
        raise OutputError(
            f"{description.parent} was made with {difference(known.get('settings'), settings)}; choose another folder "
            "with --out, or give --overwrite"
        )
    return known if all(path.is_file() for path in others) else None


def difference(there: Any, asked: Mapping[str, Any]) -> str:
    """What tells the settings of results that are there from those that are asked for: "blend auto and not replace"."""
    if not isinstance(there, dict):
        return "settings that are not known"
    different = [key for key in {**asked, **there} if there.get(key, ...) != asked.get(key, ...)]
    return ", ".join(
        f"{key} {there[key]} and not {asked[key]}"
        if key in _TOLD and key in there and key in asked
        else _OTHERS.get(key, f"another {key}")
        for key in different
    )


def photo_base(out: Path, photo: Path, sha256: str, overwrite: bool = False) -> Path:
    """OUT/STEM/STEM, the beginning of the names of all files about a photo, whatever it is called.

    Raises TakenError when that folder is about another photo of the same name, unless it may be overwritten.
    """
    name = safe_name(photo.stem)
    base = out / name / name
    if not overwrite:
        require_photo(with_end(base, ".json"), sha256)
    return base


def require_photo(description: Path, sha256: str) -> dict[str, Any] | None:
    """What is known at `description`, None when nothing is. Raises TakenError when it is about another photo."""
    known = read_description(description)
    if known is not None and known.get("sha256") != sha256:
        raise TakenError(
            f"{description.parent} is about another photo of that name; choose another folder with --out, or give "
            "--overwrite"
        )
    return known


__all__ = [
    "BEFORE_AFTER_SUFFIX",
    "LATENTS_SUFFIX",
    "PAIR_SUFFIX",
    "TakenError",
    "crop_files",
    "describe_inversion",
    "description_bytes",
    "difference",
    "discard",
    "earlier_results",
    "inversion_files",
    "inversion_paths",
    "inversion_settings",
    "photo_base",
    "read_description",
    "replace_files",
    "require_photo",
    "rounded",
    "subject_base",
    "with_end",
    "write_results",
]
