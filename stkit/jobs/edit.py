"""The job of `stkit edit FOLDER`: each photo's chosen subjects inverted, edited and put back into their photo."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stkit.editor.editor import Editor
from stkit.editor.results import Edit, Framed, Inverted, find_photo
from stkit.editor.steps import EditStep, chain_label, files_of
from stkit.errors import PhotoError
from stkit.files import remove_leftovers
from stkit.jobs.invert import done_row, invert_photos, kept_row, require_any_photos_face
from stkit.jobs.outputs import (
    BEFORE_AFTER_SUFFIX,
    LATENTS_SUFFIX,
    crop_files,
    description_bytes,
    earlier_results,
    inversion_settings,
    replace_files,
    rounded,
    subject_base,
    with_end,
)
from stkit.jobs.previews import before_after
from stkit.jobs.runner import Row
from stkit.jobs.sources import Item
from stkit.latents.latents import Latents, encode_latents, join_latents, save_latents_tuning
from stkit.measure.usual import warn_if_unusual
from stkit.photo.images import Photo, decode_photo, encode_image, load_photo, read_photo
from stkit.photo.paste import Blend
from stkit.weights import load_header


@dataclass(frozen=True, eq=False)
class Edited:
    """The edited codes of a photo's subjects, images [B, 3, R, R] before and after, and the inversions if any."""

    latents: Latents
    before: torch.Tensor
    after: torch.Tensor
    inverted: Sequence[Inverted]


