"""Large pictures become the same, byte for byte, without room for two of them."""

from __future__ import annotations

import errno
import gc
import hashlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stkit.photo import aside, reading
from stkit.photo.colour import to_rgb
from stkit.photo.paste import difference
from stkit.photo.reading import UPRIGHT, load_photo
from stkit.photo.writeback import encode_change
from tests.photo.test_writeback import scene, swapped_profile

MODES = ["RGB", "RGBA", "LA", "L", "P", "1", "PA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F", "RGBa", "RGBX"]


def of_mode(mode: str) -> Image.Image:
    picture = scene(150, 270)
    if mode == "LAB":
        return Image.frombytes("LAB", picture.size, picture.tobytes())
    if mode in ("RGBA", "LA", "PA", "RGBa"):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        return picture.convert("LA").convert("PA") if mode == "PA" else picture.convert(mode.upper()).convert(mode)
    if mode in ("I", "I;16", "F"):
        values = np.asarray(picture.convert("L"), float) * (1 / 255 if mode == "F" else 230)
        return Image.fromarray(values.astype({"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode]))
    return picture.convert(mode)


@pytest.mark.parametrize("profile", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_large_picture_becomes_the_same_rgb(mode: str, profile: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = of_mode(mode)
    if profile:
        picture.info["icc_profile"] = swapped_profile()
    right = to_rgb(picture.copy())
    monkeypatch.setattr(aside, "LARGE", 1000)
    found = to_rgb(picture.copy())
    assert found.mode == "RGB"
    assert found.info == {}
    assert found.tobytes() == right.tobytes()


@pytest.mark.parametrize("turn", [*UPRIGHT.values()])
def test_a_large_picture_is_turned_and_gone(turn: Image.Transpose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "LARGE", 1000)
    monkeypatch.setattr(aside, "_TILE", 64)
    picture = scene(150, 97)
    right = picture.transpose(turn)
    assert aside.turned(picture, turn).tobytes() == right.tobytes()
    found = aside.turned(picture, turn, spend=True)
    assert (found.size, found.tobytes()) == (right.size, right.tobytes())
    with pytest.raises(ValueError, match="closed"):
        picture.load()


def test_parts_put_aside_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "LARGE", 1000)
    picture, boxes = scene(), [(3, 4, 20, 9), (0, 0, 64, 48)]
    right = [picture.crop(box) for box in boxes]
    parts = aside.put_aside(picture, boxes)
    picture.paste((0, 0, 0), (0, 0, 64, 48))
    assert [(box, part.tobytes()) for box, part in parts] == [
        (box, part.tobytes()) for box, part in zip(boxes, right, strict=True)
    ]


def test_without_room_on_disk_parts_wait_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> object:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(aside, "LARGE", 1000)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    picture = scene()
    right = picture.transpose(Image.Transpose.ROTATE_90)
    assert aside.turned(picture, Image.Transpose.ROTATE_90, spend=True).tobytes() == right.tobytes()


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *[(mode, f"a{suffix}") for mode in ("RGB", "L") for suffix in (".jpg", ".png", ".tif", ".webp")],
        *[(mode, "a.png") for mode in ("RGBA", "LA", "P", "I;16", "1")],
        *[(mode, "a.tif") for mode in ("RGBA", "CMYK", "I;16", "F", "I", "LAB")],
        ("CMYK", "a.jpg"),
        ("RGBA", "a.webp"),
    ],
)
def test_an_edit_of_a_large_photo_is_the_same_file(
    tmp_path: Path, mode: str, name: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, exif = of_mode(mode), Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / name
    more: dict[str, object] = {"icc_profile": swapped_profile()} if mode == "RGB" and name == "a.png" else {}
    more |= {"compression": "tiff_lzw"} if mode in ("RGBA", "F", "I;16") and name == "a.tif" else {}
    picture.save(path, exif=exif, **more)  # type: ignore[arg-type]
    pixels, files = [], []
    for most in (10**9, 0):
        monkeypatch.setattr(aside, "LARGE", most)
        monkeypatch.setattr(reading, "LARGE_FILE", most)
        photo = load_photo(path)
        assert isinstance(photo.data, bytes) is bool(most)
        assert photo.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        pixels.append(photo.image.tobytes())
        before = photo.image.copy()
        photo.image.paste((200, 30, 60), (5, 8, 70, 90))
        files.append(encode_change(photo.image, difference(before, photo.image), photo, path, spend=True))
        gc.collect()  # a file that nobody closes is a warning
    assert pixels[0] == pixels[1]
    if "compression" in more:  # libtiff pads with a byte of whatever lies in memory
        small, large = (Image.open(io.BytesIO(file)) for file in files)
        assert small.tobytes() == large.tobytes()
        assert (small.mode, small.info, len(files[0])) == (large.mode, large.info, len(files[1]))
    else:
        assert files[0] == files[1]
