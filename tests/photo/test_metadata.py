"""What a photo's file says that no longer holds after an edit is left out and said; the edit itself is noted."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
from PIL import ExifTags, Image
from pillow_heif import register_heif_opener

from stkit.photo.metadata import clean_exif, clean_xmp, coding, lost_parts
from stkit.photo.reading import load_photo
from stkit.photo.writeback import encode_marked, encode_photo

CAMERA = "http://ns.google.com/photos/1.0/camera/"
JPEG = b"\xff\xd8\xff\xe0 a picture \xff\xd9"
MARKED = b"compositeWithTrainedAlgorithmicMedia"


def xmp(*attributes: str, inside: str = "", **namespaces: str) -> bytes:
    spaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in namespaces.items())
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        f'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4" {spaces} {" ".join(attributes)}>'
        f"{inside}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


CONTAINER = (
    "<c:Directory><rdf:Seq><rdf:li rdf:parseType='Resource'><c:Item i:Mime='{mime}' i:Semantic='{semantic}'"
    " i:Length='4096'/></rdf:li></rdf:Seq></c:Directory>"
)
SPACES = {"c": "http://ns.google.com/photos/1.0/container/", "i": "http://ns.google.com/photos/1.0/container/item/"}
STALE = {
    "motion photo of Google's first kind": (
        xmp('G:MicroVideo="1"', 'G:MicroVideoOffset="4096"', G=CAMERA), b"MicroVideo", "a motion photo's video"
    ),
    "motion photo": (
        xmp('G:MotionPhoto="1"', inside=CONTAINER.format(mime="video/mp4", semantic="MotionPhoto"), G=CAMERA, **SPACES),
        b"MotionPhoto", "a motion photo's video",
    ),
    "Ultra HDR": (
        xmp('h:Version="1.0"', inside=CONTAINER.format(mime="image/jpeg", semantic="GainMap"),
            h="http://ns.adobe.com/hdr-gain-map/1.0/", **SPACES),
        b"GainMap", "an HDR gain map",
    ),
    "Apple's gain map": (
        xmp('a:HDRGainMapVersion="65536"', a="http://ns.apple.com/HDRGainMap/1.0/"), b"HDRGainMap", "an HDR gain map"
    ),
    "depth map": (
        xmp('d:Format="RangeInverse"', 'm:Data="AAAA"', d="http://ns.google.com/photos/1.0/depthmap/",
            m="http://ns.google.com/photos/1.0/image/"),
        b"RangeInverse", "a depth map",
    ),
    "thumbnails": (
        xmp(inside="<xmp:Thumbnails><rdf:Alt><rdf:li>AAAA</rdf:li></rdf:Alt></xmp:Thumbnails>"), b"Thumbnails",
        "a thumbnail",
    ),
    "credentials": (
        xmp('t:provenance="self#jumbf=c2pa/x"', t="http://purl.org/dc/terms/"), b"provenance", "content credentials"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STALE)
def test_xmp_that_no_longer_holds(case: str) -> None:
    packet, claim, said = STALE[case]
    assert claim in packet
    cleaned = clean_xmp(packet, "stkit 1")
    assert cleaned.data is not None and claim not in cleaned.data
    assert any(said in what for what in cleaned.dropped)
    assert b'Rating="4"' in cleaned.data and b"stkit 1" in cleaned.data and MARKED in cleaned.data
    assert clean_xmp(packet, None).data is not None and MARKED not in (clean_xmp(packet, None).data or b"")


def test_xmp_that_holds_stays() -> None:
    space = {"GPano": "http://ns.google.com/photos/1.0/panorama/"}
    title = "<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>Grace Hopper</rdf:li></rdf:Alt></dc:title>"
    packet = xmp('GPano:ProjectionType="equirectangular"', 'xmp:CreatorTool="Camera 1"', inside=title, **space)
    cleaned = clean_xmp(packet, None)
    assert cleaned.dropped == () and cleaned.data is not None
    for kept in (b"equirectangular", b"Camera 1", b"Grace Hopper"):
        assert kept in cleaned.data
    again = clean_xmp(cleaned.data, "stkit 1").data or b""
    assert again.count(b"CreatorTool") == 1 and b"Camera 1" not in again


@pytest.mark.parametrize("packet", [None, b"", b"no XMP", b"<a>", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'])
def test_packets_that_are_none(packet: bytes | None) -> None:
    assert clean_xmp(packet, None).data is None
    marked = clean_xmp(packet, "stkit 1").data
    assert marked is not None and MARKED in marked and b"ENTITY" not in marked


def exif(order: str, thumbnail: bytes, note: bytes) -> bytes:
    """TIFF with one maker note, whose place is known, and a thumbnail."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    first, sub, second = 8, 8 + 2 + 24 + 4, 8 + 2 + 24 + 4 + 2 + 12 + 4
    data = second + 2 + 24 + 4
    parts = [magic, struct.pack(f"{order}I", first)]
    parts += [struct.pack(f"{order}H", 2), struct.pack(f"{order}HHIHH", 0x0112, 3, 1, 1, 0)]
    parts += [struct.pack(f"{order}HHII", 0x8769, 4, 1, sub), struct.pack(f"{order}I", second)]
    parts += [struct.pack(f"{order}H", 1), struct.pack(f"{order}HHII", 0x927C, 7, len(note), data), bytes(4)]
    parts += [struct.pack(f"{order}H", 2), struct.pack(f"{order}HHII", 0x0201, 4, 1, data + len(note))]
    parts += [struct.pack(f"{order}HHII", 0x0202, 4, 1, len(thumbnail)), bytes(4), note, thumbnail]
    return b"Exif\0\0" + b"".join(parts)


