"""The job of `stkit edit FOLDER`: each photo's largest subject inverted, edited and put back into its photo."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stkit.batch import Row
from stkit.batch_inversion import Framed, frame_photo, invert_framed, kept_row
from stkit.chain import EditStep, chain_label
from stkit.editor import DEFAULT_INVERTER, Editor
from stkit.errors import PhotoError
from stkit.files import remove_leftovers
from stkit.images import decode_photo, encode_image, load_photo, picture_part, read_photo, to_tensor
from stkit.latents import Latents, encode_latents
from stkit.outputs import (
    LATENTS_SUFFIX,
    describe_inversion,
    description_bytes,
    earlier_results,
    inversion_settings,
    replace_files,
)
from stkit.paste import Blend
from stkit.quality import warn_if_unusual
from stkit.results import Edit
from stkit.sources import Item


@dataclass(frozen=True, eq=False)
class Edited:
    """A subject before and after, images [1, 3, R, R] about [-1, 1], its edited codes, and the inversion's error."""

    framed: Framed
    latents: Latents
    before: torch.Tensor
    after: torch.Tensor
    mse: float


@dataclass(frozen=True, eq=False)
class EditJob:
    """Edits photos by `steps` into folders below `out`; a `stkit.batch.Job`.

    For each photo: the edited photo in its own format (the aligned crop as PNG with `crop_only`), the edited latents
    and a description. Earlier results of the same photo with the same edits are kept, others fail the photo, unless
    `overwrite`.
    """

    editor: Editor
    out: Path
    steps: Sequence[EditStep]
    references: Latents | None = None
    seed: int = 0
    blend: Blend = "residual"
    crop_only: bool = False
    inverter: str = DEFAULT_INVERTER
    options: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    settings: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        references = self.references
        settings = {
            **inversion_settings(self.editor, self.inverter, self.options),
            "edits": [
                {**dataclasses.asdict(step), "layers": str(step.layers), "options": _texts(step.options)}
                for step in self.steps
            ],
            "references": references and hashlib.sha256(references.codes.cpu().numpy().tobytes()).hexdigest(),
            "seed": self.seed,
            "blend": self.blend,
            "crop_only": self.crop_only,
        }
        object.__setattr__(self, "settings", settings)

    def base(self, item: Item) -> Path:
        """The beginning of the paths of all results of a photo."""
        return self.out / item.name / f"{item.name.name}.{chain_label(self.steps)}"

    def prepare(self, item: Item) -> Row | Framed:
        """Read, locate and crop; the Row of earlier results where they serve."""
        data = read_photo(item.path)
        base = self.base(item)
        if not self.overwrite:
            sha256 = hashlib.sha256(data).hexdigest()
            latents = base.with_name(base.name + LATENTS_SUFFIX)
            known = earlier_results(_description(base), [latents], sha256, self.settings)
            if known is not None and (base.parent / str(known.get("picture"))).is_file():
                return kept_row(item, base, known)
        remove_leftovers(base.parent)
        return frame_photo(self.editor, decode_photo(data, item.path))

    def compute(self, prepared: Sequence[Framed]) -> Sequence[Edited]:
        """Codes, edited codes and both images of a batch of crops."""
        latents = invert_framed(self.editor, prepared, self.inverter, self.options)
        edited = self.editor.apply(latents, self.steps, self.references, self.seed)
        before, after = self.editor.generate(latents), self.editor.generate(edited)
        results = []
        for row, framed in enumerate(prepared):
            one = slice(row, row + 1)
            error = picture_part(before[one].clamp(-1, 1) - to_tensor(framed.crop), self.editor.domain.output_crop)
            mse = float(error.square().mean())
            results.append(Edited(framed, edited.row(row), before[one], after[one], mse))
        return results

    def finish(self, item: Item, result: Edited) -> Row:
        """Put the edit into the photo, which is read again, and write it, the codes and the description."""
        framed = result.framed
        photo = None if self.crop_only else load_photo(item.path)
        if photo is not None and photo.sha256 != framed.sha256:
            raise PhotoError(f"{item.path} changed while it was edited; start again")
        warn_if_unusual(self.editor.weights, result.mse, item.path)
        metrics = {"mse": result.mse, "change": float((result.before - result.after).square().mean())}
        crop, unedited = self.editor.picture(result.after[0]), self.editor.picture(result.before[0])
        output_crop = self.editor.domain.output_crop
        edit = Edit(
            result.latents, result.before, result.after, crop, unedited, photo, output_crop, self.blend, metrics
        )
        base = self.base(item)
        picture = base.with_name(base.name + (".crop.png" if photo is None else edit.suffix))
        description = describe_inversion(
            self.editor,
            framed.photo,
            framed.sha256,
            framed.size,
            framed.subject,
            framed.subjects_found,
            metrics,
            self.settings,
        )
        files = {
            picture: encode_image(crop, picture) if photo is None else edit.encode(picture),
            base.with_name(base.name + LATENTS_SUFFIX): encode_latents(result.latents),
            _description(base): description_bytes({**description, "picture": picture.name}),
        }
        replace_files(files)
        folder = str(base.parent)
        return Row(str(item.path), "ok", "", folder, framed.subjects_found, result.mse, framed.sha256)


def _description(base: Path) -> Path:
    return base.with_name(base.name + ".json")


def _texts(options: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in sorted(options.items())}


__all__ = ["EditJob", "Edited"]
