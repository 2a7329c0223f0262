"""Training images: a folder or an archive, with an optional CSV of splits, decoded into one uint8 tensor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from stkit.contracts.domains import Domain
from stkit.contracts.framing import WHOLE, AlignmentTemplate, picture_box
from stkit.contracts.inversion import ignore_progress
from stkit.datasets.labels import labels_beside, load_labels
from stkit.errors import LabelsError, PhotoError, StkitError, SubjectError, reason_of
from stkit.files import read_bytes
from stkit.photo.alignment import frame_photo
from stkit.photo.archives import open_archive, read_member
from stkit.photo.reading import MOST_BYTES, decode_photo
from stkit.photo.suffixes import IMAGE_SUFFIXES

logger = logging.getLogger("stkit")
_LEAST = 10  # to train on


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images [N, 3, R, R] uint8 with their names, and what could not be read.

    `output_crop` is the part of them that is picture (see `Domain.output_crop`); the rest is black.
    """

    images: Tensor
    names: tuple[str, ...]
    broken: tuple[str, ...] = ()
    output_crop: tuple[float, float, float, float] = WHOLE

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: Tensor, device: torch.device) -> Tensor:
        """The images at `indices` as float32 [B, 3, R, R] in [-1, 1], channels last."""
        pixels = self.images[indices.to(self.images.device)].to(device)
        return pixels.float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def load_image_set(
    source: Path,
    resolution: int,
    split: str | None = None,
    labels: Path | None = None,
    on_progress: Callable[[int, int], None] = ignore_progress,
    output_crop: tuple[float, float, float, float] = WHOLE,
) -> ImageSet:
    """Read a folder or archive of images, centre-cropped and resized to the part `output_crop` of R x R squares.

    `split` keeps the rows of a CSV (`labels`, by default the file beside the source with the suffix
    .csv) whose `split` column says so; without a CSV there is no split and everything is kept.
    Files that cannot be read are logged and listed in `broken`. Raises StkitError when nothing is left.
    """
    if not source.exists():
        raise StkitError(f"no training data at {source}; give a folder or an archive of images")
    wanted = _split_names(labels or labels_beside(source), split, required=labels is not None)
    files = ImageFiles(source)
    names = [name for name in files.names if wanted is None or {name, Path(name).name} & wanted]
    if wanted is not None and len(names) < len(wanted):
        logger.warning("%d files of the split '%s' are not in %s", len(wanted) - len(names), split, source)
    kept: list[str] = []
    broken: list[str] = []
    images = torch.empty(len(names), 3, resolution, resolution, dtype=torch.uint8)
    for i, name in enumerate(names):
        try:
            pixels = decode_image(files.read(name), name, resolution, output_crop)
            images[len(kept)] = torch.from_numpy(pixels).permute(2, 0, 1)
            kept.append(name)
        except PhotoError as error:
            logger.warning("skipped %s: %s", name, without_name(error, name))
            broken.append(name)
        on_progress(i + 1, len(names))
    if not kept:
        raise StkitError(f"no readable images in {source}" + (f" for the split '{split}'" if split else ""))
    return ImageSet(images[: len(kept)], tuple(kept), tuple(broken), output_crop)


def load_train_val(
    source: Path,
    resolution: int,
    on_progress: Callable[[int, int], None] = ignore_progress,
    output_crop: tuple[float, float, float, float] = WHOLE,
) -> tuple[ImageSet, ImageSet]:
    """The splits train and val of `source`; without a CSV beside it, every 25th image is for validation.

    Raises StkitError as `load_image_set` does, and when there are fewer than two images.
    """
    if labels_beside(source).exists():
        train, val = (
            load_image_set(source, resolution, split, on_progress=on_progress, output_crop=output_crop)
            for split in ("train", "val")
        )
        return train, val
    everything = load_image_set(source, resolution, on_progress=on_progress, output_crop=output_crop)
    if len(everything) < 2:
        raise StkitError(f"{source} has one readable image; training and validation need one each")
    images, names = everything.images, everything.names
    chosen = range(min(24, len(names) - 1), len(names), 25)
    val = ImageSet(images[chosen.start :: chosen.step].clone(), names[chosen.start :: chosen.step], (), output_crop)
    kept = [i for i in range(len(names)) if i not in chosen]
    for row, i in enumerate(kept):
        images[row] = images[i]  # in place: a large set fits into memory once, not twice
    return ImageSet(images[: len(kept)], tuple(names[i] for i in kept), everything.broken, output_crop), val


def read_splits(path: Path) -> dict[str, str]:
    """The split of each file that a CSV with the columns `file` and `split` names. Raises StkitError."""
    labels = load_labels(path)
    if labels.split is None:
        raise LabelsError(f"{path} needs a header with the columns file and split")
    return dict(zip(labels.files, map(str, labels.split), strict=True))


