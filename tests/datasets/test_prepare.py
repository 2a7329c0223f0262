from __future__ import annotations

import hashlib
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


IN_A_FOLDER = f"more__a~{hashlib.sha256(b'more/a.jpg').hexdigest()[:16]}.jpg.png"


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
    assert "is not an image" in prepared.skipped["broken.jpg"]
    assert sorted(path.name for path in out.iterdir()) == ["a.png.png", "b.png.png", "c.png.png", IN_A_FOLDER]
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
    assert sorted(path.name for path in out.iterdir()) == ["a.png.png", "c.png.png", IN_A_FOLDER]


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
    with pytest.raises(StkitError, match="no usable photos in .*bad; x.png: is not an image") as caught:
        prepare_photos(tmp_path / "bad", PlainDomain(), 16, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_no_photo_takes_the_place_of_another(tmp_path: Path) -> None:
    names = ["a/b.png", "a__b.png", "A__B.png", "a\\b.png", "../a/b.png", "/a/b.png", "a/b__c.png", "a__b/c.png"]
    names += [
        "con.png",
        ".." + "x" * 300 + ".png",
        "x" * 300 + "1.png",
        "x" * 300 + "2.png",
        "caf\u00e9.png",
        "cafe\u0301.png",
    ]
    archive, out = tmp_path / "collide.zip", tmp_path / "work" / "out"

    def write(chosen: list[str]) -> None:
        with zipfile.ZipFile(archive, "w") as file:
            for name in chosen:
                image = Image.new("RGB", (16, 16), (10 * names.index(name), 0, 0))
                image.save(tmp_path / "one.png")
                file.writestr(name, (tmp_path / "one.png").read_bytes())

    def reds(folder: Path) -> set[int]:
        found = set()
        for path in folder.iterdir():
            with Image.open(path) as image:
                found.add(image.getpixel((0, 0))[0])  # type: ignore[index]
        return found

    shown = [name for name in names if not name.startswith("..x")]  # hidden
    write(names)
    archive.with_suffix(".csv").write_text(
        "file,split\n" + "".join(f"{name},train\n" for name in shown), encoding="utf-8"
    )
    assert prepare_photos(archive, PlainDomain(), 16, out).count == len(shown)
    assert reds(out) == {10 * names.index(name) for name in shown}
    pictures = sorted(path.name for path in out.iterdir())
    assert len({name.casefold() for name in pictures}) == len(shown) and max(map(len, pictures)) < 120
    assert pictures == sorted(line.split(",")[0] for line in (tmp_path / "work/out.csv").read_text().splitlines()[1:])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["collide.csv", "collide.zip", "one.png", "work"]

    write(["a/b.png"])  # the picture of one photo is not kept for another one
    prepare_photos(archive, PlainDomain(), 16, out)
    write(["a__b.png"])
    prepare_photos(archive, PlainDomain(), 16, out)
    assert reds(out) == {10}


def test_a_name_twice_in_a_zip_is_one_photo_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "x.png")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            file.writestr("x.png", (tmp_path / "x.png").read_bytes())
    assert prepare_photos(tmp_path / "twice.zip", PlainDomain(), 16, tmp_path / "out").count == 1
    assert "x.png is in" in caplog.text and "more than once" in caplog.text
