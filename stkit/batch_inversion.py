"""The job of `stkit invert FOLDER`: each photo's largest subject inverted; what is done already is kept."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from stkit.batch import Row
from stkit.domains import Subject
from stkit.editor import DEFAULT_INVERTER, Editor
from stkit.errors import StkitError
from stkit.files import remove_leftovers
from stkit.images import Photo, decode_photo, picture_part, read_photo, to_tensor
from stkit.latents import Latents, join_latents, load_latents, save_latents
from stkit.outputs import (
    LATENTS_SUFFIX,
    describe_inversion,
    discard,
    earlier_results,
    inversion_files,
    inversion_settings,
    replace_files,
)
from stkit.quality import warn_if_unusual
from stkit.sources import Item
from stkit.subjects import find_subjects

JOINED = "latents.safetensors"
"""The file in the output folder that holds the codes of all its photos, with `--latents one`."""


@dataclass(frozen=True, eq=False)
class Framed:
    """A photo's subject, ready for the model; the photo itself is no longer in memory."""

    photo: Path
    sha256: str
    size: tuple[int, int]
    subject: Subject
    subjects_found: int
    crop: Image.Image
    transform: np.ndarray


@dataclass(frozen=True, eq=False)
class Inverted:
    """A subject, its picture and reconstruction, and its codes (one row)."""

    framed: Framed
    crop: Image.Image
    image: Image.Image
    latents: Latents
    mse: float


@dataclass(frozen=True, eq=False)
class InversionJob:
    """Inverts photos into folders below `out`; a `stkit.batch.Job`.

    Results of the same photo with the same settings are kept. Others in the same place fail the photo, unless
    `overwrite`. `joined` names the photos, by path and sha256, whose codes are in `out`/latents.safetensors.
    """

    editor: Editor
    out: Path
    inverter: str = DEFAULT_INVERTER
    options: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    settings: Mapping[str, Any] = field(init=False)
    joined: frozenset[tuple[str | None, str | None]] = field(init=False)

    def __post_init__(self) -> None:
        self.editor.registry.inverter(self.inverter)
        object.__setattr__(self, "settings", inversion_settings(self.editor, self.inverter, self.options))
        joined = _load_joined(self)
        rows = joined.provenance if joined else ()
        object.__setattr__(self, "joined", frozenset((row.photo, row.photo_sha256) for row in rows))

    def base(self, item: Item) -> Path:
        """The beginning of the paths of all results of a photo."""
        return self.out / item.name / item.name.name

    def prepare(self, item: Item) -> Row | Framed:
        """Read, locate and crop; the Row of earlier results where they serve."""
        data = read_photo(item.path)
        sha256 = hashlib.sha256(data).hexdigest()
        kept = None if self.overwrite else self._kept(item, sha256)
        if kept is not None:
            return kept
        remove_leftovers(self.base(item).parent)
        return frame_photo(self.editor, decode_photo(data, item.path))

    def compute(self, prepared: Sequence[Framed]) -> Sequence[Inverted]:
        """Codes and reconstructions of a batch of crops."""
        latents = invert_framed(self.editor, prepared, self.inverter, self.options)
        output = self.editor.generate(latents)
        results = []
        for row, framed in enumerate(prepared):
            pixels = to_tensor(framed.crop)
            error = picture_part(output[row : row + 1].clamp(-1, 1) - pixels, self.editor.domain.output_crop)
            images = self.editor.picture(pixels[0]), self.editor.picture(output[row])
            results.append(Inverted(framed, *images, latents.row(row), float(error.square().mean())))
        return results

    def finish(self, item: Item, result: Inverted) -> Row:
        """Write crop, reconstruction, side by side, latents and description."""
        framed = result.framed
        description = describe_inversion(
            self.editor,
            framed.photo,
            framed.sha256,
            framed.size,
            framed.subject,
            framed.subjects_found,
            {"mse": result.mse},
            self.settings,
        )
        warn_if_unusual(self.editor.weights, result.mse, item.path)
        base = self.base(item)
        replace_files(inversion_files(base, result.crop, result.image, result.latents, description))
        folder = str(base.parent)
        return Row(str(item.path), "ok", "", folder, framed.subjects_found, result.mse, framed.sha256)

    def _kept(self, item: Item, sha256: str) -> Row | None:
        base = self.base(item)
        ends = (".crop.png", ".reconstruction.png", ".side-by-side.png")
        others = [base.with_name(base.name + end) for end in ends]
        if (str(item.path.absolute()), sha256) not in self.joined:
            others.append(base.with_name(base.name + LATENTS_SUFFIX))
        known = earlier_results(base.with_name(base.name + ".json"), others, sha256, self.settings)
        return None if known is None else kept_row(item, base, known)


def frame_photo(editor: Editor, photo: Photo) -> Framed:
    """The largest subject of `photo`. Raises SubjectError."""
    [(_, subject)], found = find_subjects(editor.domain, photo)
    crop, transform = editor.crop(photo, subject)
    return Framed(photo.path, photo.sha256, photo.image.size, subject, found, crop, transform)


def invert_framed(editor: Editor, framed: Sequence[Framed], inverter: str, options: Mapping[str, Any]) -> Latents:
    """Codes of all subjects, one row each. Raises StkitError when they are not finite."""
    latents = editor.invert_crops(torch.cat([to_tensor(one.crop) for one in framed]), inverter, options)
    if not torch.isfinite(latents.codes).all():
        raise StkitError(f"inverter '{inverter}' gave codes that are not finite; try other options")
    rows = [editor.provenance(one.photo, one.sha256, one.transform, inverter) for one in framed]
    return dataclasses.replace(latents, provenance=tuple(rows))


def kept_row(item: Item, base: Path, known: Mapping[str, Any]) -> Row:
    """The Row of results that an earlier run described as `known`."""
    mse = known.get("metrics", {}).get("mse")
    return Row(str(item.path), "kept", "", str(base.parent), known.get("subjects_found"), mse, known["sha256"])


def join_folder(job: InversionJob, items: Iterable[Item]) -> Path:
    """Move the codes of `items` from their own files into `out`/latents.safetensors, one row a photo; its path.

    Rows that are there already stay, newer ones of the same photo take their place. Killed in between, no code is
    lost: the files go when the joined one is complete. Raises OutputError, LatentsError.
    """
    old = _load_joined(job)
    parts = [old.row(index) for index in range(len(old))] if old else []
    rows = {part.provenance[0].photo: part for part in parts}
    own = []
    for item in items:
        base = job.base(item)
        path = base.with_name(base.name + LATENTS_SUFFIX)
        if path.is_file():
            latents = load_latents(path)
            latents.require_generator(job.editor.weights.fingerprint, job.editor.weights.name)
            rows[latents.provenance[0].photo] = latents
            own.append(path)
    joined = job.out / JOINED
    if own:
        save_latents(join_latents(list(rows.values())), joined)
        discard(own)
    return joined


def _load_joined(job: InversionJob) -> Latents | None:
    path = job.out / JOINED
    if not path.is_file():
        return None
    latents = load_latents(path)
    if latents.generator != job.editor.weights.fingerprint and job.overwrite:
        return None
    latents.require_generator(job.editor.weights.fingerprint, job.editor.weights.name)
    return latents


__all__ = [
    "JOINED",
    "Framed",
    "InversionJob",
    "Inverted",
    "frame_photo",
    "invert_framed",
    "join_folder",
    "kept_row",
]
