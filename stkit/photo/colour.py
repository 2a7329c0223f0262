"""Any picture that Pillow reads as 8-bit sRGB: modes, depths, transparency and colour profiles."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms, JpegImagePlugin

from stkit.photo.aside import is_large, put_aside


def to_rgb(image: Image.Image, full: float | None = None) -> Image.Image:
    """8-bit sRGB without metadata, which would otherwise follow the picture into saved files.

    Of a part of a picture of 16 bits or more, `full` is the whole one's `full_scale`. A large `image` is closed, or
    becomes the result.
    """
    return _large_to_rgb(image, full) if is_large(image) else _to_rgb(image, full)


def _to_rgb(image: Image.Image, full: float | None) -> Image.Image:
    original, profile = image, image.info.get("icc_profile")
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8bit(image, full or full_scale(image))
    if image.has_transparency_data:
        layer, image = image, Image.new("RGB", image.size, (255, 255, 255))
        for box in _bands(layer):
            part = layer.crop(box).convert("RGBA")
            image.paste(part, box, mask=part.getchannel("A"))
        del layer
    if profile and image.mode in ("L", "RGB", "CMYK"):
        image = _to_srgb(image, profile)
    if image is original and isinstance(image, JpegImagePlugin.JpegImageFile) and image.mode == "RGB":
        image.load()
        image = image._new(image.im)  # the same pixels: of the largest photos there is no room for two
    elif image is original or image.mode != "RGB":
        image = image.convert("RGB")
    image.info = {}
    return image


def _large_to_rgb(image: Image.Image, full: float | None) -> Image.Image:
    """`to_rgb` by bands, without room for another picture of that size."""
    if image.mode == "F" or image.mode.startswith("I"):
        full = full or full_scale(image)
    bands = list(_bands(image))
    parts: Iterator[tuple[tuple[int, int, int, int], Image.Image]]
    if image.mode == "RGB" and not image.has_transparency_data:
        image.load()
        result, profile = image._new(image.im), image.info.get("icc_profile")
        if not profile or is_srgb(profile):
            bands = []
        parts = ((box, image.crop(box)) for box in bands)
    else:
        parts = put_aside(image, bands)
        size = image.size
        image.close()
        result = Image.new("RGB", size)
    for box, part in parts:
        result.paste(_to_rgb(part, full), box)
    result.info = {}
    return result


def _bands(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of some rows each: what is made of large photos takes memory for a band alone."""
    for top in range(0, image.height, 256):
        yield 0, top, image.width, min(top + 256, image.height)


def _to_8bit(image: Image.Image, full: float) -> Image.Image:
    result = Image.new("L", image.size)
    for box in _bands(image):
        values = _finite(np.asarray(image.crop(box)))
        result.paste(Image.fromarray(np.rint(np.clip(values / full, 0, 1) * 255).astype(np.uint8)), box)
    return result


def full_scale(image: Image.Image) -> float:
    """The value that stands for white in a 16-bit, 32-bit or float image."""
    high, kind = -math.inf, "u"
    for box in _bands(image):
        values = np.asarray(image.crop(box))
        high, kind = max(high, float(_finite(values).max())), values.dtype.kind
    if kind == "f":
        # Resampling overshoots: a little above a full scale still belongs to it.
        return next((full for full in (1.0, 255.0, 65535.0) if high <= 2 * full), high)
    return max(65535.0, high)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        if image.mode == "RGB" and is_srgb(profile):
            return image
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError):  # a broken profile, or one of another colour space: as if there were none
        return image


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile of RGB is that of sRGB by its name; False for a broken one."""
    try:
        return "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError):
        return False


__all__ = ["full_scale", "is_srgb", "to_rgb"]
