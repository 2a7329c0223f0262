from __future__ import annotations

import hashlib
import importlib.util
import io
import logging
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from stkit.errors import PhotoError, UsageError
from stkit.photo.images import save_image
from stkit.photo.reading import load_photo


def portrait() -> Path:
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"


def encoded(image: Image.Image, format: str, **parameters: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=format, **parameters)
    return stream.getvalue()


def raw_png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand: what Pillow would not write, or not without the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def load_bytes(folder: Path, content: bytes, name: str = "photo") -> Image.Image:
    (folder / name).write_bytes(content)
    return load_photo(folder / name).image


def noise(size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def assert_pixel(image: Image.Image, place: tuple[int, int], colour: tuple[int, int, int], within: int = 1) -> None:
    assert image.mode == "RGB"
    found = image.getpixel(place)
    assert isinstance(found, tuple)
    assert np.abs(np.subtract(found, colour)).max() <= within, found


def test_a_real_photo() -> None:
    photo = load_photo(str(portrait()))
    assert photo.image.mode == "RGB"
    assert photo.image.size == (512, 600)
    assert photo.path == portrait()
    assert photo.sha256 == hashlib.sha256(portrait().read_bytes()).hexdigest()
    assert photo.image.info == {}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(tmp_path: Path, orientation: int, format: str) -> None:
    upright = Image.new("RGB", (48, 32), (255, 255, 255))
    ImageDraw.Draw(upright).rectangle((0, 0, 15, 15), fill=(255, 0, 0))
    T = Image.Transpose
    stored_as = {
        2: T.FLIP_LEFT_RIGHT,
        3: T.ROTATE_180,
        4: T.FLIP_TOP_BOTTOM,
        5: T.TRANSPOSE,
        6: T.ROTATE_90,
        7: T.TRANSVERSE,
        8: T.ROTATE_270,
    }
    stored = upright.transpose(stored_as[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_bytes(tmp_path, encoded(stored, format, exif=exif))
    assert image.size == (48, 32)
    assert_pixel(image, (6, 6), (255, 0, 0), within=3)
    for corner in ((40, 6), (6, 26), (40, 26)):
        assert_pixel(image, corner, (255, 255, 255), within=3)


def test_damaged_exif_is_no_reason_to_refuse(tmp_path: Path) -> None:
    content = encoded(noise(), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01\x12garbage")
    assert load_bytes(tmp_path, content).size == (64, 48)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    content = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert_pixel(load_bytes(tmp_path, content), (8, 8), (255, 0, 0), within=3)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, format: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    image = load_bytes(tmp_path, encoded(Image.fromarray(ramp), format))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image)[..., 1].ravel() - np.arange(256.0)).max() <= 1


def test_16_bit_rgb_png(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">6H", 0, 32768, 65535, 257 * 10, 257 * 100, 257 * 200)
    image = load_bytes(tmp_path, raw_png(2, 1, 16, 2, row))
    assert_pixel(image, (0, 0), (0, 128, 255))
    assert_pixel(image, (1, 0), (10, 100, 200))


def test_32_bit_integers(tmp_path: Path) -> None:
    values = np.array([[0, 65535], [32768, 6554]], dtype=np.int32)
    image = load_bytes(tmp_path, encoded(Image.fromarray(values), "TIFF"))
    assert np.asarray(image)[..., 0].tolist() == [[0, 255], [128, 26]]
    image = load_bytes(tmp_path, encoded(Image.fromarray(values * 100), "TIFF"))
    assert np.asarray(image)[..., 0].tolist() == [[0, 255], [128, 26]]


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0, 1e6])
def test_float_tiff(tmp_path: Path, white: float) -> None:
    values = np.array([[0.0, 0.5, 1.0, 0.2, -0.1, np.nan]], dtype=np.float32) * np.float32(white)
    image = load_bytes(tmp_path, encoded(Image.fromarray(values), "TIFF"))
    assert np.asarray(image)[0, :, 2].tolist() == [0, 128, 255, 51, 0, 0]


def test_float_overshoot_is_clipped(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.5, 1.1]], dtype=np.float32)
    image = load_bytes(tmp_path, encoded(Image.fromarray(values), "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 128, 255]


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (3, 1), (200, 0, 0, 255))
    rgba.putpixel((1, 0), (200, 0, 0, 0))
    rgba.putpixel((2, 0), (200, 0, 0, 51))
    image = load_bytes(tmp_path, encoded(rgba, "PNG"))
    for x, colour in enumerate([(200, 0, 0), (255, 255, 255), (244, 204, 204)]):
        assert_pixel(image, (x, 0), colour)
    grey = Image.new("LA", (2, 1), (40, 255))
    grey.putpixel((1, 0), (40, 0))
    image = load_bytes(tmp_path, encoded(grey, "PNG"))
    assert_pixel(image, (0, 0), (40, 40, 40))
    assert_pixel(image, (1, 0), (255, 255, 255))


def test_palette_with_alpha(tmp_path: Path) -> None:
    palette = Image.new("P", (3, 1))
    palette.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250])
    palette.putdata([0, 1, 2])
    image = load_bytes(tmp_path, encoded(palette, "PNG", transparency=bytes([255, 0, 128])))
    for x, colour in enumerate([(250, 0, 0), (255, 255, 255), (127, 127, 252)]):
        assert_pixel(image, (x, 0), colour)


