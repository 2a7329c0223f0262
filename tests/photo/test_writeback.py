"""Photos go out as they came in: orientation, colour space, metadata, format, alpha."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from pillow_heif import register_heif_opener

from stkit.photo import paste as pasted
from stkit.photo.metadata import coding
from stkit.photo.reading import UPRIGHT, Photo, load_photo
from stkit.photo.writeback import encode_change, encode_photo, photo_suffix, save_photo

register_heif_opener()


def scene(width: int = 64, height: int = 48) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8))


def with_a_spot(photo: Photo, colour: tuple[int, int, int] = (200, 30, 60)) -> Image.Image:
    edited = photo.image.copy()
    edited.paste(colour, (5, 8, 25, 20))
    return edited


def saved(image: Image.Image, path: Path, **parameters: object) -> Photo:
    image.save(path, **parameters)  # type: ignore[arg-type]
    return load_photo(path)


def difference(first: Image.Image, second: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(first, float) - np.asarray(second, float)).max(-1)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.avif", "a.heic", "a.jp2"])
def test_unedited_photos_keep_every_byte(tmp_path: Path, name: str) -> None:
    photo = saved(scene(), tmp_path / name)
    save_photo(photo.image, photo, tmp_path / f"out{Path(name).suffix}")
    assert (tmp_path / f"out{Path(name).suffix}").read_bytes() == photo.data


@pytest.mark.parametrize("orientation", [1, *UPRIGHT])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    photo = saved(scene(), tmp_path / f"a{suffix}", exif=exif)
    edited = with_a_spot(photo)
    path = tmp_path / f"out{suffix}"
    save_photo(edited, photo, path)
    again = load_photo(path)
    assert again.image.size == photo.image.size
    assert difference(again.image, edited).mean() < (0.01 if suffix == ".png" else 6)
    with Image.open(path) as image:
        assert image.size == (64, 48)
        assert image.getexif()[ExifTags.Base.Orientation] == orientation
        assert image.getexif()[ExifTags.Base.Make] == "Maker"


def swapped_profile() -> bytes:
    """An RGB profile that is not sRGB: its gamma says linear light."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # The three tone curves share one parametric curve: make its exponent 1.8 instead of 2.4.
    start = profile.index(b"para")
    curve = start + 12
    changed = bytearray(profile)
    changed[curve : curve + 4] = round(1.8 * 65536).to_bytes(4, "big")
    return bytes(changed).replace(b"s\x00R\x00G\x00B", b"o\x00w\x00n\x00 ").replace(b"sRGB built-in", b"own made here")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_colour_profile_is_kept_and_used(tmp_path: Path, suffix: str) -> None:
    profile = swapped_profile()
    parameters = {"lossless": True} if suffix == ".webp" else {}
    photo = saved(scene(), tmp_path / f"a{suffix}", icc_profile=profile, **parameters)
    assert difference(photo.image, scene()).max() > 5, "the profile must matter"
    edited = with_a_spot(photo, (200, 90, 120))  # the profile has a gap in the dark
    path = tmp_path / f"out{suffix}"
    save_photo(edited, photo, path)
    with Image.open(path) as image, Image.open(photo.path) as original:
        assert image.info["icc_profile"] == profile
        outside = np.ones((48, 64), bool)
        outside[8:20, 5:25] = False
        assert difference(image.convert("RGB"), original.convert("RGB"))[outside].max() == 0
    assert difference(load_photo(path).image, edited).max() <= 3


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
@pytest.mark.parametrize("orientation", [1, *UPRIGHT])
def test_photos_of_phones_come_back_as_they_were(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    profile = swapped_profile()
    photo = saved(scene(), tmp_path / f"a{suffix}", exif=exif.tobytes(), icc_profile=profile, quality=95)
    assert photo.image.size == ((48, 64) if orientation > 4 else (64, 48))
    edited = with_a_spot(photo, (200, 90, 120))
    assert photo_suffix(photo) == suffix
    path = tmp_path / f"out{suffix}"
    save_photo(edited, photo, path)
    again = load_photo(path)
    assert difference(again.image, edited).mean() < 5
    with Image.open(path) as image, Image.open(photo.path) as original:
        assert image.format == original.format
        assert image.size == original.size
        assert image.info["icc_profile"] == profile
        assert image.getexif()[ExifTags.Base.Make] == "Maker"


def test_jpeg_2000_keeps_every_pixel_that_was_not_edited(tmp_path: Path) -> None:
    photo = saved(scene(), tmp_path / "a.jp2")
    edited = with_a_spot(photo)
    save_photo(edited, photo, tmp_path / f"out{photo_suffix(photo)}")
    with Image.open(tmp_path / "out.jp2") as image:
        assert difference(image, edited).max() == 0


def test_alpha_is_kept(tmp_path: Path) -> None:
    image = scene().convert("RGBA")
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, 40:] = 90
    image.putalpha(Image.fromarray(alpha))
    photo = saved(image, tmp_path / "a.png")
    path = tmp_path / "out.png"
    save_photo(with_a_spot(photo), photo, path)
    with Image.open(path) as out:
        assert out.mode == "RGBA"
        assert np.array_equal(np.asarray(out)[..., 3], alpha)
        assert np.asarray(out)[10, 10, :3].tolist() == [200, 30, 60]
        assert np.array_equal(np.asarray(out)[:, 40:], np.asarray(image)[:, 40:])


