"""Large pictures turned and converted without two of them in memory: parts of the one wait in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from PIL import Image

Box = tuple[int, int, int, int]

LARGE = 50_000_000
"""Pixels of a picture of which another copy is too much."""

_TILE = 1024
_SMALL = ("1", "P", "L", "PA")  # of a byte a pixel, or with a palette


def is_large(image: Image.Image) -> bool:
    """Whether there should be no two pictures of that size."""
    return image.width * image.height > LARGE


def put_aside(image: Image.Image, boxes: Iterable[Box]) -> Iterator[tuple[Box, Image.Image]]:
    """Copies of the parts of `image` in `boxes`, as they are now; a large one's wait on disk if there is room.

    `image` may be changed or closed before the first is asked for.
    """
    boxes = list(boxes)
    if is_large(image) and image.mode not in _SMALL:
        try:
            return _waiting(_written(image, boxes), boxes, image.mode, dict(image.info))
        except OSError:  # a full disk, or no place for temporary files
            pass
    return iter([(box, image.crop(box)) for box in boxes])


def _written(image: Image.Image, boxes: Iterable[Box]) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by who reads it
    try:
        for box in boxes:
            file.write(image.crop(box).tobytes())
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _waiting(file: IO[bytes], boxes: Iterable[Box], mode: str, info: dict) -> Iterator[tuple[Box, Image.Image]]:
    each = len(Image.new(mode, (1, 1)).tobytes())
    with file:
        for box in boxes:
            size = (box[2] - box[0], box[3] - box[1])
            part = Image.frombytes(mode, size, file.read(each * size[0] * size[1]))
            part.info = dict(info)
            yield box, part


def turned(image: Image.Image, turn: Image.Transpose, spend: bool = False) -> Image.Image:
    """`image.transpose(turn)`; with `spend` a large `image` is closed before there is another."""
    if not spend or not is_large(image):
        return image.transpose(turn)
    size, mode, info = image.size, image.mode, dict(image.info)
    tiles = [
        (left, top, min(left + _TILE, size[0]), min(top + _TILE, size[1]))
        for top in range(0, size[1], _TILE)
        for left in range(0, size[0], _TILE)
    ]
    waiting = put_aside(image, tiles)
    image.close()
    result = Image.new(mode, turned_box((0, 0, *size), size, turn)[2:])
    for box, tile in waiting:
        result.paste(tile.transpose(turn), turned_box(box, size, turn)[:2])
    result.info = info
    return result


def turned_box(box: Box, size: tuple[int, int], turn: Image.Transpose) -> Box:
    """Where `turn` takes `box` of a picture of `size`."""
    (width, height), (left, top, right, bottom) = size, box
    T = Image.Transpose
    if turn in (T.TRANSPOSE, T.TRANSVERSE, T.ROTATE_90, T.ROTATE_270):
        width, height, left, top, right, bottom = height, width, top, left, bottom, right
    if turn in (T.FLIP_LEFT_RIGHT, T.ROTATE_180, T.TRANSVERSE, T.ROTATE_270):
        left, right = width - right, width - left
    if turn in (T.FLIP_TOP_BOTTOM, T.ROTATE_180, T.TRANSVERSE, T.ROTATE_90):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom


__all__ = ["LARGE", "is_large", "put_aside", "turned", "turned_box"]
