"""What the editor gives back: a framed subject, an inversion, an edit, and the photo that latents came from."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from stkit.contracts.domains import Subject
from stkit.errors import PhotoError
from stkit.files import atomic_path
from stkit.latents.latents import Latents, Provenance
from stkit.measure.paired import picture_errors
from stkit.photo.images import picture_part, save_image, to_image
from stkit.photo.paste import Blend, paste_into, union
from stkit.photo.reading import Photo, load_photo
from stkit.photo.writeback import encode_marked, encode_photo, photo_suffix, save_photo
from stkit.remote import as_path, is_store

logger = logging.getLogger("stkit")


@dataclass(frozen=True)
class Gain:
    """What one refinement did: `errors_before` and `errors_after` are means of `Editor.errors`."""

    refinement: str
    steps: int
    seconds: float
    errors_before: Mapping[str, float]
    errors_after: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready form, rounded, without the time: the same command writes the same report."""
        data = asdict(self)
        for key in ("errors_before", "errors_after"):
            data[key] = {name: round(value, 6) for name, value in data[key].items()}
        del data["seconds"]
        return data

    def __str__(self) -> str:
        errors = ", ".join(
            f"{name.upper()} {before:.4f} -> {self.errors_after[name]:.4f}"
            for name, before in self.errors_before.items()
        )
        return f"{self.refinement}: {errors} in {self.steps} steps, {self.seconds:.1f} s"


@dataclass(frozen=True, eq=False)
class Framed:
    """A photo's subject, cut out for the model; the photo itself need not be in memory any more.

    `path`, `sha256` and `size` (width, height) are the photo's. `number` is the subject's among the `subjects_found`,
    from 1 (the largest). `crop` is R x R with its bars black, `transform` [2, 3] takes its pixels to the photo's.
    """

    path: Path
    sha256: str
    size: tuple[int, int]
    subject: Subject
    number: int
    subjects_found: int
    crop: Image.Image
    transform: np.ndarray


@dataclass(frozen=True, eq=False)
class Inverted:
    """A subject found again by the generator: `crop` is what it should be, `image` what it is, `latents` has one row.

    `metrics` has "mse", of images in [-1, 1] at the generator's resolution; `gains` tells what each refinement did;
    `options` are those of the inverter that were given.
    """

    framed: Framed
    crop: Image.Image
    image: Image.Image
    latents: Latents
    metrics: Mapping[str, float]
    gains: tuple[Gain, ...]
    options: Mapping[str, Any]

    @property
    def subject(self) -> Subject:
        """The subject in the photo."""
        return self.framed.subject

    @property
    def number(self) -> int:
        """The subject's number among those found, from 1 (the largest)."""
        return self.framed.number

    @property
    def subjects_found(self) -> int:
        """How many subjects the photo shows."""
        return self.framed.subjects_found

    def save(self, path: Path | str) -> None:
        """Write the reconstruction; the suffix says the format. Raises UsageError, OutputError."""
        save_image(self.image, path)


@dataclass(frozen=True, eq=False)
class Inversion(Inverted):
    """An inverted subject with the photo that it is in."""

    photo: Photo


@dataclass(frozen=True, eq=False)
class Edit:
    """An edit of one subject, or of several in one photo.

    `before` and `after` [B, 3, R, R] are the generator's images, about [-1, 1], `latents` the edited codes, `measured`
    what the inversion measured. `output_crop` is the domain's. With `mark` a file says that it was
    edited.
    """

    latents: Latents
    before: torch.Tensor
    after: torch.Tensor
    photo: Photo | None
    output_crop: tuple[float, float, float, float]
    blend: Blend
    measured: Mapping[str, float]
    mark: bool = True

    @property
    def crop(self) -> Image.Image:
        """The aligned picture of the first subject, edited."""
        return self.crops[0]

    @functools.cached_property
    def crops(self) -> list[Image.Image]:
        """The aligned pictures of all subjects, edited."""
        return [to_image(picture_part(after, self.output_crop)) for after in self.after]

    @functools.cached_property
    def unedited(self) -> Image.Image:
        """The aligned picture of the first subject, reconstructed without any edit."""
        return to_image(picture_part(self.before[0], self.output_crop))

    @functools.cached_property
    def metrics(self) -> Mapping[str, float]:
        """What the inversion measured, and "change": the mean squared difference of before and after in [-1, 1]."""
        return {**self.measured, "change": float(picture_errors(self.before, self.after, self.output_crop).mean())}

    @functools.cached_property
    def image(self) -> Image.Image:
        """The edited photo; the aligned crop where there is no photo. Made when first asked for."""
        if self.photo is None:
            return self.crop
        image = self.photo.image.copy()
        self.paste_into(image)
        return image

    def paste_into(self, image: Image.Image) -> tuple[int, int, int, int] | None:
        """Put the edit into `image`, the photo's picture; the part that changed, None where nothing did."""
        rows = zip(self.latents.provenance, self.before, self.after, strict=True)
        return union(
            paste_into(image, np.array(row.transform), before, after, self.output_crop, self.blend)
            for row, before, after in rows
        )

    @property
    def suffix(self) -> str:
        """The suffix of the photo's own format, to save with; `.png` without a photo."""
        return ".png" if self.photo is None else photo_suffix(self.photo)

    def encode(self, path: Path) -> bytes:
        """The bytes that `save` writes. Raises UsageError, OutputError."""
        if self.photo is None:
            return encode_marked(self.crop, path, self.mark)
        return encode_photo(self.image, self.photo, path, self.mark)

    def save(self, path: Path | str) -> None:
        """Write `image`: with the photo's metadata, colour space and quality where there is a photo.

        The suffix of `path` says the format. Raises UsageError, OutputError.
        """
        if self.photo is None:
            path = as_path(path)
            with atomic_path(path) as temporary:
                temporary.write_bytes(self.encode(path))
        else:
            save_photo(self.image, self.photo, path, self.mark)


def find_photo(latents: Latents) -> Photo | None:
    """The photo that all rows of `latents` came from, read again.

    None, with a warning that says why, when it is gone, has changed, cannot be read, was never noted, or
    when the rows are of several photos.
    """
    rows = latents.provenance
    reason = _why_not(rows)
    if reason is None:
        path = as_path(str(rows[0].photo))
        try:
            photo = load_photo(path)
        except PhotoError as error:
            reason = str(error)
        else:
            if photo.sha256 == rows[0].photo_sha256:
                return photo
            reason = f"{path} has changed since"
    logger.warning("no paste-back, only the aligned crop: %s", reason)
    return None


def _why_not(rows: tuple[Provenance, ...]) -> str | None:
    if not rows or any(row.photo is None or row.transform is None for row in rows):
        return "the latents do not say which photo they came from"
    if len({row.photo_sha256 for row in rows}) > 1:
        return "the latents are of several photos"
    if not is_store(str(rows[0].photo)):
        return f"the latents come from {rows[0].photo}, which is not fetched because a file says so"
    return None


__all__ = ["Edit", "Framed", "Gain", "Inversion", "Inverted", "find_photo"]
