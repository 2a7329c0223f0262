"""The job of `stkit edit`: each photo's chosen subjects inverted, edited and put back into their photo."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from stkit.editor.editor import Editor
from stkit.editor.results import Edit, Framed, Inverted, find_photo
from stkit.editor.steps import EditStep, chain_label, files_of
from stkit.errors import LatentsError, OutputError, PhotoError
from stkit.files import remove_leftovers
from stkit.jobs.invert import PhotoJob, done_row, invert_photos, kept_row, stored_inversion, warn_again, write_inversion
from stkit.jobs.outputs import (
    BEFORE_AFTER_SUFFIX,
    LATENTS_SUFFIX,
    crop_files,
    description_bytes,
    difference,
    earlier_results,
    inversion_settings,
    read_description,
    require_photo,
    rounded,
    subject_base,
    with_end,
    write_results,
)
from stkit.jobs.previews import before_after, encode_gif, subject_view, sweep_frames
from stkit.jobs.report import Result, Row
from stkit.jobs.sources import Item
from stkit.latents.latents import Latents, encode_latents, join_latents, save_latents_tuning
from stkit.measure.usual import warn_if_unusual
from stkit.photo.images import side_by_side
from stkit.photo.ondisk import fingerprint
from stkit.photo.paste import Blend
from stkit.photo.reading import Photo, decode_photo, load_photo, read_photo
from stkit.photo.writeback import encode_change, encode_marked
from stkit.weights import load_header

logger = logging.getLogger("stkit")


@dataclass(frozen=True, eq=False)
class Edited:
    """The edited codes of a photo's subjects with images [B, 3, R, R] before and after; several in a sweep.

    `inverted` are the inversions, none where latents stood for the photo.
    """

    edits: Sequence[tuple[Latents, torch.Tensor, torch.Tensor]]
    inverted: Sequence[Inverted]


@dataclass(frozen=True, eq=False, kw_only=True)
class EditJob(PhotoJob):
    """Edits photos, or latents that stand for their photos, by `steps` into folders below `out`: a `jobs.runner.Job`.

    For each photo: the edited photo in its own format (the aligned crop as PNG with `crop_only`), before and after side
    by side, the edited latents and a description; and its inversion, unless one is there. With `sweep`,
    one step is made with each of these strengths, on one strip, and as a GIF too with `animate`. With `mark` the
    photo's XMP says that it was edited. Earlier results of the same photo with the same edits are kept. Where how to
    invert was `asked` for, an inversion of the photo that was made otherwise is refused before the work; else it stays.
    """

    steps: Sequence[EditStep]
    references: Latents | None = None
    seed: int = 0
    blend: Blend = "auto"
    crop_only: bool = False
    mark: bool = True
    sweep: Sequence[float] = ()
    animate: bool = False
    asked: bool = False
    inversion_settings: Mapping[str, Any] = field(init=False)
    settings: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        name = inverter_name(self.editor, self.inverter)
        if name is not None:
            object.__setattr__(self, "inverter", name)
        inversion = inversion_settings(self.editor, "+".join([name or "none", *self.refine]), self.options)
        inversion |= self.place.settings
        object.__setattr__(self, "inversion_settings", inversion)
        settings = {
            **inversion,
            **edit_settings(self.editor, self.steps, self.references, self.seed),
            "blend": self.blend,
            "crop_only": self.crop_only,
        }
        settings |= {} if self.mark else {"mark": False}
        object.__setattr__(self, "settings", settings | ({"sweep": list(self.sweep)} if self.sweep else {}))

    def base(self, item: Item, number: int | None = None) -> Path:
        """The beginning of the paths of all results of a photo; `number` is the subject's where `face` is a place."""
        base = item.base(self.out)
        if self.face == "all":
            base = with_end(base, ".all")
        elif number is not None or self.face != "largest":
            base = subject_base(base, number or int(self.face))
        if self.sweep:
            first, last = self.sweep[0], self.sweep[-1]
            return with_end(base, f".{self.steps[0].name}.sweep{first:+g}to{last:+g}x{len(self.sweep)}")
        return with_end(base, f".{chain_label(self.steps)}")

    def prepare(self, item: Item) -> Row | list[Framed] | tuple[Inverted, ...] | Latents:
        """Read, locate and crop; inversions that are there, or the codes of latents; the Row of earlier results."""
        data = read_photo(item.path) if item.latents is None else encode_latents(item.latents)
        if not self.overwrite:
            sha256 = fingerprint(data)
            if item.latents is None:
                require_photo(with_end(item.base(self.out), ".json"), sha256)
            kept = self._kept(item, sha256)
            if kept is not None:
                return kept
            if self.asked and item.latents is None:
                self._require_same_inversion(item)
        if not self.alone:
            remove_leftovers(item.base(self.out).parent)
        if item.latents is None:
            self.editor.registry.inverter_for(self.editor.weights, self.inverter)  # raises where there is none
            framed = self.place.frame(self.editor, decode_photo(data, item.path))
            return self._stored(item, framed) or framed
        item.latents.require_generator(self.editor.weights.space, self.editor.weights.name)
        return item.latents

    def compute(self, prepared: Sequence[list[Framed] | tuple[Inverted, ...] | Latents]) -> Sequence[Edited]:
        """Codes, edited codes and both images of a batch of photos."""
        framed = [one for one in prepared if isinstance(one, list)]
        made: list[list[Inverted]] = []
        if framed:
            made = invert_photos(self.editor, framed, self.inverter, self.options, self.refine, self.on_progress)
        unused = iter(made)
        inverted: list[Sequence[Inverted]] = [
            next(unused) if isinstance(one, list) else one if isinstance(one, tuple) else () for one in prepared
        ]
        codes = [
            one if isinstance(one, Latents) else join_latents([subject.latents for subject in subjects])
            for one, subjects in zip(prepared, inverted, strict=True)
        ]
        together = len({(one.space, one.tuning) for one in codes}) == 1
        batches = [codes] if together else [[one] for one in codes]
        edits: list[list[tuple[Latents, torch.Tensor, torch.Tensor]]] = [[] for _ in codes]
        for steps in self._variants():
            results = [one for batch in batches for one in self._edit(batch, steps)]
            for of_photo, one in zip(edits, results, strict=True):
                of_photo.append(one)
        return [Edited(of_photo, subjects) for of_photo, subjects in zip(edits, inverted, strict=True)]

    def finish(self, item: Item, result: Edited) -> Row:
        """Put the edit into the photo, which is read again, and write it, the codes and the description."""
        number = None if self.place.is_number else result.inverted[0].number
        base = self.base(item, number)
        row = self._row(item, base, result)
        measured = {name: value for name, value in (("mse", row.mse), ("lpips", row.lpips)) if value is not None}
        photo = None if self.crop_only else self._photo(item, result)
        crop = self.editor.domain.output_crop
        edits = [Edit(*one, photo, crop, self.blend, measured, self.mark) for one in result.edits]
        files, view = self._sweep_files(base, edits) if self.sweep else _edit_files(base, edits[0], result.inverted)
        latents = edits[0].latents
        description = {
            "photo": latents.provenance[0].photo if latents.provenance else None,
            "sha256": row.sha256,
            "subjects_found": row.subjects_found,
            "subject": result.inverted[0].number if result.inverted else 1,
            "detector": row.detector,
            "problems": [problem for one in result.inverted for problem in one.subject.problems],
            "weights": self.editor.weights.name,
            "generator": self.editor.weights.fingerprint,
            "metrics": rounded(edits[0].metrics),
            "settings": self.settings,
            "picture": next(iter(files)).name,
            "files": [path.name for path in files],
        }
        for one in result.inverted:
            known = with_end(subject_base(item.base(self.out), one.number), ".json")
            if self.overwrite or not known.exists():
                write_inversion(
                    self.editor, item.base(self.out), one, self.inversion_settings, self.alone, self.overwrite
                )
        save_latents_tuning(latents, base.parent)
        files[with_end(base, ".json")] = description_bytes(description)
        write_results(files, self.alone, self.overwrite)
        done = Result(tuple(files), edits[0].metrics, view=view if self.alone else None)
        return dataclasses.replace(row, results=(done,))

    def pictures(self, item: Item) -> list[Path]:
        """What to show of a photo that was edited."""
        return [with_end(self.base(item), BEFORE_AFTER_SUFFIX)]

    def _variants(self) -> list[Sequence[EditStep]]:
        return [[dataclasses.replace(self.steps[0], strength=one)] for one in self.sweep] or [self.steps]

    def _edit(
        self, codes: Sequence[Latents], steps: Sequence[EditStep]
    ) -> list[tuple[Latents, torch.Tensor, torch.Tensor]]:
        """The edited codes of each photo of a batch, and the images before and after."""
        edited = self.editor.apply(join_latents(codes), steps, self.references, self.seed)
        before, after = self.editor.before_after(edited)
        results, first = [], 0
        for one in codes:
            rows = slice(first, first + len(one))
            first = rows.stop
            latents = join_latents([edited.row(row) for row in range(rows.start, rows.stop)])
            results.append((latents, before[rows], after[rows]))
        return results

    def _stored(self, item: Item, framed: Sequence[Framed]) -> tuple[Inverted, ...]:
        """The inversions of the photo that are there, so that a second edit needs none; nothing unless they all are."""
        if self.overwrite:
            return ()
        base, settings = item.base(self.out), self.inversion_settings
        stored = [stored_inversion(self.editor, base, one, settings) for one in framed]
        found = tuple(one for one in stored if one is not None)
        if len(found) < len(stored):
            known = (read_description(with_end(base, ".json")) or {}).get("settings", settings)
            if known != settings and (self.refine or self.alone):
                text = "the inversion in %s was made with %s, and stays; its latents (%s) can be edited, too, and "
                text += "with --overwrite later edits use the new one"
                name = with_end(base, LATENTS_SUFFIX).name
                logger.info(text, base.parent, difference(known, settings), name)
            return ()
        try:
            join_latents([one.latents for one in found])
        except LatentsError:  # of runs that had other subjects to tune the generator for
            return ()
        logger.info("the inversion in %s is used", base.parent)
        return found

    def _kept(self, item: Item, sha256: str) -> Row | None:
        if not self.place.is_number:
            return None
        base = self.base(item)
        description = with_end(base, ".json")
        known = earlier_results(description, [], sha256, self.settings)
        if known is None:
            return None
        ends = (LATENTS_SUFFIX, BEFORE_AFTER_SUFFIX)
        names = known.get("files") or [known.get("picture") or "", *(with_end(base, end).name for end in ends)]
        if self.animate:
            names = dict.fromkeys([*names, with_end(base, ".gif").name])
        files = [base.with_name(name or "none") for name in names]
        if not all(path.is_file() for path in files):
            return None
        metrics = known.get("metrics", {})
        if item.latents is None:
            warn_again(self.editor, known, item)
        return kept_row(item, base, [known], [Result((*files, description), metrics)])

    def _require_same_inversion(self, item: Item) -> None:
        """Raise OutputError where the photo was inverted otherwise, by an edit or by itself: its files would stay."""
        base = item.base(self.out)
        known = read_description(with_end(base, ".json")) or {}
        settings = known.get("settings", self.inversion_settings)
        if settings != self.inversion_settings:
            raise OutputError(
                f"{base.parent} has an inversion that was made with {difference(settings, self.inversion_settings)}; "
                "choose another folder with --out, or give --overwrite, which replaces it"
            )

    def _row(self, item: Item, base: Path, result: Edited) -> Row:
        if item.latents is not None:
            sha256 = hashlib.sha256(encode_latents(item.latents)).hexdigest()
            return Row(str(item.path), "ok", folder=str(base.parent), sha256=sha256)
        for one in result.inverted:
            warn_if_unusual(self.editor.weights, one.metrics, item.path, self.editor.domain)
        return done_row(item, base, result.inverted, ())

    def _photo(self, item: Item, result: Edited) -> Photo | None:
        if item.latents is not None:
            return find_photo(item.latents)
        photo = load_photo(item.path)
        if photo.sha256 != result.inverted[0].framed.sha256:
            raise PhotoError(f"{item.path} changed while it was edited; start again")
        return photo

    def _sweep_files(self, base: Path, edits: Sequence[Edit]) -> tuple[dict[Path, bytes], Image.Image]:
        """The strip of a sweep, and its animation; and what to preview."""
        frames = sweep_frames(edits)
        strip = side_by_side(frames, [step.caption for (step,) in self._variants()])
        path = with_end(base, ".png")
        files = {path: encode_marked(strip, path, self.mark)}
        if self.animate:
            files[with_end(base, ".gif")] = encode_gif(frames)
        return files, strip


