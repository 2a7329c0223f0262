"""What a photo's file says of itself, once the photo is edited: what no longer holds goes, the edit is noted.

XMP as ISO 16684-1 has it, EXIF as CIPA DC-008; an edit is noted as the IPTC's digital source types have it.
"""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from stkit.photo.hdr import HLG, PQ

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_GOOGLE = "http://ns.google.com/photos/"

_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
"""Of XMP in ISO base media files."""

MOTION = "a motion photo's video"
GAIN_MAP = "an HDR gain map"
DEPTH = "a depth map"
THUMBNAIL = "a thumbnail"
PROVENANCE = "content credentials (C2PA)"
PREVIEW = "a preview in the maker note"
TRAILER = "data after the picture"
MORE_PICTURES = "further pictures"
LIVE_PHOTO = "a Live Photo's link to its video"
JUMBF = "JUMBF metadata"

# Namespaces, or names in them, of what lies elsewhere in a file and is not written again, or shows the photo itself.
_STALE = (
    (f"{{{_GOOGLE}1.0/camera/}}", MOTION),
    (f"{{{_GOOGLE}1.0/container/", ""),
    (f"{{{_GOOGLE}1.0/panorama/}}", None),
    (f"{{{_GOOGLE}", DEPTH),
    ("{http://ns.adobe.com/hdr-gain-map/1.0/}", GAIN_MAP),
    ("{http://ns.apple.com/HDRGainMap/1.0/}", GAIN_MAP),
    ("{http://ns.apple.com/pixeldatainfo/1.0/}", GAIN_MAP),
    ("{http://ns.oplus.com/photos/1.0/camera/}", MOTION),
    ("{http://ns.vivo.com/photos/1.0/camera/}", MOTION),
    ("{http://ns.xiaomi.com/photos/1.0/camera/}", ""),
    (f"{{{_XMP}}}Thumbnails", THUMBNAIL),
    (f"{{{_IPTC}}}DigitalSourceType", ""),
    ("{http://ns.adobe.com/xmp/note/}HasExtendedXMP", ""),
    ("{http://purl.org/dc/terms/}provenance", PROVENANCE),
)  # fmt: skip
_PREFIXES = {
    "x": _META, "rdf": _RDF, "xmp": _XMP, "Iptc4xmpExt": _IPTC, "dc": "http://purl.org/dc/elements/1.1/",
    "exif": "http://ns.adobe.com/exif/1.0/", "tiff": "http://ns.adobe.com/tiff/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/", "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/", "GPano": f"{_GOOGLE}1.0/panorama/",
}  # fmt: skip


@dataclass(frozen=True)
class Cleaned:
    """Metadata without what no longer holds, None where nothing is left; and what that was, as people call it."""

    data: bytes | None
    dropped: tuple[str, ...] = ()


def clean_xmp(xmp: bytes | None, mark: str | None) -> Cleaned:
    """An XMP packet for the edited photo; with `mark` the name of the program that edited it, and how, is in it."""
    dropped: list[str] = []
    root = _parse(xmp) if xmp else None
    if root is None:
        if mark is None:
            return Cleaned(None)
        root = ElementTree.Element(f"{{{_META}}}xmpmeta")
        ElementTree.SubElement(root, f"{{{_RDF}}}RDF")
    for parent in [*root.iter()]:
        for name in [name for name in parent.attrib if _stale(name) is not None]:
            dropped.append(_stale(name) or "")
            del parent.attrib[name]
        for child in [child for child in parent if _stale(child.tag) is not None]:
            dropped.append(_video(child) or _stale(child.tag) or "")
            parent.remove(child)
    rdf = root if root.tag == f"{{{_RDF}}}RDF" else root.find(f"{{{_RDF}}}RDF")
    if mark is not None and rdf is not None:
        for name, value in ((f"{{{_XMP}}}CreatorTool", mark), (f"{{{_IPTC}}}DigitalSourceType", SOURCE_TYPE)):
            _set(rdf, name, value)
    for prefix, uri in [*_own_prefixes(xmp or b""), *_PREFIXES.items()]:
        ElementTree.register_namespace(prefix, uri)
    body = ElementTree.tostring(root, encoding="unicode")
    packet = f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{body}\n<?xpacket end="w"?>'
    return Cleaned(packet.encode(), tuple(dict.fromkeys(filter(None, dropped))))


def edited_xmp() -> bytes:
    """The XMP packet of a file that has no other: that stkit made it of a photo, and how."""
    packet = clean_xmp(None, creator()).data
    assert packet is not None
    return packet


def creator() -> str:
    """What edits are marked with."""
    return f"stkit {version('stkit')}"


