"""By their suffix files are photos, or videos."""

from __future__ import annotations

_IMAGES = (
    "avif bmp dib gif heic heif hif j2k jfif jp2 jpe jpeg jpg pbm pcx pgm png pnm ppm psd tga tif tiff webp"  # Pillow's
)
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _IMAGES.split())
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES"]