def inverter_name(editor: Editor, inverter: str | None) -> str | None:
    """The inverter of photos; None where the weights have none, with which latents can be edited all the same."""
    if inverter or editor.weights.inverters():
        return editor.registry.inverter_for(editor.weights, inverter).name
    return None


def edit_settings(editor: Editor, steps: Sequence[EditStep], references: Latents | None, seed: int) -> dict[str, Any]:
    """What decides the outcome of edits besides the codes, JSON-ready."""
    files = files_of(steps, editor.registry, editor.weights, editor.device)
    return {
        "edits": [
            {**dataclasses.asdict(step), "layers": str(step.layers), "options": _texts(step.options)} for step in steps
        ],
        "files": [load_header(path).fingerprint for path in files],
        "references": references and hashlib.sha256(references.codes.cpu().numpy().tobytes()).hexdigest(),
        "seed": seed,
    }


def _edit_files(base: Path, edit: Edit, inverted: Sequence[Inverted]) -> tuple[dict[Path, bytes], Image.Image]:
    """The files of one edit but the description, the picture itself first; and what to preview.

    A photo's picture is edited in place, and gone if it is a large one.
    """
    sheet = with_end(base, BEFORE_AFTER_SUFFIX)
    if edit.photo is None:
        files, view = crop_files(base, edit), edit.crop
        pair = before_after(edit, inverted[0].crop if len(inverted) == 1 else None)
    else:
        image, path = edit.photo.image, with_end(base, edit.suffix)
        unedited = subject_view(edit, image)
        box = edit.paste_into(image)
        view = subject_view(edit, image)
        files = {path: encode_change(image, box, edit.photo, path, edit.mark, spend=True)}
        pair = side_by_side([unedited, view], ["before", "after"])
    files[sheet] = encode_marked(pair, sheet, edit.mark)
    files[with_end(base, LATENTS_SUFFIX)] = encode_latents(edit.latents)
    return files, view


def _texts(options: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in sorted(options.items())}


__all__ = ["EditJob", "Edited", "edit_settings", "inverter_name"]
