"""The photos that an evaluation looks at: which they are, and their crops and references when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stkit.contracts.domains import Domain
from stkit.contracts.framing import AlignmentTemplate, picture_box
from stkit.datasets.images import ImageFiles, ImageSet, decode_image, load_image_set
from stkit.datasets.labels import labels_beside
from stkit.errors import StkitError, UsageError
from stkit.jobs.request import EvaluateRequest
from stkit.photo.images import picture_part, resize_batch
from stkit.photo.reading import decode_photo

COMPARED = 256
"""Pixels of width that pictures are compared at, at most."""

_FEW = 50
_LOOKED_AT = 8  # photos whose size and framing are checked
_ASTRAY = 0.12  # of the side: how far the corners of an aligned photo lie from where its subject would put them


@dataclass(frozen=True)
class Photos:
    """Files of the folder or archive `source`, of what is called `split`; nothing is kept in memory."""

    source: Path
    names: tuple[str, ...]
    split: str

    def __len__(self) -> int:
        return len(self.names)

    def crops(self, names: Sequence[str], domain: Domain, resolution: int) -> Tensor:
        """[B, 3, R, R] in [-1, 1], as inverters take them. Raises PhotoError."""
        files = ImageFiles(self.source)
        pixels = [decode_image(files.read(name), name, resolution, domain.output_crop) for name in names]
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div(127.5).sub(1)

    def references(self, names: Sequence[str], domain: Domain, resolution: int) -> Tensor:
        """What reconstructions are compared with; see `compared`."""
        return compared(self.crops(names, domain, resolution), domain)


@dataclass(frozen=True)
class LoadedPhotos(Photos):
    """Photos that are in memory, of the size that the generator makes."""

    images: ImageSet

    def crops(self, names: Sequence[str], domain: Domain, resolution: int) -> Tensor:
        """[B, 3, R, R] in [-1, 1]. Raises UsageError where `resolution` is another."""
        size = self.images.images.shape[-1]
        if size != resolution:
            raise UsageError(f"the images have {size} px, but the weights make {resolution} px; load them at that")
        rows = {name: row for row, name in enumerate(self.names)}
        return self.images.batch(torch.tensor([rows[name] for name in names]), torch.device("cpu"))


def compared(images: Tensor, domain: Domain) -> Tensor:
    """The picture part of `images` [B, 3, R, R], clamped, at most COMPARED wide (antialiased bilinear)."""
    part = picture_part(images, domain.output_crop).clamp(-1, 1)
    return resize_batch(part, min(part.shape[-1], COMPARED))


def find_photos(request: EvaluateRequest, domain: Domain, template: AlignmentTemplate, notes: list[str]) -> Photos:
    """The photos of the request's split; `notes` get what is wrong with them.

    Raises StkitError when there are none, or its --labels tell none.
    """
    found, split = None, request.split
    if request.labels is not None or labels_beside(request.data).exists():
        try:
            found = load_image_set(request.data, 32, split, request.labels)
        except StkitError as error:
            if request.labels is not None:
                raise
            notes.append(f"{error}; all photos are measured, those of the training too")
    elif request.data.exists():
        notes.append(f"no CSV of splits beside {request.data.name}: all photos are measured, those of the training too")
    if found is None:
        found, split = load_image_set(request.data, 32), "all"
    notes += [f"{name} cannot be read and is left out" for name in found.broken]
    names = found.names
    if request.limit is not None and request.limit < len(names):
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(request.seed))
        names = tuple(names[i] for i in sorted(order[: request.limit].tolist()))
    if len(names) < _FEW:
        few = f"{len(names)} photo{'s' * (len(names) != 1)} say little"
        notes.append(f"{few}, above all about distances between sets; intervals are wide")
    photos = Photos(request.data, names, split)
    _check_framing(photos, domain, template, notes)
    return photos


def _check_framing(photos: Photos, domain: Domain, template: AlignmentTemplate, notes: list[str]) -> None:
    """Note photos of another shape than the model's, tiny ones, and subjects that are not where they should be."""
    left, top, right, bottom = picture_box(domain.output_crop, 1024)
    shape = (right - left) / (bottom - top)
    other, tiny, astray, seen = 0, 0, [], 0
    files = ImageFiles(photos.source)
    chosen = photos.names[:: max(1, len(photos) // _LOOKED_AT)][:_LOOKED_AT]
    pictures = [decode_photo(files.read(name), Path(name)).image for name in chosen]
    for picture in pictures:
        other += abs(picture.width / picture.height / shape - 1) > 0.03
        tiny += picture.width < 64
        if picture.width == picture.height and domain.searches:
            moved = _moved(picture, domain, template)
            seen += moved is not None
            astray += [moved] if moved is not None and moved > _ASTRAY else []
    if other:
        notes.append(f"{other} of {len(pictures)} photos looked at have another shape than the model's: cut to it")
    if tiny:
        notes.append(f"{tiny} of {len(pictures)} photos looked at are less than 64 px wide: compared enlarged")
    if seen and 2 * len(astray) > seen:
        notes.append(
            f"the photos look unaligned: in {len(astray)} of {seen} the {domain.noun} is not where these weights have "
            "it; figures are of what is there"
        )


def _moved(picture: Image.Image, domain: Domain, template: AlignmentTemplate) -> float | None:
    """How far the corners lie from where the subject puts them, in sides; None where no subject is surely found."""
    subjects = [subject for subject in domain.locate_quickly(picture) if not subject.doubtful]
    if not subjects:
        return None
    side = picture.width
    try:
        matrix = domain.transform(subjects[0], template, side)
    except UsageError:  # a template that this domain cannot serve
        return None
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]], float)
    return float(np.hypot(*(corners @ matrix.T - corners[:, :2]).T).mean() / side)


__all__ = ["COMPARED", "LoadedPhotos", "Photos", "compared", "find_photos"]
