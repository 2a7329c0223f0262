"""A person's own photos made into training data: found, aligned as a domain says, and kept as files."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stkit.contracts.domains import Domain
from stkit.contracts.framing import picture_box
from stkit.contracts.inversion import ignore_progress
from stkit.datasets.images import ImageFiles, frame_largest, read_splits, without_name
from stkit.datasets.labels import labels_beside
from stkit.errors import PhotoError, StkitError, SubjectError
from stkit.files import marked_name, name_key, safe_name, write_text
from stkit.photo.images import save_image
from stkit.photo.reading import decode_photo


@dataclass(frozen=True)
class Prepared:
    """`folder` holds `count` aligned pictures; `skipped` says why other files (by name) are not among them.

    `unmatched` are the rows of the labels whose file is not among the photos.
    """

    folder: Path
    count: int
    skipped: dict[str, str]
    unmatched: tuple[str, ...]


def prepare_photos(
    source: Path,
    domain: Domain,
    resolution: int,
    folder: Path,
    on_progress: Callable[[int, int], None] = ignore_progress,
) -> Prepared:
    """Write the largest subject of each photo of `source` (a folder or archive) to `folder` as a PNG.

    Pictures that are there already are kept, so that it can be interrupted; those of photos that are gone are
    deleted. Splits of a CSV beside the source are carried over to one beside `folder`. Raises StkitError when no
    photo is usable.
    """
    if not source.exists():
        raise StkitError(f"no photos at {source}; give a folder or an archive of images")
    labels = labels_beside(source)
    splits = read_splits(labels) if labels.exists() else {}
    skipped: dict[str, str] = {}
    rows: list[tuple[str, str]] = []
    files = ImageFiles(source)
    pictures = _picture_names(files.names)
    for i, name in enumerate(files.names):
        target = folder / pictures[name]
        reason = None if target.exists() else _prepare(files, name, domain, resolution, target)
        if reason is None:
            rows.append((target.name, splits.get(name, splits.get(Path(name).name, ""))))
        else:
            skipped[name] = reason
        on_progress(i + 1, len(files.names))
    present = {known for name in files.names for known in (name, Path(name).name)}
    if not rows:
        first = next((f"; {name}: {reason}" for name, reason in skipped.items()), "")
        raise StkitError(f"no usable photos in {source}{first}; give a folder or an archive of JPEG or PNG photos")
    wanted = {name for name, _ in rows}
    for picture in folder.glob("*.png"):
        if picture.name not in wanted:
            picture.unlink()
    if splits:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("file", "split"), *rows])
        write_text(labels_beside(folder), text.getvalue())
    return Prepared(folder, len(rows), skipped, tuple(sorted(splits.keys() - present)))


def _picture_names(names: Sequence[str]) -> dict[str, str]:
    """The file of each photo's picture: its own name where that is safe, and no other photo's in any case."""
    plain = {name: safe_name(name) if "/" not in name else marked_name(name.replace("/", "__"), name) for name in names}
    taken = Counter(map(name_key, plain.values()))
    return {
        name: (marked_name(picture, name) if taken[name_key(picture)] > 1 else picture) + ".png"
        for name, picture in plain.items()
    }


def _prepare(files: ImageFiles, name: str, domain: Domain, resolution: int, target: Path) -> str | None:
    """Write one picture, or say why not."""
    try:
        image = decode_photo(files.read(name), Path(name)).image
    except PhotoError as error:
        return without_name(error, name)
    try:
        canvas = frame_largest(image, domain, domain.template, resolution)
    except SubjectError as error:
        return str(error)
    save_image(canvas.crop(picture_box(domain.output_crop, resolution)), target)
    return None


__all__ = ["Prepared", "prepare_photos"]