@pytest.mark.parametrize(
    ("mode", "name", "wanted"),
    [("L", "a.jpg", "L"), ("P", "a.png", "RGB"), ("1", "a.png", "L"), ("CMYK", "a.jpg", "CMYK"), ("LA", "a.png", "LA"),
     ("CMYK", "a.tif", "CMYK")],
)  # fmt: skip
def test_modes(tmp_path: Path, mode: str, name: str, wanted: str) -> None:
    image = scene().convert("L").convert("LA") if mode == "LA" else scene().convert(mode)
    photo = saved(image, tmp_path / name)
    edited = with_a_spot(photo)
    path = tmp_path / f"out{Path(name).suffix}"
    save_photo(edited, photo, path)
    with Image.open(path) as out:
        assert out.mode == wanted
    again = load_photo(path).image.convert("L")
    assert abs(np.asarray(again)[10:18, 8:22].mean() - np.asarray(edited.convert("L"))[10:18, 8:22].mean()) < 25
    assert np.abs(np.asarray(again, float) - np.asarray(edited.convert("L")))[24:, 30:].mean() < 4


def test_16_bit_grey_stays(tmp_path: Path) -> None:
    values = (np.arange(64 * 48).reshape(48, 64) * 20).astype(np.uint16)
    photo = saved(Image.fromarray(values), tmp_path / "a.png")
    path = tmp_path / "out.png"
    save_photo(with_a_spot(photo, (255, 255, 255)), photo, path)
    with Image.open(path) as out:
        pixels = np.asarray(out).astype(int)
    assert np.array_equal(pixels[24:], values[24:])
    assert pixels[10:18, 8:22].min() > 65000


def test_jpeg_quality_is_kept(tmp_path: Path) -> None:
    photo = saved(scene(), tmp_path / "a.jpg", quality=60, subsampling=2, comment=b"hello")
    save_photo(with_a_spot(photo), photo, tmp_path / "out.jpg")
    with Image.open(photo.path) as first, Image.open(tmp_path / "out.jpg") as second:
        assert first.quantization == second.quantization  # type: ignore[attr-defined]
        assert second.layer == first.layer  # type: ignore[attr-defined]
        assert second.info["comment"] == b"hello"
    far = difference(load_photo(tmp_path / "out.jpg").image, photo.image)[32:, 32:]
    assert far.max() <= 4