def mark_video(path: Path) -> None:
    """Note the edit in a finished MP4 or QuickTime file: a box of its own at the end (XMP specification, part 3)."""
    packet = edited_xmp()
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 24 + len(packet), b"uuid") + _XMP_BOX + packet)


def _parse(xmp: bytes) -> ElementTree.Element | None:
    """The root, None of what is no XMP; a document type, with which a few bytes can take all memory, is none."""
    data = xmp.strip(b"\0 \r\n\t")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        return None
    try:
        return ElementTree.fromstring(re.sub(rb"<\?xpacket[^>]*\?>", b"", data).strip())
    except (ElementTree.ParseError, ValueError, LookupError):
        return None


def _own_prefixes(xmp: bytes) -> list[tuple[str, str]]:
    """Those that a packet gives its namespaces, for readers who know these alone; `ns0` ElementTree takes itself."""
    found = re.findall(r"""xmlns:([A-Za-z_][\w.-]{,63})=["']([^"'<>&]{1,200})["']""", xmp.decode("utf-8", "replace"))
    return [(prefix, uri) for prefix, uri in found[:64] if not re.fullmatch(r"ns\d+|xml.*", prefix)]


def _stale(name: object) -> str | None:
    """What a name tells of that is not there any more, which may be without a name; None for what holds."""
    return next((what for start, what in _STALE if isinstance(name, str) and name.startswith(start)), None)


def _video(element: ElementTree.Element) -> str | None:
    """What an element of Google's container lists beside the picture itself."""
    said = " ".join(str(value) for part in element.iter() for value in part.attrib.values())
    if "video/" in said or "MotionPhoto" in said:
        return MOTION
    return GAIN_MAP if "GainMap" in said else DEPTH if "Depth" in said else None


def _set(rdf: ElementTree.Element, name: str, value: str) -> None:
    """Say `name` once, in the first description."""
    descriptions = rdf.findall(f"{{{_RDF}}}Description")
    for description in descriptions:
        description.attrib.pop(name, None)
        for child in description.findall(name):
            description.remove(child)
    first = descriptions[0] if descriptions else ElementTree.SubElement(rdf, f"{{{_RDF}}}Description")
    first.attrib.setdefault(f"{{{_RDF}}}about", "")
    first.set(name, value)


_THUMBNAIL_PLACES = ((0x0201, 0x0202), (0x0111, 0x0117))  # of a JPEG, of a strip of pixels
_CONTENT_IDENTIFIER = 0x0011  # of Apple: a Live Photo's video has the same
_EXIF_IFD, _MAKER_NOTE = 0x8769, 0x927C


def clean_exif(exif: bytes) -> Cleaned:
    """EXIF in which nothing moves, since maker notes count from its beginning: thumbnail and previews become zeros.

    What cannot be read comes back as it is, unless a picture lies in it.
    """
    start = 6 if exif[:6] == b"Exif\0\0" else 0
    data = bytearray(exif)
    try:
        dropped = [*_drop_thumbnail(data, start), *_drop_preview(data, start), *_drop_live_photo(data)]
    except (struct.error, ValueError):
        return Cleaned(None, (THUMBNAIL,)) if b"\xff\xd8\xff" in exif else Cleaned(exif)
    return Cleaned(bytes(data), tuple(dict.fromkeys(dropped)))


def _drop_thumbnail(data: bytearray, start: int) -> Iterator[str]:
    order = _order(data, start)
    first = _number(data, start + 4, "I", order)
    link = start + first + 2 + 12 * _number(data, start + first, "H", order)
    second = _number(data, link, "I", order)
    if not second:
        return
    entries = {tag: value for tag, value, _ in _entries(data, start, second, order)}
    for at, many in _THUMBNAIL_PLACES:
        place, length = start + entries.get(at, 0), entries.get(many, 0)
        if at in entries and place + length <= len(data):
            data[place : place + length] = bytes(length)
    struct.pack_into(f"{order}I", data, link, 0)
    yield THUMBNAIL


def _drop_preview(data: bytearray, start: int) -> Iterator[str]:
    """Zeros in the place of the pictures in a maker note, of which all else stays."""
    order = _order(data, start)
    exif = next(
        (
            value
            for tag, value, _ in _entries(data, start, _number(data, start + 4, "I", order), order)
            if tag == _EXIF_IFD
        ),
        0,
    )
    if not exif:
        return
    for tag, value, count in _entries(data, start, exif, order):
        place = start + value
        end = min(place + count, len(data))
        while tag == _MAKER_NOTE and count > 4 and (at := data.find(b"\xff\xd8\xff", place, end)) >= 0:
            length = _jpeg_end(bytes(data[at:end]))
            data[at : at + length] = bytes(length)
            yield PREVIEW


