"""The job of `stkit invert`: the chosen subjects of each photo inverted; what is done already is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stkit.contracts.inversion import ignore_progress
from stkit.editor.editor import Editor
from stkit.editor.results import Framed, Inverted
from stkit.errors import LatentsError, StkitError, UsageError
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
    require_photo,
    subject_base,
    with_end,
    write_results,
)
from stkit.jobs.report import Result, Row, mean_metric
from stkit.jobs.sources import Item
from stkit.latents.latents import Latents, join_latents, load_latents, save_latents, save_latents_tuning
from stkit.measure.usual import warn_if_unusual
from stkit.photo.ondisk import fingerprint
from stkit.photo.reading import Photo, decode_photo, read_photo
from stkit.photo.subjects import Box, parse_box, read_landmarks, warn_of_problems

JOINED = "latents.safetensors"
"""The file in the output folder that holds the codes of all its photos, with `--latents one`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PhotoJob:
    """What inverting and editing photos into folders below `out` share.

    `face` is "largest", "all" or a number, `refine` as in `Editor.invert_all`. Results of the same photo with the same
    settings are kept. Others in the same place fail the photo, unless `overwrite`. A photo that is `alone` may be given
    `landmarks` (a JSON file), a `box` ("x,y,w,h") or a place "x,y" as `face`; `on_progress` gets (steps done, steps in
    all) of what takes long.
    """

    editor: Editor
    out: Path
    inverter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    face: str = "largest"
    refine: Sequence[str] = ()
    overwrite: bool = False
    alone: bool = False
    landmarks: Path | None = None
    box: str | None = None
    on_progress: Callable[[int, int], None] = ignore_progress
    place: Place = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", find_place(self.face, self.landmarks, self.box, self.alone))


@dataclass(frozen=True, eq=False, kw_only=True)
class InversionJob(PhotoJob):
    """Inverts photos; a `stkit.jobs.runner.Job`.

    `joined` names the photos, by path and sha256, whose codes are in `out`/latents.safetensors.
    """

    settings: Mapping[str, Any] = field(init=False)
    joined: frozenset[tuple[str | None, str | None]] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.editor.registry.inverter_for(self.editor.weights, self.inverter).name
        object.__setattr__(self, "inverter", name)
        settings = inversion_settings(self.editor, "+".join([name, *self.refine]), self.options)
        object.__setattr__(self, "settings", {**settings, **self.place.settings})
        joined = _load_joined(self)
        rows = joined.provenance if joined else ()
        object.__setattr__(self, "joined", frozenset((row.photo, row.photo_sha256) for row in rows))

    def base(self, item: Item) -> Path:
        """The beginning of the paths of all results of a photo."""
        return item.base(self.out)

    def prepare(self, item: Item) -> Row | list[Framed]:
        """Read, locate and crop; the Row of earlier results where they serve."""
        data = read_photo(item.path)
        if not self.overwrite:
            sha256 = fingerprint(data)
            require_photo(with_end(self.base(item), ".json"), sha256)
            kept = self._kept(item, sha256)
            if kept is not None:
                return kept
        if not self.alone:
            remove_leftovers(self.base(item).parent)
        return self.place.frame(self.editor, decode_photo(data, item.path))

    def compute(self, prepared: Sequence[list[Framed]]) -> Sequence[list[Inverted]]:
        """Codes and reconstructions of a batch of photos."""
        return invert_photos(self.editor, prepared, self.inverter, self.options, self.refine, self.on_progress)

    def finish(self, item: Item, result: list[Inverted]) -> Row:
        """Write crop, reconstruction, side by side, latents and description of each subject."""
        results = []
        for one in result:
            warn_if_unusual(self.editor.weights, one.metrics, item.path, self.editor.domain)
            files = write_inversion(self.editor, self.base(item), one, self.settings, self.alone, self.overwrite)
            results.append(Result(files, one.metrics, _summary(one.metrics)))
        return done_row(item, self.base(item), result, results)

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
        if not self.place.is_number:
            return None
        known, results = [], []
        for base in self._bases(item):
            *others, description = inversion_paths(base)
            if (str(item.path.absolute()), sha256) in self.joined:
                others.remove(with_end(base, LATENTS_SUFFIX))
            one = earlier_results(description, others, sha256, self.settings)
            if one is None:
                return None
            known.append(one)
            metrics = one.get("metrics", {})
            warn_again(self.editor, one, item)
            results.append(Result((*others, description), metrics, _summary(metrics)))
        return kept_row(item, self.base(item), known, results)


@dataclass(frozen=True, eq=False)
class Place:
    """Which subjects of a photo are meant, as `Editor.frame_all` takes it; `settings` say so in a description."""

    face: str
    landmarks: np.ndarray | None
    box: Box | None
    settings: Mapping[str, Any]

    @property
    def is_number(self) -> bool:
        """Whether the subjects' numbers are known before the photo is looked at."""
        return self.face in ("largest", "all") or (self.face.isdecimal() and int(self.face) > 0)

    def frame(self, editor: Editor, photo: Photo) -> list[Framed]:
        """The chosen subjects, cut out. Raises SubjectError, UsageError."""
        return editor.frame_all(photo, self.face, self.landmarks, self.box)


