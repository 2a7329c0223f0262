"""Folders, patterns and ZIP archives become lists of photos with names of their own."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from stkit.errors import PhotoError, UsageError
from stkit.files import LOCK
from stkit.jobs.sources import Listing, is_batch, list_photos
from stkit.photo.archives import split_zip
from stkit.photo.reading import load_photo


def touch(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def listed(*sources: str, out: str = "out") -> Listing:
    return list_photos(sources, Path(out))


def names(*sources: str, out: str = "out") -> list[str]:
    return [str(item.name) for item in listed(*sources, out=out).items]


def test_clashing_names_are_told_apart() -> None:
    touch("p/a/x.jpg", "p/b/x.jpg", "p/c/x.jpg", "p/c/x.png", "p/d/y.JPG", "p/d/Y.png")
    assert names("p") == ["a/x", "b/x", "c/x.jpg", "c/x.png", "d/Y.png", "d/y.JPG"]


def test_a_photo_that_is_called_like_results_of_another_one_is_told_apart() -> None:
    others = ["p/a/a.json.jpg", "p/a/A.crop.png.jpg", "p/a/a.latents.safetensors/x.jpg", "p/a/ab.jpg", "p/c/c.json.jpg"]
    touch("p/a.jpg", *others)
    items = listed("p").items
    results = {str(item.base(Path("out"))).lower() + end for item in items for end in ("", ".json", ".crop.png")}
    results |= {str(item.base(Path("out"))).lower() + ".latents.safetensors" for item in items}
    folders = {str(folder).lower() for item in items for folder in item.base(Path("out")).parents}
    assert not results & folders
    assert {"a", "a/ab", "c/c.json"} < set(map(str, (item.name for item in items)))  # of these none is in the way


def test_the_same_name_from_two_folders_gets_a_hash_that_stays() -> None:
    touch("p/x.jpg", "q/x.jpg", "q/z.jpg")
    first = names("p", "q")
    assert len(set(first)) == 3 and "z" in first
    assert sum(re.fullmatch(r"x~[0-9a-f]{16}\.jpg", name) is not None for name in first) == 2
    assert names("q", "p") == first


def test_hidden_and_other_files_are_counted_not_taken() -> None:
    touch("p/x.jpg", "p/.x.jpg", "p/.cache/y.jpg", "p/notes.txt", "p/clip.mp4", "p/noend")
    listing = listed("p")
    assert [str(item.path) for item in listing.items] == ["p/x.jpg"]
    assert listing.ignored == 5


def test_results_are_no_photos() -> None:
    touch("p/x.jpg", "p/out/x/x.crop.png", "p/old/x/x.crop.png", f"p/old/{LOCK}")
    assert names("p", out="p/out") == ["x"]
    assert names("p/**/*.png", "p/x.jpg", out="p/out") == ["x"]
    with pytest.raises(UsageError, match="--out is the folder of the photos"):
        listed("p", out="p")


def test_a_folder_of_results_says_how_to_name_its_latents() -> None:
    touch("old/x/x.crop.png", "old/x/x.latents.safetensors", f"old/{LOCK}", "empty/notes.txt")
    with pytest.raises(PhotoError, match="for the latents of earlier results 'old/\\*\\*/\\*.latents.safetensors'$"):
        listed("old")
    with pytest.raises(PhotoError, match="name a folder that holds photos$"):
        listed("empty")
    touch("codes/codes-00000.latents.parquet")
    for source in ("codes", "codes/*.parquet"):
        with pytest.raises(PhotoError, match="for the latents of earlier results 'codes/\\*.latents.parquet'$"):
            listed(source)


def test_links_are_followed_once() -> None:
    touch("p/sub/x.jpg", "elsewhere/y.jpg")
    os.symlink("..", "p/sub/loop")
    os.symlink("../elsewhere", "p/away")
    os.symlink("nowhere.jpg", "p/broken.jpg")
    assert names("p") == ["away/y", "broken", "sub/x"]


def test_an_unreadable_subfolder_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("p/x.jpg", "p/locked/y.jpg")
    scandir = os.scandir

    def refuse(path: str) -> object:  # tests may run as root, whom permissions do not stop
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = listed("p")
    assert [str(item.name) for item in listing.items] == ["x"]
    [(path, reason)] = listing.problems
    assert path == "p/locked" and "Permission denied" in reason


def test_patterns_keep_the_folders_below_them() -> None:
    touch("p/a/x.jpg", "p/b/x.jpg", "p/b/deep/z.png", "p/b/note.txt")
    assert names("p/*/x.jpg") == ["a/x", "b/x"]
    assert names("p/*") == ["a/x", "b/deep/z", "b/x"]
    assert names("p/**/*.png") == ["b/deep/z"]
    with pytest.raises(UsageError, match="nothing matches"):
        listed("p/*.webp")


def test_a_pattern_may_lie_below_the_results_folder() -> None:
    touch("p/x.jpg", LOCK, f"p/{LOCK}", "p/old/y.jpg", f"p/old/{LOCK}")
    for out in (".", "p", "elsewhere"):
        assert names("p/*.jpg", out=out) == ["x"]
        assert names(f"{Path.cwd()}/p/**/*.jpg", out=out) == ["x"]


def test_what_counts_as_many() -> None:
    touch("p/x.jpg", "p/x[1].jpg")
    assert not is_batch(["p/x.jpg"]) and not is_batch(["p/x[1].jpg"]) and not is_batch(["missing.jpg"])
    assert is_batch(["p"]) and is_batch(["p/*.jpg"]) and is_batch(["p/x.jpg", "p/y.jpg"]) and is_batch(["album.zip"])


def test_missing_files_among_others_are_problems_and_alone_an_error() -> None:
    touch("p/x.jpg", "p/note.txt", "q/note.txt")
    assert listed("p/x.jpg", "gone.jpg").problems[0][0] == "gone.jpg"
    with pytest.raises(PhotoError, match=r"gone\.zip"):
        listed("gone.zip")
    with pytest.raises(PhotoError, match="1 other files were left aside"):
        listed("q")


def make_zip(path: str) -> None:
    Image.new("RGB", (8, 8), "red").save("red.png")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write("red.png", "trip/red.png")
        archive.write("red.png", "../../evil.png")
        archive.write("red.png", "win\\dows.png")
        archive.write("red.png", "__MACOSX/trip/._red.png")
        archive.writestr("trip/bad.png", b"no image")
        archive.writestr("notes.txt", b"hello")


def test_photos_in_archives() -> None:
    make_zip("album.zip")
    listing = listed("album.zip")
    assert [str(item.name) for item in listing.items] == ["evil", "trip/bad", "trip/red", "win/dows"]
    assert listing.ignored == 2
    for item in listing.items:
        if item.path.name != "bad.png":
            assert load_photo(item.path).image.getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(PhotoError, match=r"bad\.png is not an image"):
        load_photo("album.zip/trip/bad.png")
    with pytest.raises(PhotoError, match=r"no file trip/none\.png in album\.zip"):
        load_photo("album.zip/trip/none.png")
    assert split_zip(Path("p/red.png")) is None


def test_damaged_archives() -> None:
    make_zip("album.zip")
    data = bytearray(Path("album.zip").read_bytes())
    at = data.index(b"IDAT") + 6
    data[at] ^= 255
    Path("flipped.zip").write_bytes(data)
    with pytest.raises(PhotoError, match=r"flipped\.zip.*is damaged"):
        load_photo("flipped.zip/trip/red.png")
    Path("text.zip").write_text("no archive")
    with pytest.raises(PhotoError, match=r"text\.zip as a ZIP archive"):
        listed("text.zip")
    assert [path for path, _ in listed("text.zip", "red.png").problems] == ["text.zip"]


def test_a_name_twice_in_an_archive_is_told() -> None:
    with zipfile.ZipFile("twice.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x.png", b"1")
        archive.writestr("x.png", b"2")
    listing = listed("twice.zip")
    assert len(listing.items) == 1
    assert listing.problems[0][0] == "twice.zip/x.png"


def test_a_name_with_a_hash_in_it_is_not_taken_for_one_that_stkit_made() -> None:
    touch("p/x.jpg", "q/x.jpg")
    (made, _) = names("p", "q")
    touch(f"p/{made}")
    assert len(set(names("p", "q"))) == 3


def test_members_that_lead_to_one_place_are_told_apart() -> None:
    with zipfile.ZipFile("album.zip", "w") as archive:
        for number, name in enumerate(["a/x.png", "../a/x.png", "/a/./x.png", "a\\x.png"]):
            Image.new("RGB", (8, 8), (number, 0, 0)).save("x.png")
            archive.writestr(name, Path("x.png").read_bytes())
    listing = listed("album.zip")
    assert not listing.problems
    assert len({item.name for item in listing.items}) == 4
    assert {load_photo(item.path).image.getpixel((0, 0)) for item in listing.items} == {(n, 0, 0) for n in range(4)}
    taken = next(str(item.path) for item in listing.items if "~" in str(item.path)).removeprefix("album.zip/")
    with zipfile.ZipFile("album.zip", "a") as archive:
        archive.writestr(taken, b"")
    assert len(listed("album.zip").items) == 5


def test_several_videos_are_named_as_such() -> None:
    touch("a.mp4", "b.MOV")
    with pytest.raises(UsageError, match="videos are edited one at a time; name one alone"):
        listed("a.mp4", "b.MOV")


def test_a_video_that_is_read_as_a_photo_is_called_a_video() -> None:
    Path("a.webm").write_bytes(b"\x1a\x45\xdf\xa3 and so on")
    with pytest.raises(PhotoError, match=r"a\.webm is a video or damaged; `stkit edit` edits videos"):
        load_photo("a.webm")
