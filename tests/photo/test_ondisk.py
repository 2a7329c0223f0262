"""The bytes of a large file stay on disk, and give what they give in memory."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from stkit.errors import PhotoError
from stkit.photo import ondisk, reading
from stkit.photo.ondisk import OnDisk
from stkit.photo.reading import load_photo
from stkit.photo.writeback import encode_photo, photo_suffix, save_photo
from tests.photo.test_metadata import MP4
from tests.photo.test_writeback import scene, with_a_spot


@pytest.fixture(autouse=True)
def _every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGE_FILE", 0)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.avif", "a.bmp", "a.jp2"])
def test_unedited_photos_keep_every_byte(tmp_path: Path, name: str) -> None:
    scene().save(tmp_path / name)
    photo = load_photo(tmp_path / name)
    assert isinstance(photo.data, OnDisk) and photo_suffix(photo) == Path(name).suffix
    save_photo(photo.image, photo, tmp_path / f"out{Path(name).suffix}")
    assert (tmp_path / f"out{Path(name).suffix}").read_bytes() == (tmp_path / name).read_bytes()


def test_what_lies_behind_the_picture_is_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene().save(path := tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + MP4)
    photo = load_photo(path)
    with caplog.at_level(logging.INFO, "stkit"):
        data = encode_photo(with_a_spot(photo), photo, tmp_path / "out.jpg")
    assert MP4 not in data and "a motion photo's video" in caplog.text


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"%PDF-1.7 more", b"PK\x03\x04"])
def test_no_pictures(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(PhotoError, match=r"is empty|is not an image|is no image"):
        load_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_a_file_that_is_another_meanwhile(tmp_path: Path, suffix: str) -> None:
    scene().save(path := tmp_path / f"a{suffix}")
    photo = load_photo(path)
    edited, now = with_a_spot(photo), path.stat()
    os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns + 10**9))
    with pytest.raises(PhotoError, match="changed while it was read; start again"):
        encode_photo(edited, photo, tmp_path / f"out{suffix}")
    path.unlink()
    with pytest.raises(PhotoError, match="cannot be read any more"):
        encode_photo(edited, photo, tmp_path / f"out{suffix}")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene().save(path := tmp_path / "a.tif")

    def denied(self: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(PhotoError, match=r"no permission to read .*a\.tif; allow it with chmod \+r"):
        load_photo(path)


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene().save(path := tmp_path / "a.tif")

    def broken(file: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(ondisk, "sha256_of", broken)
    with pytest.raises(PhotoError, match=r"a\.tif cannot be read any more: Input/output error; start again"):
        load_photo(path)
