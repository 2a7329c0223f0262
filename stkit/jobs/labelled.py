"""Latent codes with labels: of labelled photos, or of a generator's own samples that a scorer labels."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stkit.contracts.inversion import Inverter, ignore_progress
from stkit.contracts.scoring import Scorer
from stkit.datasets.codes import LabelledCodes, invert_files
from stkit.datasets.images import ImageFiles
from stkit.datasets.labels import AttributeSpec, Labels, match_photos
from stkit.editor.editor import Editor
from stkit.errors import LabelsError, OutputError, UnknownNameError, UsageError
from stkit.files import atomic_path, safe_name
from stkit.jobs.cached_codes import fill_cache
from stkit.jobs.request import LabelledRequest
from stkit.jobs.sources import is_latents, list_photos
from stkit.latents.latents import Latents
from stkit.models.registry import load_generator, sample_codes
from stkit.options import Options, build_options
from stkit.photo.images import resize_batch
from stkit.weights import cache_folder

logger = logging.getLogger("stkit")

Progress = Callable[[int, int], None]
MIN_OF_A_CLASS = 10
"""Fewer photos of a class than this are no ground for a direction."""

_CHUNK = 250  # samples scored between two writes to the cache
_SCORED = 256  # pixels at most that scorers see: enough for all of them


def labelled_rows(
    editor: Editor,
    request: LabelledRequest,
    table: Labels | None,
    specs: Sequence[AttributeSpec],
    on_progress: Progress = ignore_progress,
) -> tuple[LabelledCodes, dict[str, Any]]:
    """Codes with the values of `specs`, and for the notes of what is made of them where they are from.

    `table` is what the request's labels say, None for samples.
    Raises as `labelled_photos` and `labelled_samples` do.
    """
    seed, share = request.seed, request.share
    origin: dict[str, Any]
    if table is not None and request.images:
        inverter = editor.registry.inverter_for(editor.weights, request.inverter).name
        photos = table, request.images, specs, inverter, request.aligned, request.limit
        spread = fill_cache(editor, request, on_progress)
        data = labelled_photos(editor, *photos, seed, on_progress, share, spread)
        origin = {"labels": table.path.name, "images": request.images.name, "inverter": inverter}
        origin["photos"] = len(data.names)
    else:
        assert request.samples is not None and request.scorer is not None
        if any(spec.positive for spec in specs):
            raise UsageError("scores are numbers: name them without =")
        names = [spec.column for spec in specs]
        data = labelled_samples(editor, request.scorer, request.samples, names, seed, on_progress, share)
        origin = {"samples": request.samples, "scorer": request.scorer, "seed": seed}
    if specs[0].positive:
        origin["positive"] = specs[0].positive
    return data, origin


def labelled_photos(
    editor: Editor,
    labels: Labels,
    images: Path,
    attributes: Sequence[AttributeSpec],
    inverter: str | None = None,
    aligned: bool = False,
    limit: int | None = None,
    seed: int = 0,
    on_progress: Progress = ignore_progress,
    share: float = 0.25,
    spread: Callable[[Sequence[str]], Mapping[str, str]] | None = None,
) -> LabelledCodes:
    """Invert the photos of `images` (folder or archive) that `labels` has the first attribute for.

    `images` may be latent files as well (a pattern too), which say what photos their codes are of.

    `aligned`: the images are crops framed as the weights' own training data; otherwise the largest subject of each
    is found and framed by the domain. `spread` inverts photos elsewhere, by their names, into the cache, and says which
    it cannot, and why. With a column `split`, rows of "train" are for fitting and those of "val" (or
    else "test") are held out; without one a fifth is, by `seed`. `limit` takes that many photos at random. Counts
    of what is left out are logged, and `share` is that of `two_classes`, which must find enough. Raises LabelsError,
    UnknownNameError, UsageError, PhotoError, StkitError.
    """
    columns = [labels.column(spec.column, spec.positive) for spec in attributes]
    first = columns[0]
    given = is_latents(str(images))
    if given and spread is not None:
        raise UsageError(f"{images} has codes already; leave out --engine")
    method = editor.registry.inverter_for(editor.weights, inverter)
    names, invert = _given(editor, images) if given else _to_invert(editor, images, method, aligned, on_progress)
    photos = match_photos(labels, names)
    _tell(len(labels) - len(photos), f"rows of {labels.path.name} have no photo in {images.name}")
    _tell(len(names) - len(photos), f"photos of {images.name} have no row in {labels.path.name}")
    rows = np.array(sorted(row for row in photos if not np.isnan(first[row])), dtype=int)
    _tell(len(photos) - len(rows), f"photos have no '{attributes[0].column}' in {labels.path.name}")
    rows, held_out = _split(labels, rows, seed)
    if limit is not None and limit < len(rows):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:limit])
        rows, held_out = rows[chosen], held_out[chosen]
    where = f"{labels.path} ({int(held_out.sum())} rows held out)"
    require_classes(first[rows[~held_out]], attributes[0].column, where, share)
    if not held_out.any():
        raise LabelsError(f"none of the {len(rows)} photos is held out to measure with; take more than {limit}")
    failed = spread([photos[row] for row in rows]) if spread is not None else {}
    for name, reason in failed.items():
        logger.warning("skipped %s: %s", name, reason)
    codes, broken = invert([photos[row] for row in rows if photos[row] not in failed])
    kept = np.array([photos[row] not in broken | failed.keys() for row in rows])
    rows, held_out = rows[kept], held_out[kept]
    return LabelledCodes(
        tuple(photos[row] for row in rows),
        tuple(spec.column for spec in attributes),
        codes,
        torch.from_numpy(np.stack(columns, axis=1)[rows]).float(),
        torch.from_numpy(held_out),
    )


Invert = Callable[[Sequence[str]], tuple[Tensor, frozenset[str]]]
"""Names of photos to their codes [N, num_ws, w_dim], and the names of those that have none."""


def _to_invert(
    editor: Editor, images: Path, inverter: Inverter[Any], aligned: bool, on_progress: Progress
) -> tuple[Sequence[str], Invert]:
    """The names of the photos in a folder or archive, and what inverts them."""
    files = ImageFiles(images)
    names = files.names
    domain = None if aligned else editor.domain

    def invert(wanted: Sequence[str]) -> tuple[Tensor, frozenset[str]]:
        return invert_files(editor.weights, images, wanted, inverter, editor.device, on_progress, domain)

    return names, invert


def _given(editor: Editor, files: Path) -> tuple[Sequence[str], Invert]:
    """The names of the photos of latent files, and what gives the codes of their first subjects.

    Raises LatentsError, PhotoError.
    """
    found: dict[str, Tensor] = {}
    for item in list_photos([str(files)], Path()).items:
        assert item.latents is not None  # the name is that of latents
        item.latents.require_generator(editor.weights.space, editor.weights.name)
        latents = item.latents.broadcast(editor.weights.num_ws)
        name = latents.provenance[0].photo if latents.provenance else None
        found[name or str(item.name)] = latents.codes[0]
    return list(found), lambda wanted: (torch.stack([found[name] for name in wanted]), frozenset())


def labelled_samples(
    editor: Editor,
    scorers: str,
    count: int,
    attributes: Sequence[str],
    seed: int = 0,
    on_progress: Progress = ignore_progress,
    share: float = 0.25,
) -> LabelledCodes:
    """w_plus of `count` of the generator's own images (`sample_codes`), labelled by registered scorers.

    `scorers` is one or several with commas between; the first that has an attribute scores it. A fifth of the rows is
    held out, rows without the first attribute are left out, and `share` is that of `two_classes`. Scores are cached
    250 at a time, so that an interrupted run goes on where it was. Raises UnknownNameError, LabelsError.
    """
    methods = [editor.registry.scorer(name.strip()) for name in scorers.split(",")]
    codes = sample_codes(editor.weights, count, seed)
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, count, _CHUNK):
        part: dict[str, np.ndarray] = {}

        def tell(done: int, before: int = start) -> None:
            on_progress(before + done, count)

        for method in methods:
            part = _scores(editor, method, codes[start : start + _CHUNK], f"codes{seed}-{start}", tell) | part
        for name in attributes:
            if name not in part:
                raise UnknownNameError(f"score of '{scorers}'", name, part)
        parts.append(part)
        on_progress(min(start + _CHUNK, count), count)
    values = np.stack([np.concatenate([part[name] for part in parts]) for name in attributes], axis=1)
    known = ~np.isnan(values[:, 0])
    _tell(int((~known).sum()), f"samples have no '{attributes[0]}' by {scorers}")
    require_classes(values[:, 0], attributes[0], f"the scores of '{scorers}'", share)
    return LabelledCodes(
        tuple(f"sample {i}" for i in np.flatnonzero(known)),
        tuple(attributes),
        codes[torch.from_numpy(known)],
        torch.from_numpy(values[known]).float(),
        torch.from_numpy(_a_fifth(int(known.sum()), seed)),
    )


def _scores(
    editor: Editor, scorer: Scorer[Options], codes: Tensor, name: str, tell: Callable[[int], None]
) -> dict[str, np.ndarray]:
    """The scores of the images of `codes`, from the cache where they are there; `tell` is called with how many are."""
    # A scorer that has learned more says so in its description, and scores anew.
    known = f"{editor.weights.fingerprint[:16]}-{scorer.name}-{zlib.crc32(scorer.description.encode()):08x}"
    path = cache_folder() / "scores" / safe_name(known) / f"{name}-{len(codes)}.npz"
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            logger.warning("a damaged cache file is left out: %s: %s", path, error)
    options = build_options(scorer.Options, {})
    size = load_generator(editor.weights, editor.device).seen_resolution
    parts = []
    for batch in codes.split(16):
        images = editor.generate(Latents(batch, editor.weights.space), size).clamp(-1, 1)
        parts.append(scorer.score(resize_batch(images, min(size, _SCORED)), options))
        tell(sum(len(next(iter(part.values()))) for part in parts))
    scores = {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in parts[0]}
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **scores)  # type: ignore[arg-type]  # its keywords are arrays
    except OutputError as error:
        logger.warning("scores are not kept for another time: %s", error)
    return scores


def two_classes(values: np.ndarray, fitted: np.ndarray, share: float = 0.25) -> np.ndarray:
    """Which side each of `values` [N] is on: 1.0, 0.0, or NaN for neither.

    When the values of the `fitted` rows (bool [N]) are all 0 or 1, they are classes already. Of a score the top
    and the bottom `share` (0 to 0.5) of the fitted rows are, and other rows beyond the same limits (Shen et al.
    2020 take the extremes of a classifier's score).
    """
    known = values[fitted & ~np.isnan(values)]
    if set(np.unique(known)) <= {0.0, 1.0}:
        return values.copy()
    low, high = np.quantile(known, [share, 1 - share])
    return np.where(values >= high, np.where(values <= low, np.nan, 1.0), np.where(values <= low, 0.0, np.nan))


def require_classes(values: np.ndarray, name: str, where: str, share: float = 0.25) -> None:
    """Raise LabelsError, with counts, unless `values` make two classes of at least MIN_OF_A_CLASS."""
    known = values[~np.isnan(values)]
    distinct = np.unique(known)
    if len(distinct) < 2:
        what = f"is {distinct[0]:g} for all of them" if len(distinct) else "has no value for any of them"
        raise LabelsError(f"attribute '{name}' of {where} is constant: {len(values)} rows to fit, and it {what}")
    classes = two_classes(known, np.full(len(known), True), share)
    positive, negative = int((classes == 1).sum()), int((classes == 0).sum())
    if min(positive, negative) < MIN_OF_A_CLASS:
        scored, mend = "", ""
        if not set(distinct) <= {0.0, 1.0}:
            scored, mend = f" (the top and bottom {share:.0%} of a score)", ": take more photos, or a larger share"
        raise LabelsError(
            f"attribute '{name}' of {where} has {positive} positive and {negative} negative rows to fit{scored}; "
            f"at least {MIN_OF_A_CLASS} of each are needed{mend}"
        )


def _split(table: Labels, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to use, and which of them are held out."""
    if table.split is None:
        return rows, _a_fifth(len(rows), seed)
    splits = table.split[rows]
    other = next((name for name in ("val", "test") if name in splits), None)
    if "train" not in splits or other is None:
        counts = ", ".join(f"{name} {int((splits == name).sum())}" for name in np.unique(splits))
        raise LabelsError(f"the column split of {table.path} needs train and val (or test) rows; it has: {counts}")
    used = np.isin(splits, ["train", other])
    _tell(int((~used).sum()), f"photos are of other splits than train and {other}")
    return rows[used], splits[used] == other


def _a_fifth(count: int, seed: int) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(count)
    return order < max(1, count // 5)


def _tell(count: int, what: str) -> None:
    if count:
        logger.info("%d %s; left out", count, what)


__all__ = [
    "MIN_OF_A_CLASS",
    "labelled_photos",
    "labelled_rows",
    "labelled_samples",
    "require_classes",
    "two_classes",
]
