"""Training images: a folder or a zip, with an optional CSV of splits, decoded into one uint8 tensor."""

from __future__ import annotations

import csv
import io
import logging
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from stkit.errors import PhotoError, StkitError
from stkit.images import upright_rgb

logger = logging.getLogger("stkit")

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images [N, 3, R, R] uint8 with their names, and what could not be read."""

    images: Tensor
    names: tuple[str, ...]
    broken: tuple[str, ...] = ()

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
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImageSet:
    """Read a folder or zip of images, centre-cropped to squares and resized to `resolution`.

    `split` keeps the rows of a CSV (`labels`, by default the file beside the source with the suffix
    .csv) whose `split` column says so; without a CSV there is no split and everything is kept.
    Files that cannot be read are logged and listed in `broken`. Raises StkitError when nothing is left.
    """
    if not source.exists():
        raise StkitError(f"no training data at {source}; give a folder or a zip of images")
    wanted = _split_names(labels or source.with_suffix(".csv"), split, required=labels is not None)
    with ImageFiles(source) as files:
        names = [name for name in files.names if wanted is None or Path(name).name in wanted]
        if wanted is not None and len(names) < len(wanted):
            logger.warning("%d files of the split '%s' are not in %s", len(wanted) - len(names), split, source)
        kept, broken, pixels = [], [], []
        for i, name in enumerate(names):
            try:
                pixels.append(decode_image(files.read(name), resolution))
                kept.append(name)
            except Exception as error:  # decoders and damaged zips raise anything: SyntaxError, zlib.error, ...
                logger.warning("skipped %s: %s", name, error)
                broken.append(name)
            on_progress(i + 1, len(names))
    if not kept:
        raise StkitError(f"no readable images in {source}" + (f" for the split '{split}'" if split else ""))
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return ImageSet(stacked, tuple(kept), tuple(broken))


def load_train_val(
    source: Path, resolution: int, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[ImageSet, ImageSet]:
    """The splits train and val of `source`; without a CSV beside it, every 25th image is for validation.

    Raises StkitError as `load_image_set` does, and when there are fewer than two images.
    """
    if source.with_suffix(".csv").exists():
        train = load_image_set(source, resolution, "train", on_progress=on_progress)
        return train, load_image_set(source, resolution, "val", on_progress=on_progress)
    everything = load_image_set(source, resolution, on_progress=on_progress)
    if len(everything) < 2:
        raise StkitError(f"{source} has one readable image; training and validation need one each")
    index = torch.arange(len(everything))
    chosen = index % 25 == min(24, len(everything) - 1)
    parts = [
        ImageSet(everything.images[keep], tuple(everything.names[i] for i in index[keep]), broken)
        for keep, broken in ((~chosen, everything.broken), (chosen, ()))
    ]
    return parts[0], parts[1]


def _split_names(path: Path, split: str | None, required: bool) -> set[str] | None:
    if split is None or not (required or path.exists()):
        return None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise StkitError(f"cannot read labels {path}: {error.strerror}") from error
    if not rows or "file" not in rows[0] or "split" not in rows[0]:
        raise StkitError(f"{path} needs a header with the columns file and split")
    names = {row["file"] for row in rows if row["split"] == split}
    if not names:
        known = ", ".join(sorted({row["split"] for row in rows}))
        raise StkitError(f"{path} has no rows of the split '{split}'; it has: {known}")
    return names


def decode_image(data: bytes, resolution: int) -> np.ndarray:
    """An image file's bytes as uint8 [R, R, 3], centre-cropped to a square. Raises anything that decoders raise."""
    with Image.open(io.BytesIO(data)) as image:
        rgb = upright_rgb(image)
    if rgb.size != (resolution, resolution):
        rgb = ImageOps.fit(rgb, (resolution, resolution), Image.Resampling.LANCZOS)
    return np.asarray(rgb)


class ImageFiles:
    """The image files of a folder or a zip: `names` (paths inside it) in a fixed order. Raises PhotoError."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.zip: zipfile.ZipFile | None = None
        if source.is_dir():
            paths = (path for path in source.rglob("*") if path.suffix.lower() in _SUFFIXES)
            self.names = sorted(path.relative_to(source).as_posix() for path in paths)
            return
        try:
            self.zip = zipfile.ZipFile(source)
        except (zipfile.BadZipFile, OSError) as error:
            raise PhotoError(f"{source} is neither a folder nor a readable zip: {error}") from error
        self.names = sorted(name for name in self.zip.namelist() if Path(name).suffix.lower() in _SUFFIXES)

    def read(self, name: str) -> bytes:
        """The bytes of one of `names`."""
        return self.zip.read(name) if self.zip else (self.source / name).read_bytes()

    def __enter__(self) -> ImageFiles:
        return self

    def __exit__(self, *_: object) -> None:
        if self.zip:
            self.zip.close()


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
    "load_image_set",
    "load_train_val",
]
