"""Pictures out: tensors in [-1, 1] and images, saved files, captioned grids."""

from __future__ import annotations

import contextlib
import io
import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stkit.contracts.framing import picture_box
from stkit.errors import OutputError, UsageError, reason_of
from stkit.files import atomic_path
from stkit.photo.aside import is_large
from stkit.photo.reading import knows_heif
from stkit.remote import as_path

if TYPE_CHECKING:
    import torch


_SAVERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"compress_level": 4}),  # 2% larger than with 6, in a third of the time
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".bmp": ("BMP", {}),
    ".avif": ("AVIF", {"quality": 90}),
    ".heic": ("HEIF", {"quality": 90}),
    ".heif": ("HEIF", {"quality": 90}),
    ".jp2": ("JPEG2000", {}),
}


def to_tensor(image: Image.Image) -> torch.Tensor:
    """`image` as float32 [1, 3, H, W] in [-1, 1]."""
    import torch

    pixels = torch.from_numpy(np.array(image.convert("RGB")))  # [H, W, 3]
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def resize_batch(images: torch.Tensor, width: int) -> torch.Tensor:
    """Images [N, 3, H, W] bilinearly resized to `width`, in their own shape, antialiased where they shrink."""
    import torch.nn.functional as F

    if images.shape[-1] == width:
        return images
    size = (round(images.shape[-2] * width / images.shape[-1]), width)
    return F.interpolate(images, size=size, mode="bilinear", antialias=images.shape[-1] > width)


def picture_part(images: torch.Tensor, output_crop: tuple[float, float, float, float]) -> torch.Tensor:
    """The part of square images [..., R, R] that is picture (see `Domain.output_crop`): a view."""
    left, top, right, bottom = picture_box(output_crop, images.shape[-1])
    return images[..., top:bottom, left:right]


def to_image(tensor: torch.Tensor) -> Image.Image:
    """The RGB image of `tensor`, [3, H, W] in [-1, 1] of any float type; values outside are clamped."""
    pixels = ((tensor.detach().cpu().float() + 1) * 127.5).round().clamp(0, 255)
    return Image.fromarray(pixels.byte().permute(1, 2, 0).contiguous().numpy())


def save_image(image: Image.Image, path: Path | str) -> None:
    """Write `image` in the format of the path's suffix, complete or not at all. Raises UsageError, OutputError."""
    path = as_path(path)
    data = encode_image(image, path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def encode_image(image: Image.Image, path: Path, spend: bool = False, **parameters: Any) -> bytes:
    """`image` in the format of the path's suffix; `parameters` are Pillow's. Raises UsageError, OutputError.

    With `spend` nobody needs `image` any more: a large one is closed before its bytes are in memory once more.
    """
    if path.suffix.lower() not in _SAVERS:
        raise UsageError(f"cannot tell an image format from '{path}'; end the name in {', '.join(_SAVERS)}")
    name, usual = _SAVERS[path.suffix.lower()]
    if name == "HEIF" and not knows_heif():
        raise UsageError(f"{path} is to be HEIC: run `pip install pillow-heif`, or save it as .jpg")
    try:
        with _place_to_encode(image) as encoded:
            image.save(encoded, format=name, **{**usual, **parameters})
            if spend and is_large(image):
                image.close()
            if isinstance(encoded, io.BytesIO):
                return encoded.getvalue()
            encoded.seek(0)
            return encoded.read()
    except KeyError:  # Pillow before 11.3 and AVIF
        hint = f"run `pip install --upgrade pillow`, or save {path} as .jpg"
        raise UsageError(f"this Pillow cannot write {name}; {hint}") from None
    except (OSError, ValueError) as error:  # a picture larger than the format allows, a mode it does not have
        raise OutputError(f"cannot write {path} as {name}: {reason_of(error)}; save it as .png") from error


def _place_to_encode(image: Image.Image) -> IO[bytes]:
    """A file in memory; of a large picture one on disk, if there is room: it grows beside the picture.

    libtiff would hold it in memory three times.
    """
    if is_large(image):
        with contextlib.suppress(OSError):
            if shutil.disk_usage(tempfile.gettempdir()).free > 8 * image.width * image.height:
                return tempfile.TemporaryFile()
    return io.BytesIO()


def image_grid(
    images: Sequence[Image.Image], columns: int, captions: Sequence[str] | None = None, gap: int = 4
) -> Image.Image:
    """`images` on white in rows of `columns`, `gap` pixels apart, each over its caption.

    Cells are as large as the largest image, smaller ones are centred; a caption wider than its
    cell is shortened. Raises UsageError when there is no image or captions do not match in number.
    """
    if not images or columns < 1:
        raise UsageError("a grid needs at least one image and one column")
    if captions is not None and len(captions) != len(images):
        raise UsageError(f"{len(images)} images but {len(captions)} captions; give one caption an image")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    width, height = max(image.width for image in images), max(image.height for image in images)
    font_size = _font_size(width)
    strip = font_size * 3 // 2 if captions else 0
    sheet_size = (columns * (width + gap) + gap, rows * (height + strip + gap) + gap)
    sheet = Image.new("RGB", sheet_size, (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=font_size)
    for index, image in enumerate(images):
        left = gap + index % columns * (width + gap)
        top = gap + index // columns * (height + strip + gap)
        sheet.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
        if captions:
            text = _shorten(captions[index], font, width)
            middle = (left + width / 2, top + height + strip / 2)
            draw.text(middle, text, fill=(0, 0, 0), font=font, anchor="mm")
    return sheet


def side_by_side(images: Sequence[Image.Image], captions: Sequence[str] | None = None, gap: int = 4) -> Image.Image:
    """`images` in one row; see `image_grid`."""
    return image_grid(images, max(len(images), 1), captions, gap)


def split_row(row: Image.Image, count: int, gap: int = 4) -> list[Image.Image]:
    """The `count` pictures of what `side_by_side` made with captions, without these."""
    width = (row.width - gap) // count - gap
    height = row.height - 2 * gap - _font_size(width) * 3 // 2
    return [row.crop((left, gap, left + width, gap + height)) for left in range(gap, row.width - width, width + gap)]


def _font_size(width: int) -> int:
    """Of captions below pictures `width` pixels wide."""
    return min(max(width // 12, 11), 28)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


__all__ = [
    "encode_image",
    "image_grid",
    "picture_part",
    "resize_batch",
    "save_image",
    "side_by_side",
    "split_row",
    "to_image",
    "to_tensor",
]
