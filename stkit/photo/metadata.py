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
PREVIEW = "a maker note with a preview"
TRAILER = "data after the picture"
MORE_PICTURES = "further pictures"

# Namespaces, or names in them, of what lies elsewhere in a file and is not written again, or shows the photo itself.
_STALE = (
    (f"{{{_GOOGLE}1.0/camera/}}", MOTION),
    (f"{{{_GOOGLE}1.0/container/", ""),
    (f"{{{_GOOGLE}1.0/panorama/}}", None),
    (f"{{{_GOOGLE}", DEPTH),
    ("{http://ns.adobe.com/hdr-gain-map/1.0/}", GAIN_MAP),
    ("{http://ns.apple.com/HDRGainMap/1.0/}", GAIN_MAP),
    ("{http://ns.apple.com/pixeldatainfo/1.0/}", GAIN_MAP),
    (f"{{{_XMP}}}Thumbnails", THUMBNAIL),
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
    for prefix, uri in _PREFIXES.items():
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


_IFD1_OFFSET, _IFD1_LENGTH = 0x0201, 0x0202
_EXIF_IFD, _MAKER_NOTE = 0x8769, 0x927C


def clean_exif(exif: bytes) -> Cleaned:
    """EXIF in which nothing moves, since maker notes count from its beginning: thumbnail and previews become zeros.

    What cannot be read comes back as it is, unless a picture lies in it.
    """
    start = 6 if exif[:6] == b"Exif\0\0" else 0
    data = bytearray(exif)
    try:
        dropped = [*_drop_thumbnail(data, start), *_drop_preview(data, start)]
    except (struct.error, ValueError):
        return Cleaned(None, (THUMBNAIL,)) if b"\xff\xd8\xff" in exif else Cleaned(exif)
    return Cleaned(bytes(data), tuple(dropped))


def _drop_thumbnail(data: bytearray, start: int) -> Iterator[str]:
    order = _order(data, start)
    first = _number(data, start + 4, "I", order)
    link = start + first + 2 + 12 * _number(data, start + first, "H", order)
    second = _number(data, link, "I", order)
    if not second:
        return
    entries = {tag: value for tag, value, _ in _entries(data, start, second, order)}
    place, length = start + entries.get(_IFD1_OFFSET, 0), entries.get(_IFD1_LENGTH, 0)
    if _IFD1_OFFSET in entries and place + length <= len(data):
        data[place : place + length] = bytes(length)
    struct.pack_into(f"{order}I", data, link, 0)
    yield THUMBNAIL


def _drop_preview(data: bytearray, start: int) -> Iterator[str]:
    """Zeros in the place of a maker note that holds a picture."""
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
        if tag == _MAKER_NOTE and count > 4 and b"\xff\xd8\xff" in data[place : place + count]:
            data[place : place + count] = bytes(len(data[place : place + count]))
            yield PREVIEW


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


def lost_parts(data: bytes) -> list[str]:
    """What lies in a JPEG or PNG file beside the picture, and is not written again."""
    if data.startswith(b"\x89PNG"):
        return [PROVENANCE] if b"caBX" in data else []
    if not data.startswith(b"\xff\xd8"):
        return []
    found = []
    for kind, body in _segments(data):
        if kind == 0xEB and b"c2pa" in body:
            found.append(PROVENANCE)
        elif (kind == 0xE0 and body.startswith(b"JFXX")) or (
            kind == 0xED and any(n in _THUMBNAILS for n, _ in _blocks(body))
        ):
            found.append(THUMBNAIL)
    trailer = data[_jpeg_end(data) :].strip(b"\0")
    if trailer.startswith(b"\xff\xd8\xff"):
        found.append(MORE_PICTURES)
    elif trailer:
        video = b"ftyp" in trailer[:4096] or b"MotionPhoto" in trailer[:4096]
        found.append(MOTION if video else TRAILER)
    return found


def iptc_segment(data: bytes) -> bytes:
    """The segment with a JPEG's IPTC captions and keywords, as Photoshop and agencies write it; empty without them."""
    bodies = (body for kind, body in _segments(data) if kind == 0xED) if data.startswith(b"\xff\xd8") else ()
    kept = b"".join(raw for body in bodies for number, raw in _blocks(body) if number == _IPTC_BLOCK)
    if not kept or len(_PHOTOSHOP + kept) > 65533:
        return b""
    return b"\xff\xed" + struct.pack(">H", 2 + len(_PHOTOSHOP + kept)) + _PHOTOSHOP + kept


_PHOTOSHOP, _IPTC_BLOCK, _THUMBNAILS = b"Photoshop 3.0\0", 1028, (1033, 1036)


def _blocks(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each of Photoshop's image resources in a segment, as far as they can be read."""
    place = len(_PHOTOSHOP) if body.startswith(_PHOTOSHOP) else len(body)
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
    "SOURCE_TYPE",
    "Cleaned",
    "clean_exif",
    "clean_xmp",
    "creator",
    "edited_xmp",
    "iptc_segment",
    "lost_parts",
    "mark_video",
]