def _drop_live_photo(data: bytearray) -> Iterator[str]:
    """Zeros in the place of what says which video belongs to an iPhone's photo."""
    start = data.find(b"Apple iOS\0\0\1MM")
    if start < 0:
        return
    for index in range(_number(data, start + 14, "H", ">")):
        tag, _, count, value = struct.unpack_from(">HHII", data, start + 16 + 12 * index)
        if tag == _CONTENT_IDENTIFIER and count > 4 and start + value + count <= len(data):
            if any(data[start + value : start + value + count]):
                yield LIVE_PHOTO
            data[start + value : start + value + count] = bytes(count)


def _order(data: bytearray, start: int) -> str:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[start : start + 4]))
    if order is None:
        raise ValueError("no TIFF header")
    return order


def _number(data: bytearray, place: int, kind: str, order: str) -> int:
    return int(struct.unpack_from(order + kind, data, place)[0])


def _entries(data: bytearray, start: int, place: int, order: str) -> Iterator[tuple[int, int, int]]:
    """Tag, value or its place, and count of each entry of a directory."""
    for index in range(_number(data, start + place, "H", order)):
        tag, _, count, value = struct.unpack_from(f"{order}HHII", data, start + place + 2 + 12 * index)
        yield tag, value, count


def knows_kind(start: bytes) -> bool:
    """Whether a file that starts so (12 bytes at least) is of a kind that `lost_parts` and `coding` look into."""
    return start.startswith((b"\x89PNG", b"RIFF", b"\xff\xd8")) or start[4:8] == b"ftyp"


def lost_parts(data: bytes) -> list[str]:
    """What lies in a photo's file beside the picture, and is not written again."""
    if data.startswith(b"\x89PNG"):
        return _lost_of_chunks(_png_chunks(data))
    if data.startswith(b"RIFF"):
        return _lost_of_chunks(_riff_chunks(data))
    if data[4:8] == b"ftyp":
        return _lost_of_boxes(data)
    if data.startswith(b"\xff\xd8"):
        return _lost_of_jpeg(data)
    return []


def _lost_of_jpeg(data: bytes) -> list[str]:
    found = []
    for kind, body in _segments(data):
        if kind == 0xEB and body.startswith(b"JP"):
            found.append(PROVENANCE if b"c2pa" in body else JUMBF)
        elif (kind == 0xE2 and body.startswith(_ISO_GAIN_MAP)) or (kind == 0xE1 and b"hdrgm:Version" in body):
            found.append(GAIN_MAP)
        elif kind == 0xE0 and (body.startswith(b"JFXX") or (body.startswith(b"JFIF\0") and any(body[12:14]))):
            found.append(THUMBNAIL)
        elif kind == 0xED:
            found += lost_resources(body)
    if PROVENANCE in found:  # which takes several segments
        found = [what for what in found if what != JUMBF]
    trailer = data[_jpeg_end(data) :].strip(b"\0")
    if trailer.startswith(b"\xff\xd8\xff"):
        found.append(MORE_PICTURES)
    known = _lost_of_trailer(trailer)
    return found + [what for what in known if what != TRAILER or MORE_PICTURES not in found]


def _lost_of_trailer(trailer: bytes) -> list[str]:
    """What cameras write after a picture's end."""
    if not trailer:
        return []
    kinds = ((MOTION, (b"ftypmp4", b"ftypiso", b"ftypqt", b"ftypavc", b"MotionPhoto")), (DEPTH, (b"DualShot_Depth",)))
    return [what for what, signs in kinds if any(sign in trailer for sign in signs)] or [TRAILER]