@pytest.mark.parametrize("order", ["<", ">"])
def test_thumbnails_go_and_maker_notes_stay_in_their_place(order: str) -> None:
    note = b"MAKER\0" + bytes(range(1, 50))
    before = exif(order, JPEG, note)
    cleaned = clean_exif(before)
    assert cleaned.data is not None and cleaned.dropped == ("a thumbnail",)
    assert cleaned.data.index(note) == before.index(note) and JPEG not in cleaned.data
    tags = Image.Exif()
    tags.load(cleaned.data)
    assert not tags.get_ifd(ExifTags.IFD.IFD1) and tags.get_ifd(ExifTags.IFD.Exif)[0x927C] == note
    again = clean_exif(cleaned.data)
    assert again.data == cleaned.data and again.dropped == ()


def test_previews_in_maker_notes_go() -> None:
    drawn = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(drawn, "JPEG")
    before = exif("<", b"thumb", b"NIKON" + drawn.getvalue() + b"lens" + drawn.getvalue() + b"shutter count")
    cleaned = clean_exif(before)
    assert cleaned.data is not None and len(cleaned.data) == len(before) and b"\xff\xd8\xff" not in cleaned.data
    assert cleaned.data.index(b"lens") == before.index(b"lens") and b"shutter count" in cleaned.data
    assert cleaned.dropped == ("a thumbnail", "a preview in the maker note")


def test_a_preview_that_is_cut_short_goes_to_the_end_of_the_maker_note() -> None:
    cleaned = clean_exif(exif("<", b"thumb", b"NIKON" + JPEG[:-2]))
    assert cleaned.data is not None and b"NIKON" + bytes(len(JPEG) - 2) in cleaned.data


@pytest.mark.parametrize("broken", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"II*\0\x08\0\0\0\xff\xff", b"x"])
def test_damaged_exif_is_no_reason_to_refuse(broken: bytes) -> None:
    assert clean_exif(broken).data == broken
    assert clean_exif(broken + JPEG).data is None


@pytest.fixture
def portrait() -> Image.Image:
    path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    return Image.open(path).convert("RGB").resize((128, 150))


def edited(path: Path, mark: bool = True, out: Path | None = None) -> bytes:
    photo = load_photo(path)
    picture = photo.image.copy()
    picture.paste((200, 30, 60), (5, 8, 25, 20))
    return encode_photo(picture, photo, out or path, mark)


def gain_map(path: Path, portrait: Image.Image) -> None:
    portrait.save(path, "MPO", save_all=True, append_images=[portrait.convert("L")], xmp=STALE["Ultra HDR"][0])


def motion_photo(path: Path, portrait: Image.Image) -> None:
    portrait.save(path, xmp=STALE["motion photo"][0])
    path.write_bytes(path.read_bytes() + b"\0\0\0\x18ftypmp42" + bytes(4084))


def samsung(path: Path, portrait: Image.Image) -> None:
    portrait.save(path)
    path.write_bytes(path.read_bytes() + b"\0\0\x30\x0aMotionPhoto_Data" + bytes(99) + b"SEFT")


