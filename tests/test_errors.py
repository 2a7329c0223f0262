"""Reasons are for people: without names and addresses of Python objects, the same on every run."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from stkit.contracts.domains import Domain
from stkit.datasets.images import load_image_set
from stkit.datasets.prepare import prepare_photos
from stkit.errors import reason_of
from stkit.plugins import load_plugins


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (UnidentifiedImageError(f"cannot identify image file {io.BytesIO()!r}"), "cannot identify image"),
        (
            ValueError(
                "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; "
                "use sys.set_int_max_str_digits() to increase the limit"
            ),
            "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits",
        ),
        (
            ValueError("Header is large and may not be safe. To allow loading, adjust it\nor fully trust the file"),
            "Header is large and may not be safe",
        ),
        (OSError(28, "No space left on device", "/x/y.png"), "No space left on device"),
        (ValueError("two\n lines"), "two lines"),
        (TypeError(f"bad operand <object {object()!r}>".replace(">>", ">")), "bad operand <object"),
        (RuntimeError(), "RuntimeError"),
        (
            RuntimeError("CppCompileError: " + "void kernel() {}\n" * 10_000),
            "CppCompileError:" + 22 * " void kernel() {}" + " void kern ...",
        ),
        (ValueError("a < b, and b > c"), "a < b, and b > c"),
        (RuntimeError(f"File {zipfile.ZipInfo('w.npy')!r} is encrypted"), "File is encrypted"),
        (TypeError(f"cannot convert {np.float32!r} to a number"), "cannot convert to a number"),
    ],
)
def test_reasons(error: Exception, says: str) -> None:
    assert reason_of(error) == says


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, and files that are none in as many ways."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        Image.new("RGB", (40, 40), (40 * number, 90, 9)).save(photos / f"ok{number}.png")
    whole = (photos / "ok0.png").read_bytes()
    broken = {"empty.png": b"", "text.jpg": b"hello", "start.jpg": b"\xff\xd8\xff\xe0broken", "cut.png": whole[:60],
              "gif.gif": b"GIF89a", "webp.webp": b"RIFF\x00\x00\x00\x00WEBP", "tiff.tif": b"II*\x00\x08\x00",
              "heic.heic": b"\x00\x00\x00\x18ftypheic", "bmp.bmp": b"BM1234"}  # fmt: skip
    for name, data in broken.items():
        (photos / name).write_bytes(data)
    return photos


def plain() -> Domain:
    return load_plugins().domain("plain")


def test_left_out_photos_say_why_in_words(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prepared = prepare_photos(folder, plain(), 32, tmp_path / "aligned")
    assert prepared.count == 2 and len(prepared.skipped) == 9
    again = prepare_photos(folder, plain(), 32, tmp_path / "again")
    assert again.skipped == prepared.skipped
    for name, reason in prepared.skipped.items():
        assert " at 0x" not in reason and "<" not in reason and not reason.startswith(name), reason
    assert prepared.skipped["empty.png"].startswith("is empty (zero bytes)")
    assert "not an image" in prepared.skipped["text.jpg"]
    assert len(load_image_set(folder, 32).broken) == 9
    assert " at 0x" not in caplog.text and "is empty (zero bytes)" in caplog.text


def test_damaged_members_of_archives(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            file.write(path, path.name)
    data = bytearray(archive.read_bytes())
    place = data.index(b"text.jpg") + len("text.jpg")
    data[place : place + 4] = b"\xff\xff\xff\xff"
    archive.write_bytes(bytes(data))
    assert prepare_photos(archive, plain(), 32, tmp_path / "aligned").count == 2
    load_image_set(archive, 32)
    assert "skipped text.jpg: is damaged" in caplog.text
