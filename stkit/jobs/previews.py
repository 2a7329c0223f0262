"""Pictures of edits for people: before and after, strips of strengths, animations."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stkit.editor.results import Edit
from stkit.errors import UsageError
from stkit.photo.aside import put_aside
from stkit.photo.images import image_grid, save_image, side_by_side
from stkit.photo.paste import strips

_VIEW = 512  # pixels of the longer side of a view, at most


def subject_view(edit: Edit, image: Image.Image, side: int = _VIEW) -> Image.Image:
    """The part of `image`, of the photo's size, around the edit's subjects; at most `side` pixels long."""
    box = _view_box(edit, image.size)
    width, height = box[2] - box[0], box[3] - box[1]
    shown = _thumbnail_size(width, height, side)
    steps = int(width / shown[0] / 2) or 1, int(height / shown[1] / 2) or 1
    if steps == (1, 1):
        return image.crop(box).resize(shown, Image.Resampling.LANCZOS)
    # As `Image.thumbnail` does it, without a copy of what may be all of a large photo.
    small = image.reduce(steps, box)
    return small.resize(shown, Image.Resampling.LANCZOS, (0, 0, width / steps[0], height / steps[1]))


def _view_box(edit: Edit, photo_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """All that the edit changes in a photo, and what is around it."""
    size = edit.after.shape[-1]
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5
    transforms = [np.array(row.transform) for row in edit.latents.provenance]
    points = np.concatenate([corners @ matrix[:, :2].T + matrix[:, 2] for matrix in transforms])
    low, high = points.min(0), points.max(0)
    margin = 0.25 * (high - low).max()
    low = np.clip(np.floor(low - margin), 0, photo_size).astype(int)
    high = np.clip(np.ceil(high + margin), 0, photo_size).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _thumbnail_size(width: int, height: int, side: int) -> tuple[int, int]:
    """What `Image.thumbnail` makes of a picture of that size."""
    if max(width, height) <= side:
        return width, height
    aspect = width / height
    exact = side * min(aspect, 1 / aspect)
    near = {max(number, 1) for number in (math.floor(exact), math.ceil(exact))}
    if aspect <= 1:
        return min(sorted(near), key=lambda number: abs(aspect - number / side)), side
    return side, min(sorted(near), key=lambda number: abs(aspect - side / number))


def before_after(edit: Edit, crop: Image.Image | None = None) -> Image.Image:
    """The aligned crop, unedited beside edited; `crop` is that of the photo, to go before them."""
    crops = [*([] if crop is None else [crop]), edit.unedited, edit.crop]
    return side_by_side(crops, ["photo", "reconstruction", "edited"][-len(crops) :])


def sweep_frames(edits: Sequence[Edit], side: int = 256) -> list[Image.Image]:
    """One picture of each edit: around the subject in the photo, or the aligned crop."""
    return [_frame(edit, side) for edit in edits]


def _frame(edit: Edit, side: int) -> Image.Image:
    if edit.photo is None:
        return edit.crop
    image = edit.photo.image
    kept = put_aside(image, strips(_view_box(edit, image.size)))
    edit.paste_into(image)
    view = subject_view(edit, image, side)
    for box, part in kept:  # for the next frame
        image.paste(part, box)
    return view


def encode_gif(frames: Sequence[Image.Image], seconds: float = 0.25) -> bytes:
    """An endless GIF that goes through `frames` of one size and back, `seconds` each."""
    there_and_back = [*frames, *frames[-2:0:-1]]
    encoded = io.BytesIO()
    there_and_back[0].save(
        encoded,
        format="GIF",
        save_all=True,
        append_images=there_and_back[1:],
        duration=round(seconds * 1000),
        loop=0,
    )
    return encoded.getvalue()


def contact_sheets(
    pictures: Sequence[tuple[str, Sequence[Path]]], base: Path, columns: int = 4, rows: int = 10, side: int = 320
) -> list[Path]:
    """Write captioned pictures, `columns` x `rows` of them on a JPEG, each at most `side` pixels long; the paths.

    The first is called like `base`, the next ones with -2, -3, ... Earlier sheets are replaced. Raises OutputError.
    """
    cells = [(caption, path) for caption, paths in pictures for path in paths if path.is_file()]
    made: list[Path] = []
    for start in range(0, len(cells), columns * rows):
        page = cells[start : start + columns * rows]
        thumbnails = [_thumbnail(path, side) for _, path in page]
        number = f"-{len(made) + 1}" if made else ""
        target = base.with_name(f"{base.name}{number}.jpg")
        save_image(image_grid(thumbnails, columns, [caption for caption, _ in page]), target)
        made.append(target)
    return made


def _thumbnail(path: Path, side: int) -> Image.Image:
    with Image.open(path) as image:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        return image.convert("RGB")


def parse_sweep(text: str) -> list[float]:
    """The strengths of FIRST:LAST:COUNT, evenly spaced, 2 to 99 of them. Raises UsageError."""
    try:
        first, last, count = (kind(part) for kind, part in zip((float, float, int), text.split(":"), strict=True))
    except ValueError:
        raise UsageError(f"--sweep '{text}' is not like -3:3:7: first strength, last strength, how many") from None
    if not np.isfinite([first, last]).all() or not 2 <= count <= 99:
        raise UsageError(f"--sweep '{text}': give finite strengths and a count of 2 to 99")
    return [round(float(strength), 6) + 0.0 for strength in np.linspace(first, last, int(count))]


__all__ = ["before_after", "contact_sheets", "encode_gif", "parse_sweep", "subject_view", "sweep_frames"]
