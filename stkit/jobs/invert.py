"""The job of `stkit invert FOLDER`: the chosen subjects of each photo inverted; what is done already is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stkit.editor.editor import Editor
from stkit.editor.results import Framed, Inverted
from stkit.errors import UsageError
from stkit.files import remove_leftovers
from stkit.jobs.outputs import (
    LATENTS_SUFFIX,
    PAIR_SUFFIX,
    describe_inversion,
    discard,
    earlier_results,
    inversion_files,
    inversion_paths,
    inversion_settings,
    read_description,
    replace_files,
    subject_base,
    with_end,
)
from stkit.jobs.runner import Row
from stkit.jobs.sources import Item
from stkit.latents.latents import Latents, join_latents, load_latents, save_latents, save_latents_tuning
from stkit.measure.usual import warn_if_unusual
from stkit.photo.images import decode_photo, read_photo

JOINED = "latents.safetensors"
"""The file in the output folder that holds the codes of all its photos, with `--latents one`."""


@dataclass(frozen=True, eq=False)
class InversionJob:
    """Inverts photos into folders below `out`; a `stkit.jobs.runner.Job`.

    `face` is "largest", "all" or a number, `refine` as in `Editor.invert_all`. Results of the same photo with the same
    settings are kept. Others in the same place fail the photo, unless `overwrite`. `joined` names the photos, by path
    and sha256, whose codes are in `out`/latents.safetensors.
    """

    editor: Editor
    out: Path
    inverter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    face: str = "largest"
    refine: Sequence[str] = ()
    overwrite: bool = False
    settings: Mapping[str, Any] = field(init=False)
    joined: frozenset[tuple[str | None, str | None]] = field(init=False)

    def __post_init__(self) -> None:
        name = self.editor.registry.inverter_for(self.editor.weights, self.inverter).name
        object.__setattr__(self, "inverter", name)
        require_any_photos_face(self.face)
        settings = inversion_settings(self.editor, "+".join([name, *self.refine]), self.options)
        object.__setattr__(self, "settings", settings)
        joined = _load_joined(self)
        rows = joined.provenance if joined else ()
        object.__setattr__(self, "joined", frozenset((row.photo, row.photo_sha256) for row in rows))

    def base(self, item: Item) -> Path:
        """The beginning of the paths of all results of a photo."""
        return self.out / item.name / item.name.name

    def prepare(self, item: Item) -> Row | list[Framed]:
        """Read, locate and crop; the Row of earlier results where they serve."""
        data = read_photo(item.path)
        sha256 = hashlib.sha256(data).hexdigest()
        kept = None if self.overwrite else self._kept(item, sha256)
        if kept is not None:
            return kept
        remove_leftovers(self.base(item).parent)
        return self.editor.frame_all(decode_photo(data, item.path), self.face)

    def compute(self, prepared: Sequence[list[Framed]]) -> Sequence[list[Inverted]]:
        """Codes and reconstructions of a batch of photos."""
        return invert_photos(self.editor, prepared, self.inverter, self.options, self.refine)

    def finish(self, item: Item, result: list[Inverted]) -> Row:
        """Write crop, reconstruction, side by side, latents and description of each subject."""
        for one in result:
            base = subject_base(self.base(item), one.number)
            warn_if_unusual(self.editor.weights, one.metrics, item.path)
            save_latents_tuning(one.latents, base.parent)
            replace_files(inversion_files(base, one, describe_inversion(self.editor, one, self.settings)))
        return done_row(item, self.base(item), result)

    def latent_files(self, item: Item) -> list[Path]:
        """The latent files of a photo that was inverted."""
        return [with_end(base, LATENTS_SUFFIX) for base in self._bases(item)]

    def pictures(self, item: Item) -> list[Path]:
        """What to show of a photo that was inverted."""
        return [with_end(base, PAIR_SUFFIX) for base in self._bases(item)]

    def _bases(self, item: Item) -> list[Path]:
        """One of each chosen subject; of "all" as many as an earlier run found."""
        if self.face != "all":
            return [subject_base(self.base(item), 1 if self.face == "largest" else int(self.face))]
        known = read_description(with_end(self.base(item), ".json")) or {}
        count = known.get("subjects_found")
        return [subject_base(self.base(item), number) for number in range(1, (count or 1) + 1)]

    def _kept(self, item: Item, sha256: str) -> Row | None:
        known = []
        for base in self._bases(item):
            *others, description = inversion_paths(base)
            if (str(item.path.absolute()), sha256) in self.joined:
                others.remove(with_end(base, LATENTS_SUFFIX))
            known.append(earlier_results(description, others, sha256, self.settings))
        return None if None in known else kept_row(item, self.base(item), [one for one in known if one])


def require_any_photos_face(face: str) -> None:
    """Raise UsageError unless `face` chooses in any photo: "largest", "all" or a number."""
    if face not in ("largest", "all") and not (face.isdecimal() and int(face) > 0):
        raise UsageError(f"--face '{face}' is for one photo; for many give largest, all or a number from 1")


def invert_photos(
    editor: Editor,
    prepared: Sequence[list[Framed]],
    inverter: str | None,
    options: Mapping[str, Any],
    refine: Sequence[str],
) -> list[list[Inverted]]:
    """The subjects of each photo: all in one batch, or photo by photo where codes are refined or generators tuned."""
    if refine or editor.registry.inverter_for(editor.weights, inverter).tunes:
        return [editor.invert_framed(framed, inverter, options, refine) for framed in prepared]
    inverted = iter(editor.invert_framed([one for framed in prepared for one in framed], inverter, options))
    return [[next(inverted) for _ in framed] for framed in prepared]


def done_row(item: Item, base: Path, inverted: Sequence[Inverted]) -> Row:
    """The Row of new results; its MSE is the mean of the subjects'."""
    first = inverted[0].framed
    mse = sum(one.metrics["mse"] for one in inverted) / len(inverted)
    return Row(str(item.path), "ok", "", str(base.parent), first.subjects_found, mse, first.sha256)


def kept_row(item: Item, base: Path, known: Sequence[Mapping[str, Any]]) -> Row:
    """The Row of results that an earlier run described as `known`, one description a subject."""
    errors = [one.get("metrics", {}).get("mse") for one in known]
    mse = None if None in errors else sum(errors) / len(errors)
    return Row(str(item.path), "kept", "", str(base.parent), known[0].get("subjects_found"), mse, known[0]["sha256"])


def join_folder(job: InversionJob, items: Iterable[Item]) -> Path:
    """Move the codes of `items` from their own files into `out`/latents.safetensors, one row a subject; its path.

    Rows that are there already stay, newer ones of the same photo take their place. Killed in between, no code is
    lost: the files go when the joined one is complete. Raises OutputError, LatentsError.
    """
    old = _load_joined(job)
    rows: dict[str | None, list[Latents]] = {}
    for row in [old.row(index) for index in range(len(old))] if old else []:
        rows.setdefault(row.provenance[0].photo, []).append(row)
    own = []
    for item in items:
        paths = [path for path in job.latent_files(item) if path.is_file()]
        if paths:
            rows[str(item.path.absolute())] = [load_latents(path) for path in paths]
            own += paths
    joined = job.out / JOINED
    if own:
        parts = [part for of_photo in rows.values() for part in of_photo]
        for part in parts:
            part.require_generator(job.editor.weights.fingerprint, job.editor.weights.name)
        save_latents(join_latents(parts), joined)
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
    "InversionJob",
    "done_row",
    "invert_photos",
    "join_folder",
    "kept_row",
    "require_any_photos_face",
]