def test_the_thumbnail_of_the_unedited_photo_is_dropped(tmp_path: Path) -> None:
    thumbnail = io.BytesIO()
    scene(16, 12).save(thumbnail, "JPEG")
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    raw = bytearray(exif.tobytes())
    # IFD1 with the thumbnail, behind IFD0, whose last four bytes point to it.
    head, tiff = raw[:6], raw[6:]
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
    ifd0 = int.from_bytes(tiff[4:8], order)
    entries = int.from_bytes(tiff[ifd0 : ifd0 + 2], order)
    link = ifd0 + 2 + 12 * entries
    tiff[link : link + 4] = len(tiff).to_bytes(4, order)
    start = len(tiff) + 2 + 24 + 4
    tiff += (2).to_bytes(2, order)
    for tag, value in ((0x0201, start), (0x0202, len(thumbnail.getvalue()))):
        tiff += tag.to_bytes(2, order) + (4).to_bytes(2, order) + (1).to_bytes(4, order) + value.to_bytes(4, order)
    tiff += (0).to_bytes(4, order) + thumbnail.getvalue()
    photo = saved(scene(), tmp_path / "a.jpg", exif=bytes(head + tiff))
    with Image.open(photo.path) as first:
        assert first.getexif().get_ifd(ExifTags.IFD.IFD1)
    save_photo(with_a_spot(photo), photo, tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as second:
        assert second.getexif()[ExifTags.Base.Make] == "Maker"
        assert not second.getexif().get_ifd(ExifTags.IFD.IFD1)
    assert thumbnail.getvalue() not in (tmp_path / "out.jpg").read_bytes()


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.JPEG", ".JPEG"), ("a.gif", ".png"), ("a.HEIF", ".HEIF"), ("misnamed.png", ".jpg")]
)
def test_suffix_follows_the_format(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / name
    scene().save(path, {"a.gif": "GIF", "a.HEIF": "HEIF"}.get(name, "JPEG"))
    assert photo_suffix(load_photo(path)) == suffix


@pytest.mark.parametrize("orientation", [1, 4, 5, 6, 7, 8])
@pytest.mark.parametrize(
    ("mode", "name"), [("RGB", "a.jpg"), ("RGBA", "a.png"), ("P", "b.png"), ("1", "c.png"), ("I;16", "d.png")]
)
def test_a_picture_that_is_edited_in_place_gives_the_same_file(
    tmp_path: Path, mode: str, name: str, orientation: int
) -> None:
    (exif := Image.Exif())[ExifTags.Base.Orientation] = orientation
    image = Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20)
    image = image if mode == "I;16" else scene().convert(mode)
    photo = saved(image, tmp_path / name, exif=exif, icc_profile=swapped_profile())
    edited, path = with_a_spot(photo), tmp_path / f"out{Path(name).suffix}"
    wanted = encode_photo(edited, photo, path)
    box = pasted.difference(edited, photo.image)
    assert box == (5, 8, 25, 20)
    photo.image.paste(edited)
    assert encode_change(photo.image, box, photo, path) == wanted != photo.data


def test_pictures_without_a_file(tmp_path: Path) -> None:
    photo = Photo(scene(), tmp_path / "frame.png", "0" * 64)
    assert photo_suffix(photo) == ".png"
    data = encode_photo(with_a_spot(photo), photo, tmp_path / "out.png")
    with Image.open(io.BytesIO(data)) as image:
        assert difference(image, with_a_spot(photo)).max() == 0


def coded(image: Image.Image, path: Path, primaries: int, transfer: int) -> Photo:
    """A photo whose colours are coded so."""
    if path.suffix != ".png":
        nclx = {"color_primaries": primaries, "transfer_characteristics": transfer, "matrix_coefficients": 9}
        return saved(image, path, **nclx, full_range_flag=1)
    info = PngImagePlugin.PngInfo()
    info.add(b"cICP", bytes([primaries, transfer, 0, 1]))
    return saved(image, path, pnginfo=info)


@pytest.mark.parametrize("name", ["a.png", "a.heic"])
@pytest.mark.parametrize(("transfer", "white"), [(16, 148), (18, 191)])
def test_hdr_is_brought_down_and_said(
    tmp_path: Path, name: str, transfer: int, white: int, caplog: pytest.LogCaptureFixture
) -> None:
    """BT.2408: graphics white is at 58% of PQ and 75% of HLG."""
    photo = coded(Image.new("RGB", (64, 48), (white, white, white)), tmp_path / name, 9, transfer)
    assert f"{name} is HDR; it is read as SDR" in caplog.text
    assert np.abs(np.asarray(photo.image, int) - 243).max() <= 4
    out = tmp_path / f"out{photo.path.suffix}"
    save_photo(with_a_spot(photo), photo, out)
    caplog.clear()
    again = load_photo(out)
    assert not caplog.text and difference(again.image, with_a_spot(photo))[30:].max() <= 4


def test_hdr_keeps_its_transparency(tmp_path: Path) -> None:
    image = scene().convert("RGBA")
    image.putalpha(90)
    photo = coded(image, tmp_path / "a.png", 9, 16)
    save_photo(with_a_spot(photo), photo, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as out:
        assert out.getchannel("A").getextrema() == (90, 90)


def test_a_png_still_says_how_its_colours_are_coded(tmp_path: Path) -> None:
    photo = coded(scene(), tmp_path / "a.png", 12, 13)
    save_photo(with_a_spot(photo), photo, tmp_path / "out.png")
    assert coding((tmp_path / "out.png").read_bytes()) == (12, 13)
    assert np.array_equal(np.asarray(load_photo(tmp_path / "out.png").image), np.asarray(with_a_spot(photo)))