def test_a_transparent_colour(tmp_path: Path) -> None:
    rows = b"\0" + bytes([9, 9, 9, 50, 60, 70])
    image = load_bytes(tmp_path, raw_png(2, 1, 8, 2, rows, (b"tRNS", struct.pack(">3H", 9, 9, 9))))
    assert_pixel(image, (0, 0), (255, 255, 255))
    assert_pixel(image, (1, 0), (50, 60, 70))


def test_grey_and_1_bit(tmp_path: Path) -> None:
    assert_pixel(load_bytes(tmp_path, encoded(Image.new("L", (4, 4), 77), "PNG")), (1, 1), (77, 77, 77))
    bits = Image.new("1", (2, 1), 0)
    bits.putpixel((1, 0), 1)
    image = load_bytes(tmp_path, encoded(bits, "PNG"))
    assert_pixel(image, (0, 0), (0, 0, 0))
    assert_pixel(image, (1, 0), (255, 255, 255))


def test_a_colour_profile_becomes_srgb(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    colour = Image.new("RGB", (8, 8), (10, 200, 100))
    # The same profile with red and green columns exchanged: an RGB space other than sRGB.
    swapped = srgb.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be")).replace(b"sRGB", b"xRGB")
    assert_pixel(load_bytes(tmp_path, encoded(colour, "PNG", icc_profile=swapped)), (1, 1), (200, 10, 100), within=3)
    for harmless in (srgb, lab, b"not a profile"):
        image = load_bytes(tmp_path, encoded(colour, "PNG", icc_profile=harmless))
        assert_pixel(image, (1, 1), (10, 200, 100))
        assert image.info == {}


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_the_first_picture_of_an_animation(tmp_path: Path, caplog: pytest.LogCaptureFixture, format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.INFO, logger="stkit"):
        image = load_bytes(tmp_path, content)
    assert_pixel(image, (8, 8), (255, 0, 0), within=8)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "several pictures; the first one is used" in caplog.text


def zero_size_gif() -> bytes:
    content = bytearray(encoded(Image.new("P", (4, 4)), "GIF"))
    content[6:10] = b"\0\0\0\0"
    place = content.index(b",")
    content[place + 5 : place + 9] = b"\0\0\0\0"
    return bytes(content)


def damaged_tiff() -> bytes:
    content = bytearray(encoded(noise(), "TIFF", compression="tiff_adobe_deflate"))
    content[100:400] = b"\xff" * 300
    return bytes(content)


def too_many_samples_tiff() -> bytes:
    entry = struct.pack("<HHIHH", 277, 3, 1, 3, 0)
    content = encoded(noise(), "TIFF")
    assert entry in content
    return content.replace(entry, struct.pack("<HHIHH", 277, 3, 1, 9, 0))


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "text": (lambda: b"Dear diary,\n", "not an image"),
    "zero bytes": (lambda: b"", r"empty \(zero bytes\)"),
    "noise": (lambda: bytes(range(256)) * 8, "not an image"),
    "truncated JPEG": (lambda: portrait().read_bytes()[:30_000], r"damaged or cut short \(.*truncated"),
    "JPEG cut in its header": (lambda: portrait().read_bytes()[:100], "damaged"),
    "truncated PNG": (lambda: encoded(noise(), "PNG")[:3000], "damaged or cut short"),
    "truncated WebP": (lambda: encoded(noise(), "WEBP", lossless=True)[:3000], "damaged"),
    "truncated GIF": (lambda: encoded(noise(), "GIF")[:2000], "damaged or cut short"),
    "PNG with a wrong checksum": (lambda: encoded(noise(), "PNG").replace(b"IDATx", b"IDATy", 1), "damaged"),
    "damaged TIFF": (damaged_tiff, "damaged or cut short"),
    "TIFF that Pillow logs about": (too_many_samples_tiff, "not an image"),
    "bomb": (lambda: raw_png(50_000, 50_000, 8, 2, b""), "more than 160 million pixels; scale it down"),
    "slow bomb": (
        lambda: encoded(Image.new("RGB", (2500, 2000)), "QOI"),
        "more than 4 million pixels; scale it down, or save",
    ),
    "WebP bomb": (
        lambda: encoded(Image.new("RGB", (10_000, 9_500)), "WEBP", quality=1, method=0),
        "more than 90 million pixels; scale it down, or save it as JPEG",
    ),
    "smaller bomb": (lambda: raw_png(13_000, 13_000, 8, 2, b""), "more than 160 million pixels; scale it down"),
    "large but empty": (lambda: raw_png(10_000, 10_000, 1, 0, b""), "damaged or cut short"),
    "zero-size PNG": (lambda: raw_png(0, 0, 8, 2, b""), "not an image"),
    "zero-size GIF": (zero_size_gif, "not an image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    make, message = BAD[kind]
    with pytest.raises(PhotoError, match=message) as caught:
        load_bytes(tmp_path, make(), "holiday.jpg")
    text = str(caught.value)
    assert "holiday.jpg" in text
    assert "\n" not in text
    assert "0x" not in text
    assert capfd.readouterr() == ("", "")


FORMATS = {
    "PNG": encoded(noise(), "PNG"),
    "JPEG": encoded(noise(), "JPEG"),
    "progressive JPEG": encoded(noise(), "JPEG", progressive=True),
    "GIF": encoded(noise(), "GIF"),
    "WEBP": encoded(noise(), "WEBP"),
}


@settings(deadline=None, max_examples=40)
@given(format=st.sampled_from(sorted(FORMATS)), cut=st.floats(0, 1), flips=st.lists(st.floats(0.5, 1), max_size=3))
def test_damage_is_a_photo_error_or_a_photo(
    tmp_path_factory: pytest.TempPathFactory, format: str, cut: float, flips: list[float]
) -> None:
    content = bytearray(FORMATS[format])
    for place in flips:
        content[int(place * (len(content) - 1))] ^= 0x55
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: int(cut * len(content))])
    try:
        image = load_photo(path).image
    except PhotoError as error:
        assert "\n" not in str(error)
        return
    assert (image.mode, image.size) == ("RGB", (64, 48))


