from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stkit_cars import CarsDomain
from stkit_faces import FacesDomain
from stkit_plain import PlainDomain

from stkit.datasets.images import load_train_val
from stkit.datasets.prepare import prepare_photos
from stkit.errors import StkitError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Usable pictures of all kinds in two folders, and one that is broken."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, mode, size in (
        ("a.png", "RGB", (60, 40)),
        ("b.png", "L", (32, 32)),
        ("c.png", "RGBA", (20, 50)),
        ("more/a.jpg", "RGB", (300, 200)),
    ):
        Image.fromarray(random.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).convert(mode).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"not a photo")
    (folder / "._a.png").write_bytes(b"what macOS adds")
    return folder


def sizes(folder: Path) -> set[tuple[int, int]]:
    found = set()
    for path in folder.iterdir():
        with Image.open(path) as image:
            found.add(image.size)
    return found


def test_photos_become_pictures_and_broken_ones_are_named(photos: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out"
    prepared = prepare_photos(photos, PlainDomain(), 16, out, lambda done, total: seen.append((done, total)))
    assert prepared.count == 4 and list(prepared.skipped) == ["broken.jpg"]
    assert "cannot be read" in prepared.skipped["broken.jpg"]
    assert sorted(path.name for path in out.iterdir()) == ["a.png.png", "b.png.png", "c.png.png", "more__a.jpg.png"]
    assert sizes(out) == {(16, 16)}
    assert seen[-1] == (5, 5)
    stamp = (out / "a.png.png").stat().st_mtime_ns
    assert prepare_photos(photos, PlainDomain(), 16, out).count == 4
    assert (out / "a.png.png").stat().st_mtime_ns == stamp  # kept, not made again


def test_pictures_of_photos_that_are_gone_go_too(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_photos(photos, PlainDomain(), 16, out)
    (photos / "b.png").unlink()
    assert prepare_photos(photos, PlainDomain(), 16, out).count == 3
    assert sorted(path.name for path in out.iterdir()) == ["a.png.png", "c.png.png", "more__a.jpg.png"]


def test_a_zip_gives_the_same_and_cars_become_wide(photos: Path, tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(photos.rglob("*.*")):
            file.write(path, f"../{path.relative_to(photos)}")
    out = tmp_path / "out"
    assert prepare_photos(archive, CarsDomain(), 32, out).count == 4
    assert all(path.parent == out for path in tmp_path.rglob("*.png.png"))
    assert sizes(out) == {(32, 18)}


def test_splits_go_with_the_pictures_and_missing_files_are_counted(photos: Path, tmp_path: Path) -> None:
    photos.with_suffix(".csv").write_text("file,split\na.png,train\nb.png,val\nc.png,train\ngone.png,train\n")
    prepared = prepare_photos(photos, PlainDomain(), 16, tmp_path / "out")
    assert prepared.unmatched == ("gone.png",)
    train, val = load_train_val(prepared.folder, 16)
    assert (train.names, val.names) == (("a.png.png", "c.png.png"), ("b.png.png",))


def test_photos_without_a_subject_are_left_out(tmp_path: Path, portrait: Path) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    portrait.rename(folder / "grace.jpg")
    Image.new("RGB", (200, 200), (90, 90, 90)).save(folder / "wall.png")
    prepared = prepare_photos(folder, FacesDomain(), 64, tmp_path / "out")
    assert (prepared.count, prepared.skipped) == (1, {"wall.png": "no face found"})
    with Image.open(tmp_path / "out" / "grace.jpg.png") as crop:
        assert crop.size == (64, 64) and len(crop.getcolors(1 << 16) or []) > 500


def test_nothing_usable_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StkitError, match="no photos at"):
        prepare_photos(tmp_path / "nowhere", PlainDomain(), 16, tmp_path / "out")
    (tmp_path / "bad").mkdir()
    with pytest.raises(StkitError, match="no usable photos in .*bad; give a folder"):
        prepare_photos(tmp_path / "bad", PlainDomain(), 16, tmp_path / "out")
    (tmp_path / "bad" / "x.png").write_bytes(b"x")
    with pytest.raises(StkitError, match="no usable photos in .*bad; x.png: cannot be read") as caught:
        prepare_photos(tmp_path / "bad", PlainDomain(), 16, tmp_path / "out")
    assert "\n" not in str(caught.value)