def credentials(path: Path, portrait: Image.Image) -> None:
    portrait.save(path)
    data = path.read_bytes()
    body = b"JP\0\x01\0\0\0\x01\0\0\0\x20jumbjumdc2pa" + bytes(20)
    path.write_bytes(data[:2] + b"\xff\xeb" + struct.pack(">H", len(body) + 2) + body + data[2:])


def thumbnail(path: Path, portrait: Image.Image) -> None:
    portrait.save(path, exif=exif("<", JPEG, b"NOTE" * 4))


def add_segment(path: Path, kind: int, body: bytes) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:2] + struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body + data[2:])


def extended_jfif(path: Path, portrait: Image.Image) -> None:
    portrait.save(path)
    add_segment(path, 0xE0, b"JFXX\0\x10" + JPEG)


def block(number: int, body: bytes, name: bytes = b"\0\0") -> bytes:
    return b"8BIM" + struct.pack(">H", number) + name + struct.pack(">I", len(body)) + body + bytes(len(body) % 2)


CAPTION = block(1028, b"\x1c\x02\x78\0\x05Grace")


def photoshop(path: Path, portrait: Image.Image) -> None:
    portrait.save(path)
    add_segment(path, 0xED, b"Photoshop 3.0\0" + block(1036, bytes(28) + JPEG, b"\x03abc") + CAPTION)


FILES = {
    "an HDR gain map": (gain_map, b"GainMap"),
    "a motion photo's video": (motion_photo, b"MotionPhoto"),
    "a motion photo's video ": (samsung, b"MotionPhoto_Data"),
    "content credentials (C2PA)": (credentials, b"c2pa"),
    "a thumbnail": (thumbnail, JPEG),
    "a thumbnail ": (extended_jfif, b"JFXX"),
    "a thumbnail  ": (photoshop, b"\x04\x0c\x03abc"),
}


@pytest.mark.parametrize("said", FILES)
def test_files_of_cameras(said: str, portrait: Image.Image, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stkit")
    make, claim = FILES[said]
    make(tmp_path / "a.jpg", portrait)
    assert claim in (tmp_path / "a.jpg").read_bytes()
    data = edited(tmp_path / "a.jpg")
    assert claim not in data
    lines = [line for line in caplog.messages if "before the edit" in line]
    assert len(lines) == 1 and said.strip() in lines[0]
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG" and getattr(image, "n_frames", 1) == 1


def test_captions_stay(portrait: Image.Image, tmp_path: Path) -> None:
    photoshop(tmp_path / "a.jpg", portrait)
    segment = b"Photoshop 3.0\0" + CAPTION
    assert struct.pack(">BBH", 0xFF, 0xED, len(segment) + 2) + segment in edited(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "broken", [b"8BIM", b"8BIM\4\4\xff", block(1028, b"x" * 9)[:-4], b"8BIM\4\4\0\0\xff\xff\xff\xff"]
)
def test_damaged_resources_are_no_reason_to_refuse(broken: bytes, portrait: Image.Image, tmp_path: Path) -> None:
    portrait.save(tmp_path / "a.jpg")
    add_segment(tmp_path / "a.jpg", 0xED, b"Photoshop 3.0\0" + broken)
    assert b"Photoshop" not in edited(tmp_path / "a.jpg")


MP4 = b"\0\0\0\x18ftypmp42" + bytes(300)
C2PA = struct.pack(">I4s", 24, b"jumb") + b"c2pa" + bytes(12)
C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with chunks after its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def with_webp_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    data += kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def with_segment(data: bytes, kind: int, body: bytes) -> bytes:
    return data[:2] + struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body + data[2:]


PROMPTS = (chunk(b"tEXt", b"parameters\0a woman"), chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"{}")))
LOST: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "ISO gain map": (".jpg", lambda d: with_segment(d, 0xE2, b"urn:iso:std:iso:ts:21496:-1\0"), "an HDR gain map"),
    "JFIF's thumbnail": (
        ".jpg", lambda d: d[:2] + b"\xff\xe0\0\x1cJFIF\0\1\2\0\0\1\0\1\2\2" + bytes(12) + d[20:], "a thumbnail",
    ),
    "JUMBF": (".jpg", lambda d: with_segment(d, 0xEB, b"JP\0\1\0\0\0\1" + box(b"jumb", b"json")), "JUMBF metadata"),
    "Samsung's depth": (".jpg", lambda d: d + b"Image_UTC_Data" + bytes(9000) + b"DualShot_DepthMap_1", "a depth map"),
    "a gain map and a video": (".jpg", lambda d: d + d + MP4, "further pictures and a motion photo's video"),
    "credentials in a PNG": (".png", lambda d: with_chunks(d, chunk(b"caBX", C2PA)), "content credentials (C2PA)"),
    "prompts": (".png", lambda d: with_chunks(d, *PROMPTS), "text (parameters, workflow)"),
    "after a PNG": (".png", lambda d: d + MP4, "a motion photo's video"),
    "credentials in a WebP": (".webp", lambda d: with_webp_chunk(d, b"C2PA", C2PA), "content credentials (C2PA)"),
    "after a WebP": (".webp", lambda d: d + b"something", "data after the picture"),
    "credentials in an AVIF": (".avif", lambda d: d + box(b"uuid", C2PA_BOX + C2PA), "content credentials (C2PA)"),
    "credentials in a HEIC": (".heic", lambda d: d + box(b"uuid", C2PA_BOX + C2PA), "content credentials (C2PA)"),
    "motion HEIC": (".heic", lambda d: d + box(b"mpvd", MP4), "a motion photo's video"),
    "Samsung's HEIC": (".heic", lambda d: d + box(b"sefd", b"MotionPhoto_Data"), "a motion photo's video"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOST)
