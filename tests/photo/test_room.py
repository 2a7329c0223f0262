"""Photos announce how much memory they take: large ones one after another, small ones at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from stkit.photo import room
from stkit.photo.reading import load_photo
from stkit.weights import Weights
from tests.bombs import measured

LARGEST = (12600, 12600)


@pytest.mark.parametrize(("share", "at_once"), [(2.0, 1), (0.6, 1), (0.4, 2), (0.15, 6)])
def test_threads_share_the_room(share: float, at_once: int) -> None:
    amount, inside, counts = int(share * room.ROOM), 0, []
    lock, together = threading.Lock(), threading.Barrier(at_once)

    def one(_: int) -> None:
        nonlocal inside
        with room.turn():
            room.take(amount)
            with lock:
                inside += 1
                counts.append(inside)
            together.wait(timeout=60)
            time.sleep(0.02)
            with room.turn():
                room.take(amount)  # more in the same turn, however full it is
            with lock:
                inside -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(6)))
    assert max(counts) == at_once


def test_what_a_photo_needs_is_given_back(portrait: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ROOM", 1)
    for _ in range(3):
        load_photo(portrait)
    (broken := portrait.with_name("broken.jpg")).write_bytes(portrait.read_bytes()[:5000])
    with pytest.raises(Exception, match="damaged or cut short"):
        load_photo(broken)
    load_photo(portrait)
    assert room._room.taken == 0


@pytest.mark.slow
def test_a_folder_of_large_photos_takes_no_more_than_one(tmp_path: Path, portrait: Path, tiny_weights: Weights) -> None:
    (photos := tmp_path / "photos").mkdir()
    with Image.open(portrait) as image:
        image.convert("RGB").resize((10500, 10500)).save(photos / "0.jpg")
    for number in range(1, 6):
        shutil.copy(photos / "0.jpg", photos / f"{number}.jpg")
    require_small("invert", photos, "--weights", tiny_weights.folder, "--out", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--face", "all"), ("--sweep", "-2:2:5")])
def test_an_edit_of_a_large_photo_takes_no_copies_of_it(
    tmp_path: Path, portrait: Path, equipped_weights: Weights, options: Sequence[str]
) -> None:
    (turned := Image.Exif())[0x0112] = 6
    with Image.open(portrait) as image:
        lying = image.convert("RGB").resize((10500, 10500)).transpose(Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "a.jpg", exif=turned)
    command = ["edit", tmp_path / "a.jpg", "--edit", "sefa:eig1=2", "--weights", equipped_weights.folder]
    require_small(*command, "--out", tmp_path / "out", *options)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "name"), [("RGBA", "a.tif"), ("F", "a.tif"), ("RGB", "a.bmp")])
def test_an_edit_of_the_largest_files_holds_no_bytes_of_them(
    tmp_path: Path, portrait: Path, equipped_weights: Weights, mode: str, name: str
) -> None:
    with Image.open(portrait) as image:
        large = image.convert("L" if mode == "F" else mode).resize(LARGEST)
    large.convert(mode).save(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 4e8
    command = ["edit", tmp_path / name, "--edit", "sefa:eig1=2", "--weights", equipped_weights.folder]
    require_small(*command, "--out", tmp_path / "out")


def require_small(*command: object) -> None:
    """Run a command of stkit, which must not take more than 1.5 GB."""
    # What the kernel tells of a child counts its parent's memory too, from which it was forked.
    code = (
        "import sys, stkit.cli\n"
        "try: stkit.cli.main()\n"
        "finally: print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kib = int(done.stderr.split()[-1])
    assert kib < 1.5e6, f"{kib / 1e6:.2f} GB"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "colour", "suffix"),
    [("F", 0.5, "tif"), ("I;16", 5000, "png"), ("LA", (9, 99), "png"), ("RGBA", (9, 9, 9, 9), "png")],
)
def test_the_largest_photos_take_less_than_a_gigabyte_and_a_half(
    tmp_path: Path, mode: str, colour: object, suffix: str
) -> None:
    path, turned = tmp_path / f"large.{suffix}", Image.Exif()
    turned[0x0112] = 6
    options = {"compression": "tiff_lzw"} if suffix == "tif" else {"exif": turned}
    Image.new(mode, LARGEST, colour).save(path, **options)  # type: ignore[arg-type]  # colours of many kinds
    (took,) = measured("stkit:load_photo", [path]).values()
    assert not took["error"] and took["MB"] < 1.5e3, took