def find_place(face: str, landmarks: Path | None, box: str | None, alone: bool) -> Place:
    """Where to look, from what `stkit invert` takes. Raises UsageError for what says nothing about any photo."""
    if not alone and (landmarks is not None or box is not None):
        raise UsageError("--landmarks and --box are for one photo; name it alone")
    points = None if landmarks is None else read_landmarks(landmarks)
    settings: dict[str, Any] = {} if points is None else {"landmarks": points.tolist()}
    corners = None if box is None else parse_box(box)
    if corners is not None:
        settings["box"] = list(corners)
    place = Place(face, points, corners, settings)
    if not alone and not place.is_number:
        raise UsageError(f"--face '{face}' is for one photo; for many give largest, all or a number from 1")
    return place


def write_inversion(
    editor: Editor, base: Path, one: Inverted, settings: Mapping[str, Any], alone: bool, overwrite: bool
) -> tuple[Path, ...]:
    """Write all about one subject of the photo whose results begin with `base`; the paths. Raises OutputError."""
    base = subject_base(base, one.number)
    files = inversion_files(base, one, describe_inversion(editor, one, settings))
    save_latents_tuning(one.latents, base.parent)
    write_results(files, alone, overwrite)
    return tuple(files)


def stored_inversion(editor: Editor, base: Path, framed: Framed, settings: Mapping[str, Any]) -> Inverted | None:
    """What `write_inversion` has left of this very subject with these settings; None where it is not all there."""
    base = subject_base(base, framed.number)
    known = read_description(with_end(base, ".json"))
    if known is None or known.get("sha256") != framed.sha256 or known.get("settings") != settings:
        return None
    paths = inversion_paths(base)
    try:
        crop, image = (decode_photo(read_photo(path), path).image for path in paths[:2])
        latents = load_latents(with_end(base, LATENTS_SUFFIX))
        latents.require_generator(editor.weights.space, editor.weights.name)
        (row,) = latents.provenance
    except (StkitError, ValueError):
        return None
    if row.transform is None or not np.allclose(row.transform, framed.transform):
        return None
    return Inverted(framed, crop, image, latents, known.get("metrics", {}), (), {})


def warn_again(editor: Editor, known: Mapping[str, Any], item: Item) -> None:
    """Tell of earlier results, too, what spoke against the subject, and that the reconstruction is unusually bad."""
    warn_of_problems(editor.domain.noun, known.get("subject", 1), item.path, known.get("problems", ()))
    if "mse" in known.get("metrics", {}):
        warn_if_unusual(editor.weights, known["metrics"], item.path, editor.domain)


def _summary(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name.upper()} {value:.4f}" for name, value in metrics.items())


def invert_photos(
    editor: Editor,
    prepared: Sequence[list[Framed]],
    inverter: str | None,
    options: Mapping[str, Any],
    refine: Sequence[str],
    on_progress: Callable[[int, int], None] = ignore_progress,
) -> list[list[Inverted]]:
    """The subjects of each photo: all in one batch, or photo by photo where codes are refined or generators tuned."""
    if len(prepared) == 1 or refine or editor.registry.inverter_for(editor.weights, inverter).tunes:
        return [editor.invert_framed(framed, inverter, options, refine, on_progress) for framed in prepared]
    inverted = iter(editor.invert_framed([one for framed in prepared for one in framed], inverter, options))
    return [[next(inverted) for _ in framed] for framed in prepared]


def done_row(item: Item, base: Path, inverted: Sequence[Inverted], results: Sequence[Result]) -> Row:
    """The Row of new results; its errors are the means of the subjects'."""
    first = inverted[0].framed
    return Row(
        str(item.path),
        "ok",
        folder=str(base.parent),
        subjects_found=first.subjects_found,
        detector=first.subject.detector,
        **_errors([one.metrics for one in inverted]),
        sha256=first.sha256,
        results=tuple(results),
    )


def kept_row(item: Item, base: Path, known: Sequence[Mapping[str, Any]], results: Sequence[Result]) -> Row:
    """The Row of results that an earlier run described as `known`, one description a subject."""
    return Row(
        str(item.path),
        "kept",
        folder=str(base.parent),
        subjects_found=known[0].get("subjects_found"),
        detector=known[0].get("detector") or "",
        **_errors([one.get("metrics", {}) for one in known]),
        sha256=known[0]["sha256"],
        results=tuple(results),
    )


def _errors(metrics: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {name: mean_metric(metrics, name) for name in ("mse", "lpips")}


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
            part.require_generator(job.editor.weights.space, job.editor.weights.name)
        save_latents(join_latents(parts), joined)
        discard(own)
    return joined


def _load_joined(job: InversionJob) -> Latents | None:
    path = job.out / JOINED
    if not path.is_file():
        return None
    try:
        latents = load_latents(path)
    except LatentsError:
        if job.alone:  # which only looks whether its codes are there
            return None
        raise
    if latents.generator != job.editor.weights.space and (job.overwrite or job.alone):
        return None
    latents.require_generator(job.editor.weights.space, job.editor.weights.name)
    return latents


__all__ = [
    "JOINED",
    "InversionJob",
    "PhotoJob",
    "Place",
    "done_row",
    "find_place",
    "invert_photos",
    "join_folder",
    "kept_row",
    "stored_inversion",
    "warn_again",
    "write_inversion",
]
