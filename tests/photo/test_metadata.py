"""What a photo's file says that no longer holds after an edit is left out and said; the edit itself is noted."""

from __future__ import annotations

import io
import logging
import struct
from pathlib import Path

import matplotlib
import pytest
from PIL import ExifTags, Image

from stkit.photo.metadata import clean_exif, clean_xmp
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
    cleaned = clean_exif(exif("<", b"thumb", b"NIKON" + JPEG))
    assert cleaned.data is not None and JPEG not in cleaned.data
    assert cleaned.dropped == ("a thumbnail", "a maker note with a preview")


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


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif", ".heic"])
def test_the_edit_is_noted_in_every_format(suffix: str, portrait: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".heic":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    portrait.save(path)
    data = edited(path)
    assert MARKED in data and b"stkit" in data
    assert MARKED not in edited(path, mark=False)
    assert (edited(path) == data) and load_photo(path).image.size == Image.open(io.BytesIO(data)).size


def test_a_sidecar_is_named(portrait: Image.Image, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stkit")
    portrait.save(tmp_path / "a.jpg")
    (tmp_path / "a.xmp").write_bytes(xmp())
    edited(tmp_path / "a.jpg")
    assert "left out of a.jpg, being of the photo before the edit: the sidecar a.xmp" in caplog.text


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