def test_what_lies_beside_the_picture(
    case: str, portrait: Image.Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stkit")
    register_heif_opener()
    suffix, change, said = LOST[case]
    path = tmp_path / f"a{suffix}"
    portrait.save(path)
    path.write_bytes(change(path.read_bytes()))
    data = edited(path)
    lines = [line for line in caplog.messages if "before the edit" in line]
    assert lines == [f"left out of a{suffix}, being of the photo before the edit: {said}"]
    path.write_bytes(data)
    caplog.clear()
    edited(path)
    assert caplog.text == ""


@pytest.mark.parametrize("cut", [10, 20, 36, 60])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".avif", ".jpg"])
def test_what_is_cut_short_is_looked_through(suffix: str, cut: int, portrait: Image.Image, tmp_path: Path) -> None:
    portrait.save(tmp_path / f"a{suffix}")
    assert "a motion photo's video" not in lost_parts((tmp_path / f"a{suffix}").read_bytes()[:cut])


def test_captions_of_a_png_stay(portrait: Image.Image, tmp_path: Path) -> None:
    portrait.save(tmp_path / "a.png")
    text = (chunk(b"tEXt", b"Author\0Ada"), chunk(b"iTXt", "Title\0\0\0\0\0Grüße".encode()), *PROMPTS)
    (tmp_path / "a.png").write_bytes(with_chunks((tmp_path / "a.png").read_bytes(), *text))
    for mark in (True, False):
        with Image.open(io.BytesIO(edited(tmp_path / "a.png", mark))) as image:
            image.load()
            texts = {name: str(value) for name, value in image.text.items() if "xmp" not in name}  # type: ignore[attr-defined]
        assert texts == {"Author": "Ada", "Title": "Grüße"}


def test_exif_and_captions_of_a_tiff_stay_and_what_no_longer_holds_goes(
    portrait: Image.Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stkit")
    tags = Image.Exif()
    tags.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.DateTimeOriginal: "2020:01:01 10:00:00", 0x927C: b"NOTE" * 9})
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    tags[ExifTags.IFD.Exif] = tags[ExifTags.IFD.GPSInfo] = 0  # their places, which Pillow finds
    tags[33723] = b"\x1c\x02\x78\0\x05Grace"
    tags[34377] = block(1036, bytes(28) + JPEG)
    tags[52545] = C2PA
    portrait.save(tmp_path / "a.tif", exif=tags)
    data = edited(tmp_path / "a.tif")
    assert JPEG not in data and b"c2pa" not in data and b"NOTENOTE" not in data
    with Image.open(io.BytesIO(data)) as image:
        found = image.getexif()
        assert found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == "2020:01:01 10:00:00"
        assert found.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
        assert b"Grace" in bytes(found[33723])
    assert "before the edit: a thumbnail and content credentials (C2PA)" in caplog.text


IDENTIFIER = b"5D7A1C1E-AAAA-BBBB-CCCC-0123456789AB\0"