def test_nothing_reaches_stderr_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Outside pytest, whose own log handler hides what Python's last-resort handler would print."""
    paths = []
    for index, kind in enumerate(["TIFF that Pillow logs about", "damaged TIFF", "bomb", "truncated JPEG"]):
        paths.append(tmp_path / f"{index}.jpg")
        paths[-1].write_bytes(BAD[kind][0]())
    code = (
        "import sys\n"
        "from stkit.errors import PhotoError\n"
        "from stkit.photo.reading import load_photo\n"
        "for path in sys.argv[1:]:\n"
        "    try: load_photo(path)\n"
        "    except PhotoError: print('refused')\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "refused\n" * 4, "")


def test_a_missing_file_suggests_its_neighbours(tmp_path: Path) -> None:
    for name in ("Grace_Hopper.JPG", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(PhotoError, match=r"no file .*grace_hoper\.jpg; did you mean .*/Grace_Hopper\.JPG\?$"):
        load_photo(tmp_path / "grace_hoper.jpg")
    with pytest.raises(PhotoError, match=r"no file .*zzz; check the name$"):
        load_photo(tmp_path / "zzz")
    with pytest.raises(PhotoError, match=r"there is no folder .*nowhere; check the path"):
        load_photo(tmp_path / "nowhere" / "a.jpg")
    with pytest.raises(PhotoError, match=r"there is no folder .*notes\.txt"):
        load_photo(tmp_path / "notes.txt" / "a.jpg")


def test_places_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="is a folder; name a photo in it"):
        load_photo(tmp_path)
    with pytest.raises(PhotoError, match="is not a file"):
        load_photo("/dev/zero")
    with pytest.raises(PhotoError, match="cannot read"):
        load_photo("a" * 5000)
    with pytest.raises(PhotoError, match="cannot read"):
        load_photo("a\0b")


def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(noise(), "PNG"))
    path.chmod(0)
    root = os.geteuid() == 0
    if root:  # whom no permission stops
        os.seteuid(65534)
    try:
        with pytest.raises(PhotoError, match=r"no permission to read .*photo\.png; allow it"):
            load_photo(path)
    finally:
        if root:
            os.seteuid(0)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


@pytest.fixture
def pillow_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not met HEIC yet."""
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    for known in (Image.OPEN, Image.SAVE):
        monkeypatch.delitem(known, "HEIF", raising=False)


@pytest.mark.usefixtures("pillow_alone")
def test_heic_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match="is HEIC: run `pip install pillow-heif`, or save it as JPEG"):
        load_bytes(tmp_path, HEIC)
    with pytest.raises(UsageError, match="to be HEIC: run `pip install pillow-heif`, or save it as .jpg"):
        save_image(Image.new("RGB", (4, 4)), tmp_path / "a.heic")


@pytest.mark.usefixtures("pillow_alone")
def test_heic_with_its_package(tmp_path: Path) -> None:
    pillow_heif.from_pillow(Image.new("RGB", (32, 16), (200, 100, 50))).save(tmp_path / "a.heic")
    whole = (tmp_path / "a.heic").read_bytes()
    assert_pixel(load_photo(tmp_path / "a.heic").image, (20, 8), (200, 100, 50), within=4)
    for broken in (HEIC, whole[: len(whole) - 20]):
        with pytest.raises(PhotoError, match="damaged"):
            load_bytes(tmp_path, broken)
    save_image(Image.new("RGB", (32, 16), (200, 100, 50)), tmp_path / "b.heic")
    assert (tmp_path / "b.heic").read_bytes()[8:12] == b"heic"