def coding(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer of a PNG (cICP), HEIC or AVIF (nclx) as ITU-T H.273 numbers them; None if not said.

    Of a file with a gain map, which says them of both, those of SDR.
    """
    if data.startswith(b"\x89PNG"):
        said = [
            struct.unpack_from("BB", body) for name, body in _png_chunks(data) if name == b"cICP" and len(body) == 4
        ]
    elif data[4:8] == b"ftyp":
        meta = b"".join(body for kind, body in _boxes(data) if kind == b"meta")
        said = [struct.unpack(">HH", found[1]) for found in re.finditer(rb"colrnclx(.{4})", meta, re.DOTALL)]
    else:
        return None
    return next((one for one in said if one[1] not in (PQ, HLG)), said[0] if said else None)


def _lost_of_chunks(chunks: Iterator[tuple[bytes, bytes]]) -> list[str]:
    """Of the chunks of a PNG or WebP file; what follows the last one has no name."""
    kinds = {b"caBX": PROVENANCE, b"C2PA": PROVENANCE, b"gmAP": GAIN_MAP, b"gdAT": GAIN_MAP}
    found = []
    for name, body in chunks:
        found += [kinds[name]] if name in kinds else [] if name else _lost_of_trailer(body)
    return found


def _lost_of_boxes(data: bytes) -> list[str]:
    """Of a HEIC or AVIF file."""
    signs = (
        (GAIN_MAP, (b"hdrgainmap", b"infe\2\0\0\0tmap", b"tmap\0")),
        (DEPTH, (b"auxiliary:depth", b"hevc:2015:auxid:2")),
    )
    found = []
    for kind, body in _boxes(data):
        if kind == b"mpvd":
            found.append(MOTION)
        elif kind == b"sefd":
            found += _lost_of_trailer(body)
        elif kind == b"uuid" and body.startswith(_C2PA_BOX):
            found.append(PROVENANCE)
        elif kind == b"meta":
            found += [what for what, all_signs in signs if any(sign in body for sign in all_signs)]
    return found


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of the boxes of an ISO base media file."""
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        head = 8
        if length == 1 and place + 16 <= len(data):
            length, head = struct.unpack_from(">Q", data, place + 8)[0], 16
        end = len(data) if length == 0 else place + length
        if end < place + head:
            return
        yield kind, data[place + head : end]
        place = end


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place, name = 8, b""
    while place + 12 <= len(data) and name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, place)
        yield name, data[place + 8 : place + 8 + length] if name != b"IDAT" else b""
        place += 12 + length
    yield b"", data[place:].strip(b"\0")


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place, end = 12, min(len(data), 8 + struct.unpack_from("<I", data.ljust(8, b"\0"), 4)[0])
    while place + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, place)
        yield name, b""
        place += 8 + length + length % 2
    yield b"", data[end + end % 2 :].strip(b"\0")


def lost_resources(body: bytes) -> list[str]:
    """What of Photoshop's image resources, as a JPEG's segment or a TIFF's tag has them, shows the photo itself."""
    return [THUMBNAIL] if any(number in _THUMBNAILS for number, _ in _blocks(body)) else []


def iptc_segment(data: bytes) -> bytes:
    """The segment with a JPEG's IPTC captions and keywords, as Photoshop and agencies write it; empty without them."""
    bodies = (body for kind, body in _segments(data) if kind == 0xED) if data.startswith(b"\xff\xd8") else ()
    kept = b"".join(raw for body in bodies for number, raw in _blocks(body) if number == _IPTC_BLOCK)
    if not kept or len(_PHOTOSHOP + kept) > 65533:
        return b""
    return b"\xff\xed" + struct.pack(">H", 2 + len(_PHOTOSHOP + kept)) + _PHOTOSHOP + kept


_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
_C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_PHOTOSHOP, _IPTC_BLOCK, _THUMBNAILS = b"Photoshop 3.0\0", 1028, (1033, 1036)


def _blocks(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each of Photoshop's image resources in a segment, as far as they can be read."""
    place = len(_PHOTOSHOP) if body.startswith(_PHOTOSHOP) else 0
    while body[place : place + 4] == b"8BIM" and place + 12 <= len(body):
        after = place + 6 + (body[place + 6] // 2 + 1) * 2  # the name: a length, then letters, padded to even
        if after + 4 > len(body):
            return
        end = after + 4 + struct.unpack_from(">I", body, after)[0]
        if end > len(body):
            return
        end += end - after & 1
        yield struct.unpack_from(">H", body, place + 4)[0], body[place:end] + bytes(max(0, end - len(body)))
        place = end


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of a JPEG's segments before its pixels."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, place + 2)
        yield data[place + 1], data[place + 4 : place + 2 + length]
        place += 2 + length


def _jpeg_end(data: bytes) -> int:
    """Where the first picture of a JPEG file ends."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return len(data)
        marker = data[place + 1]
        if marker == 0xD9:
            return place + 2
        if marker == 0xFF:
            place += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            place += 2
            continue
        place += 2 + struct.unpack_from(">H", data, place + 2)[0]
        if marker == 0xDA:  # pixels follow, up to the next marker that is none of theirs
            found = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]").search(data, place)
            place = found.start() if found else len(data)
    return min(place + 2, len(data)) if data[place : place + 2] == b"\xff\xd9" else len(data)


__all__ = [
    "DEPTH",
    "GAIN_MAP",
    "MORE_PICTURES",
    "PROVENANCE",
    "SOURCE_TYPE",
    "Cleaned",
    "clean_exif",
    "clean_xmp",
    "coding",
    "creator",
    "edited_xmp",
    "iptc_segment",
    "knows_kind",
    "lost_parts",
    "lost_resources",
    "mark_video",
]