def test_a_live_photo_is_parted_from_its_video() -> None:
    entries = struct.pack(">HHHIIHHII", 2, 0x11, 2, 37, 44, 0x14, 4, 1, 1)
    note = b"Apple iOS\0\0\1MM" + entries + bytes(2)
    note += bytes(44 - len(note)) + IDENTIFIER
    before = exif(">", JPEG, note)
    cleaned = clean_exif(before)
    assert cleaned.data is not None and cleaned.dropped == ("a thumbnail", "a Live Photo's link to its video")
    assert IDENTIFIER not in cleaned.data and cleaned.data.index(b"Apple iOS") == before.index(b"Apple iOS")
    assert clean_exif(cleaned.data).dropped == ()


def test_thumbnails_of_bare_pixels_go() -> None:
    pixels = bytes(range(1, 200))
    before = exif("<", pixels, b"NOTE" * 4)
    strips = before.replace(struct.pack("<HH", 0x0201, 4), struct.pack("<HH", 0x0111, 4))
    strips = strips.replace(struct.pack("<HH", 0x0202, 4), struct.pack("<HH", 0x0117, 4))
    cleaned = clean_exif(strips)
    assert strips != before and cleaned.data is not None and pixels not in cleaned.data
    assert cleaned.dropped == ("a thumbnail",)


def test_a_source_that_is_no_longer_true_goes_without_a_mark_too() -> None:
    capture = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    packet = xmp(f'I:DigitalSourceType="{capture}"', I="http://iptc.org/std/Iptc4xmpExt/2008-02-29/")
    assert b"DigitalSourceType" not in (clean_xmp(packet, None).data or b"")
    assert (clean_xmp(packet, "stkit 1").data or b"").count(b"DigitalSourceType") == 1


def test_namespaces_keep_their_names() -> None:
    packet = xmp(
        'crs:Exposure2012="+1"', 'My-Tool:Note="a"', **{"crs": "http://ns.adobe.com/crs/1.0/", "My-Tool": "urn:mine"}
    )
    cleaned = clean_xmp(packet, "stkit 1").data or b""
    assert b'crs:Exposure2012="+1"' in cleaned and b'My-Tool:Note="a"' in cleaned


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif", ".heic"])
def test_the_edit_is_noted_in_every_format(suffix: str, portrait: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    register_heif_opener()
    portrait.save(path)
    data = edited(path)
    assert MARKED in data and b"stkit" in data
    assert MARKED not in edited(path, mark=False)
    assert (edited(path) == data) and load_photo(path).image.size == Image.open(io.BytesIO(data)).size


@pytest.mark.parametrize("name", ["a.xmp", "a.jpg.xmp", "a.XMP", "a.AAE"])
def test_a_sidecar_is_named(name: str, portrait: Image.Image, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stkit")
    portrait.save(tmp_path / "a.jpg")
    (tmp_path / name).write_bytes(xmp())
    edited(tmp_path / "a.jpg")
    assert f"left out of a.jpg, being of the photo before the edit: the sidecar {name}" in caplog.text


def test_nothing_is_said_where_nothing_is_lost(
    portrait: Image.Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stkit")
    portrait.save(tmp_path / "a.jpg", xmp=xmp(), progressive=True)
    edited(tmp_path / "a.jpg")
    assert caplog.text == ""


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_what_is_made_of_a_photo_is_marked(tmp_path: Path, suffix: str) -> None:
    picture, path = Image.new("RGB", (8, 8), "red"), tmp_path / f"crop{suffix}"
    path.write_bytes(encode_marked(picture, path))
    with Image.open(path) as image:
        packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or image.getexif()[700]
    data = packet.encode() if isinstance(packet, str) else packet
    assert MARKED in data and b"CreatorTool" in data and clean_xmp(data, None).dropped == ()
    assert MARKED not in encode_marked(picture, path, mark=False)


@pytest.mark.parametrize(("nclx", "said"), [((16,), (9, 16)), ((16, 13), (9, 13)), ((13, 18), (9, 13)), ((), None)])
def test_the_colours_of_a_file_with_a_gain_map_are_those_of_sdr(nclx: tuple[int, ...], said: object) -> None:
    colours = b"".join(box(b"colr", b"nclx" + struct.pack(">HHHB", 9, transfer, 9, 128)) for transfer in nclx)
    assert coding(box(b"ftyp", b"avif") + box(b"meta", bytes(4) + colours)) == said