def _split_names(path: Path, split: str | None, required: bool) -> set[str] | None:
    if split is None or not (required or path.exists()):
        return None
    splits = read_splits(path)
    names = {name for name, its in splits.items() if its == split}
    if not names:
        raise StkitError(
            f"{path} has no rows of the split '{split}'; it has: {', '.join(sorted(set(splits.values())))}"
        )
    return names


def without_name(error: Exception, name: str) -> str:
    """Why the file `name` cannot be read, for where the name is said already."""
    reason = reason_of(error)
    before, found, after = reason.partition(f"{name} ")
    return after if found and (not before or before.endswith("/")) else reason  # the archive's path may stand before it


def decode_image(
    data: bytes, name: str, resolution: int, output_crop: tuple[float, float, float, float] = WHOLE
) -> np.ndarray:
    """An image file's bytes as uint8 [R, R, 3], centre-cropped to the part `output_crop`, black outside it.

    `name` is for messages. Raises PhotoError.
    """
    rgb = decode_photo(data, Path(name)).image
    left, top, right, bottom = picture_box(output_crop, resolution)
    size = (right - left, bottom - top)
    if rgb.size != size:
        rgb = ImageOps.fit(rgb, size, Image.Resampling.LANCZOS)
    canvas = np.zeros((resolution, resolution, 3), np.uint8)
    canvas[top:bottom, left:right] = np.asarray(rgb)
    return canvas


def frame_largest(
    photo: Image.Image, domain: Domain, template: AlignmentTemplate, resolution: int, *, quickly: bool = False
) -> Image.Image:
    """The largest subject of an upright RGB `photo`, R x R, framed as `template` says, black outside the picture.

    `quickly`: found by `Domain.locate_quickly`. Raises SubjectError when there is none, UsageError for a template that
    the domain cannot serve.
    """
    subjects = domain.locate_quickly(photo) if quickly else domain.locate(photo)
    if not subjects:
        raise SubjectError(f"no {domain.noun} found")
    transform = domain.transform(subjects[0], template, resolution)
    return frame_photo(photo, transform, resolution, domain.output_crop)


def require_enough(count: int, source: Path) -> None:
    """Raise StkitError when the `count` images of `source` are too few to train on."""
    if count < _LEAST:
        raise StkitError(f"{source} has {count} images to train on; {_LEAST} are the least, hundreds make a model")


class ImageFiles:
    """The image files of a folder or an archive: `names` (paths inside it) in a fixed order. Raises PhotoError."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.is_folder = source.is_dir()
        if self.is_folder:
            self.names = _image_names(path.relative_to(source).as_posix() for path in source.rglob("*"))
            return
        archive = open_archive(source)
        self.names = _image_names(map(str, archive.members))
        for name in _image_names(map(str, archive.repeated)):
            logger.warning("%s is in %s more than once; only the last one can be read", name, source)

    def read(self, name: str) -> bytes:
        """The bytes of one of `names`. Raises PhotoError."""
        if not self.is_folder:
            return read_member(self.source, PurePosixPath(name))
        try:
            return read_bytes(self.source / name, MOST_BYTES)
        except OSError as error:
            raise PhotoError(f"{name} cannot be read: {reason_of(error)}; copy or download it again") from error


def _image_names(names: Iterable[str]) -> list[str]:
    """Sorted, without what is hidden (`.thumbnails/`) or what macOS adds to zips."""

    def is_photo(path: PurePosixPath) -> bool:
        hidden = any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in path.parts)
        return path.suffix.lower() in IMAGE_SUFFIXES and not hidden

    return sorted(name for name in names if is_photo(PurePosixPath(name)))


def batch_indices(count: int, batch: int, seed: int, step: int) -> Tensor:
    """The rows of step `step`: consecutive slices of a fresh permutation of `count` rows each epoch.

    A function of its arguments alone, so that a resumed run sees the data it would have seen.
    """
    first = step * batch
    positions = range(first, first + batch)
    epochs = {position // count for position in positions}
    orders = {e: torch.randperm(count, generator=torch.Generator().manual_seed(seed * 100_003 + e)) for e in epochs}
    return torch.stack([orders[position // count][position % count] for position in positions])


def flip_some(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image [B, 3, H, W] with probability one half."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(3), images)


def batches(images: Tensor, size: int) -> Iterator[Tensor]:
    """Consecutive slices of at most `size` rows."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


__all__ = [
    "ImageFiles",
    "ImageSet",
    "batch_indices",
    "batches",
    "decode_image",
    "flip_some",
    "frame_largest",
    "load_image_set",
    "load_train_val",
    "read_splits",
    "require_enough",
    "without_name",
]