@dataclass(frozen=True, eq=False)
class EditJob:
    """Edits photos, or latents that stand for their photos, by `steps` into folders below `out`: a `jobs.runner.Job`.

    For each photo: the edited photo in its own format (the aligned crop as PNG with `crop_only`), before and after side
    by side, the edited latents and a description. `face` is "largest", "all" or a number, `refine` as in
    `Editor.invert_all`. Earlier results of the same photo with the same edits are kept, others fail the photo, unless
    `overwrite`.
    """

    editor: Editor
    out: Path
    steps: Sequence[EditStep]
    references: Latents | None = None
    seed: int = 0
    blend: Blend = "residual"
    crop_only: bool = False
    inverter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    face: str = "largest"
    refine: Sequence[str] = ()
    overwrite: bool = False
    settings: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        name = "none"  # latents can be edited without any
        if self.inverter or self.editor.weights.inverters():
            name = self.editor.registry.inverter_for(self.editor.weights, self.inverter).name
            object.__setattr__(self, "inverter", name)
        require_any_photos_face(self.face)
        references = self.references
        settings = {
            **inversion_settings(self.editor, "+".join([name, *self.refine]), self.options),
            "edits": [
                {**dataclasses.asdict(step), "layers": str(step.layers), "options": _texts(step.options)}
                for step in self.steps
            ],
            "files": [load_header(path).fingerprint for path in files_of(self.steps, self.editor)],
            "references": references and hashlib.sha256(references.codes.cpu().numpy().tobytes()).hexdigest(),
            "seed": self.seed,
            "blend": self.blend,
            "crop_only": self.crop_only,
        }
        object.__setattr__(self, "settings", settings)

    def base(self, item: Item) -> Path:
        """The beginning of the paths of all results of a photo."""
        base = self.out / item.name / item.name.name
        if self.face == "all":
            base = with_end(base, ".all")
        elif self.face != "largest":
            base = subject_base(base, int(self.face))
        return with_end(base, f".{chain_label(self.steps)}")

    def prepare(self, item: Item) -> Row | list[Framed] | Latents:
        """Read, locate and crop; the codes of latents; the Row of earlier results where they serve."""
        data = read_photo(item.path) if item.latents is None else encode_latents(item.latents)
        base = self.base(item)
        if not self.overwrite:
            files = [with_end(base, end) for end in (LATENTS_SUFFIX, BEFORE_AFTER_SUFFIX)]
            sha256 = hashlib.sha256(data).hexdigest()
            known = earlier_results(with_end(base, ".json"), files, sha256, self.settings)
            if known is not None and known.get("picture") in os.listdir(base.parent):
                return kept_row(item, base, [known])
        remove_leftovers(base.parent)
        if item.latents is None:
            self.editor.registry.inverter_for(self.editor.weights, self.inverter)  # raises where there is none
            return self.editor.frame_all(decode_photo(data, item.path), self.face)
        item.latents.require_generator(self.editor.weights.fingerprint, self.editor.weights.name)
        return item.latents

    def compute(self, prepared: Sequence[list[Framed] | Latents]) -> Sequence[Edited]:
        """Codes, edited codes and both images of a batch of photos."""
        framed = [one for one in prepared if isinstance(one, list)]
        inversions = invert_photos(self.editor, framed, self.inverter, self.options, self.refine) if framed else []
        unused = iter(inversions)
        inverted: list[list[Inverted]] = [next(unused) if isinstance(one, list) else [] for one in prepared]
        codes = [
            one if isinstance(one, Latents) else join_latents([subject.latents for subject in subjects])
            for one, subjects in zip(prepared, inverted, strict=True)
        ]
        together = len({(one.space, one.tuning) for one in codes}) == 1
        results: list[Edited] = []
        for batch in [codes] if together else [[one] for one in codes]:
            edited = self.editor.apply(join_latents(batch), self.steps, self.references, self.seed)
            before, after = self.editor.before_after(edited)
            first = 0
            for one in batch:
                rows = slice(first, first + len(one))
                first = rows.stop
                latents = join_latents([edited.row(row) for row in range(rows.start, rows.stop)])
                results.append(Edited(latents, before[rows], after[rows], inverted[len(results)]))
        return results

    def finish(self, item: Item, result: Edited) -> Row:
        """Put the edit into the photo, which is read again, and write it, the codes and the description."""
        base = self.base(item)
        row = self._row(item, base, result)
        measured = {} if row.mse is None else {"mse": row.mse}
        photo = None if self.crop_only else self._photo(item, result)
        output_crop = self.editor.domain.output_crop
        edit = Edit(result.latents, result.before, result.after, photo, output_crop, self.blend, measured)
        if photo is None:
            pictures = crop_files(base, edit)
        else:
            pictures = {with_end(base, edit.suffix): edit.encode(with_end(base, edit.suffix))}
        picture = next(iter(pictures))
        sheet = with_end(base, BEFORE_AFTER_SUFFIX)
        description = {
            "photo": result.latents.provenance[0].photo if result.latents.provenance else None,
            "sha256": row.sha256,
            "subjects_found": row.subjects_found,
            "weights": self.editor.weights.name,
            "generator": self.editor.weights.fingerprint,
            "metrics": rounded(edit.metrics),
            "settings": self.settings,
            "picture": picture.name,
        }
        save_latents_tuning(result.latents, base.parent)
        replace_files(
            {
                **pictures,
                sheet: encode_image(before_after(edit), sheet),
                with_end(base, LATENTS_SUFFIX): encode_latents(result.latents),
                with_end(base, ".json"): description_bytes(description),
            }
        )
        return row

    def pictures(self, item: Item) -> list[Path]:
        """What to show of a photo that was edited."""
        return [with_end(self.base(item), BEFORE_AFTER_SUFFIX)]

    def _row(self, item: Item, base: Path, result: Edited) -> Row:
        if item.latents is not None:
            sha256 = hashlib.sha256(encode_latents(item.latents)).hexdigest()
            return Row(str(item.path), "ok", folder=str(base.parent), sha256=sha256)
        for one in result.inverted:
            warn_if_unusual(self.editor.weights, one.metrics, item.path)
        return done_row(item, base, result.inverted)

    def _photo(self, item: Item, result: Edited) -> Photo | None:
        if item.latents is not None:
            return find_photo(item.latents)
        photo = load_photo(item.path)
        if photo.sha256 != result.inverted[0].framed.sha256:
            raise PhotoError(f"{item.path} changed while it was edited; start again")
        return photo


def _texts(options: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in sorted(options.items())}


__all__ = ["EditJob", "Edited"]
