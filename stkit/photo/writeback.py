"""An edited photo written as the photo was: its size, orientation, colour space, metadata, format and quality.

Only what was edited is written anew: the change is carried into the file's own pixels, so that all
others stay exactly what they were, whatever their colour space. What Pillow cannot hold is not kept:
16-bit colour becomes 8-bit (16-bit grey stays), palettes become RGB, of an animation the first
picture is written.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from stkit.files import atomic_path
from stkit.photo.aside import Box, is_large, put_aside, turned, turned_box
from stkit.photo.colour import full_scale, is_srgb, to_rgb
from stkit.photo.hdr import HLG, PQ
from stkit.photo.images import encode_image
from stkit.photo.metadata import (
    DEPTH,
    GAIN_MAP,
    MORE_PICTURES,
    PROVENANCE,
    clean_exif,
    clean_xmp,
    coding,
    creator,
    edited_xmp,
    iptc_segment,
    lost_parts,
    lost_resources,
)
from stkit.photo.ondisk import opened, whole
from stkit.photo.paste import difference, strips
from stkit.photo.reading import UPRIGHT, Photo, described, hdr_coding, orientation
from stkit.remote import as_path

_log = logging.getLogger("stkit")
_PNG_XMP = "XML:com.adobe.xmp"
_FORMATS = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "TIFF": ".tif",
    "BMP": ".bmp",
    "AVIF": ".avif",
    "HEIF": ".heic",
    "JPEG2000": ".jp2",
}
_SUFFIXES = {".jpg": (".jpg", ".jpeg"), ".tif": (".tif", ".tiff"), ".heic": (".heic", ".heif")}
_BACK = {
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
}
_FADE = 16.0  # levels of sRGB
_LOSSLESS_TIFF = {"tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"}
_PLAIN = {"P": "RGB", "1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}


def photo_suffix(photo: Photo) -> str:
    """The suffix to write an edit of `photo` with: its own where stkit writes its format, else `.png`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with opened(photo.data) as file, Image.open(file) as image:
                suffix = _FORMATS.get(image.format or "", ".png")
        except Exception:  # no file behind it
            return ".png"
    own = photo.path.suffix
    return own if own.lower() in _SUFFIXES.get(suffix, (suffix,)) else suffix


def save_photo(edited: Image.Image, photo: Photo, path: Path | str, mark: bool = True) -> None:
    """Write `edited`, the upright sRGB picture of `photo.image`'s size, as a file like the photo's own.

    With `mark` its XMP says that it was edited by stkit. Raises UsageError, OutputError.
    """
    path = as_path(path)
    data = encode_photo(edited, photo, path, mark)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def encode_photo(edited: Image.Image, photo: Photo, path: Path, mark: bool = True) -> bytes:
    """The bytes of that file, in the format of the path's suffix; the photo's own bytes when nothing was edited.

    What the photo's file says that no longer holds is left out, which is logged.
    """
    return encode_change(edited, difference(edited, photo.image), photo, path, mark)


def encode_change(
    edited: Image.Image,
    box: tuple[int, int, int, int] | None,
    photo: Photo,
    path: Path,
    mark: bool = True,
    spend: bool = False,
) -> bytes:
    """`encode_photo` of a picture that differs from the photo's in `box`, and may be `photo.image` itself, changed.

    With `spend` nobody needs `edited` any more: a large one is closed before there is another picture of its size.
    """
    strip_boxes = list(strips(box, 32)) if box is not None else []
    with opened(photo.data) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file)
            shown_as_stored = _shows_what_it_stores(image)
            hdr = hdr_coding(photo.data) is not None
            changed: Iterable[tuple[Box, Image.Image]] | None = None
            if spend and is_large(edited) and not (shown_as_stored or hdr) and _own_mode(image) is not None:
                changed = put_aside(edited, strip_boxes)
                edited.close()
            if not shown_as_stored:
                image.load()
        except Exception:  # no file behind it: what is left is the picture itself
            return encode_marked(edited, path, mark and box is not None)
        same_format = path.suffix.lower() in _names(image)
        if box is None and same_format:
            return whole(photo.data)
        parameters, dropped = _parameters(image, described(photo.data), path, same_format, mark and box is not None)
        if hdr:
            parameters.pop("icc_profile", None)
        if shown_as_stored or hdr:  # HDR is written as it was read
            back = _way_back(image)
            own = edited if back is None else turned(edited, back, spend)
            if image.has_transparency_data:
                own = own.convert("RGBA")
                own.putalpha(image.convert("RGBA").getchannel("A"))
        else:
            found = _own_pixels(image)
            if found is None:
                return encode_marked(edited, path, mark and box is not None)
            own = found
            _change(own, image, changed or ((strip, edited.crop(strip)) for strip in strip_boxes))
            own.info = {}
        dropped += [f"the sidecar {each.name}" for each in _sidecars(photo.path)]
        if dropped:
            _log.info("left out of %s, being of the photo before the edit: %s", path.name, " and ".join(dropped))
        own = _fitting(own, path)
        image.close()  # its pixels would stay until a garbage collection
        return encode_image(own, path, spend=own is not edited, **parameters)


def _sidecars(path: Path) -> list[Path]:
    """The files beside a photo that say how it was developed or edited."""
    names = [(path.stem, ".xmp"), (path.name, ".xmp"), (path.stem, ".aae")]
    both = ((path.with_name(name + end), path.with_name(name + end.upper())) for name, end in names)
    return [next(each for each in pair if each.is_file()) for pair in both if any(each.is_file() for each in pair)]


def _shows_what_it_stores(image: Image.Image) -> bool:
    """Whether the photo as people see it has the file's own pixels, so that these need not be decoded once more.

    So it is with most of the largest photos; what else the file says must be known without decoding it.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode != "RGB":
        return False
    profile = image.info.get("icc_profile")
    return not profile or is_srgb(profile)


def _names(image: Image.Image) -> tuple[str, ...]:
    suffix = _FORMATS.get(image.format or "", "")
    return _SUFFIXES.get(suffix, (suffix,))


def _own_pixels(image: Image.Image) -> Image.Image | None:
    """The file's own pixels, not a copy, in a mode that can be edited; None for modes that are not ours to keep."""
    mode = _own_mode(image)
    if mode is None:
        return None
    # An image of a file is written otherwise than one of a program: as its former self, as far as the format allows.
    return image.convert(mode) if mode != image.mode else image._new(image.im)


def _own_mode(image: Image.Image) -> str | None:
    mode = _PLAIN.get(image.mode, image.mode)
    if image.mode == "P" and image.has_transparency_data:
        mode = "RGBA"
    if mode == "RGB" and "transparency" in image.info:
        mode = "RGBA"
    if mode not in ("L", "LA", "RGB", "RGBA", "CMYK", "I", "F") and not mode.startswith("I;16"):
        return None
    return mode


def _change(own: Image.Image, image: Image.Image, changed: Iterable[tuple[Box, Image.Image]]) -> None:
    """Carry the step from the photo to its edited parts `changed`, upright, into `own`, which `image` holds.

    What 8-bit sRGB could not say of the file's pixels (finer steps, colours out of its gamut) stays where
    little changes and fades where much does.
    """
    turn, back = UPRIGHT.get(orientation(image)), _way_back(image)
    size = image.size if turn is None else turned_box((0, 0, *image.size), image.size, turn)[2:]
    wide = own.mode == "F" or own.mode.startswith("I")
    white = full_scale(own) if wide else 255.0
    profile = image.info.get("icc_profile")
    for box, new in changed:
        if back is not None:
            box, new = turned_box(box, size, back), new.transpose(back)
        _change_strip(own, to_rgb(image.crop(box), white), new, box, profile, white)


def _change_strip(
    own: Image.Image,
    old: Image.Image,
    new: Image.Image,
    box: tuple[int, int, int, int],
    profile: bytes | None,
    white: float,
) -> None:
    """`_change` for the pixels of `own` in `box`, as they lie; `white` is their largest value."""
    before, after = (np.asarray(_from_srgb(part, own.mode, profile), np.float32) for part in (old, new))
    pixels = np.asarray(own.crop(box))
    has_alpha = own.mode in ("LA", "RGBA")
    values = pixels[..., :-1].astype(np.float32).reshape(before.shape) if has_alpha else pixels.astype(np.float32)
    rest = values - before * (white / 255)
    if not has_alpha:  # there the rest is mostly the white that the picture was laid on
        change = np.abs(np.asarray(new, np.float32) - np.asarray(old)).max(-1)
        keep = np.clip(1 - change / _FADE, 0, 1)
        rest = rest * (keep[..., None] if rest.ndim == 3 else keep)
    changed = np.clip(after * (white / 255) + rest, 0, white)
    if has_alpha:
        changed = np.dstack([changed, pixels[..., -1]])
    if pixels.dtype.kind != "f":
        changed = np.rint(changed)
    changed = changed.astype(pixels.dtype)
    own.paste(Image.fromarray(changed, mode=own.mode) if own.mode == "CMYK" else Image.fromarray(changed), box[:2])


def _way_back(image: Image.Image) -> Image.Transpose | None:
    """How the upright picture is turned to lie as in the file; None where it lies so."""
    turn = UPRIGHT.get(orientation(image))
    return None if turn is None else _BACK.get(turn, turn)


def _from_srgb(picture: Image.Image, mode: str, profile: bytes | None) -> Image.Image:
    """`picture` in the colours of the file: its mode without alpha, through its profile where it has one."""
    target = {"LA": "L", "RGBA": "RGB"}.get(mode, mode if mode in ("L", "RGB", "CMYK") else "L")
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):  # as in reading: as if there were none
            if target != "RGB" or not is_srgb(profile):
                own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                converted = ImageCms.profileToProfile(picture, ImageCms.createProfile("sRGB"), own, outputMode=target)
                return converted or picture.convert(target)
    return picture.convert(target)


def _fitting(own: Image.Image, path: Path) -> Image.Image:
    """`own` in a mode that the format at `path` has."""
    suffix = path.suffix.lower()
    allowed = {
        ".jpg": ("L", "RGB", "CMYK"),
        ".jpeg": ("L", "RGB", "CMYK"),
        ".webp": ("RGB", "RGBA"),
        ".avif": ("L", "RGB", "RGBA"),
        ".heic": ("L", "RGB", "RGBA"),
        ".heif": ("L", "RGB", "RGBA"),
        ".jp2": ("L", "LA", "RGB", "RGBA", "I;16"),
        ".bmp": ("L", "RGB"),
        ".png": ("L", "LA", "RGB", "RGBA", "I;16"),
    }.get(suffix)
    if allowed is None or own.mode in allowed:
        return own
    if own.mode.startswith("I;16") and suffix == ".png":
        return Image.fromarray(np.asarray(own).astype(np.uint16))
    if own.mode in ("LA", "RGBA"):
        return own.convert("RGBA" if "RGBA" in allowed else "RGB")
    return own.convert("RGB")


def _parameters(
    image: Image.Image, data: bytes, path: Path, same_format: bool, mark: bool
) -> tuple[dict[str, Any], list[str]]:
    """What Pillow's writer needs to know to keep the photo's metadata and quality; and what is left out of it."""
    info = image.info
    dropped = lost_parts(data)
    dropped += [DEPTH] if info.get("depth_images") else []
    parameters: dict[str, Any] = {key: info[key] for key in ("icc_profile", "dpi") if info.get(key)}
    exif = _exif(image)
    suffix = path.suffix.lower()
    if isinstance(exif, bytes):
        cleaned = clean_exif(exif)
        exif = cleaned.data
        dropped += cleaned.dropped
    if exif and suffix != ".bmp":
        parameters["exif"] = exif
    xmp = clean_xmp(_xmp(image), creator() if mark else None)
    dropped += xmp.dropped
    if GAIN_MAP in dropped and MORE_PICTURES in dropped:
        dropped.remove(MORE_PICTURES)
    if xmp.data is not None:
        _add_xmp(parameters, xmp.data, suffix)
    if (said := coding(data)) and suffix == ".png" and same_format and said[1] not in (PQ, HLG):
        parameters.setdefault("pnginfo", PngImagePlugin.PngInfo()).add(b"cICP", bytes([*said, 0, 1]))
    if isinstance(image, PngImagePlugin.PngImageFile):
        dropped += _keep_text(image, parameters, suffix)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        dropped += _lost_tags(image, suffix)
    dropped = list(dict.fromkeys(dropped))
    if not same_format:
        return parameters, dropped
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        parameters.update(qtables=image.quantization, quality=-1, progressive=bool(info.get("progressive")))
        sampling = JpegImagePlugin.get_sampling(image)
        if sampling >= 0:
            parameters["subsampling"] = sampling
        if iptc := iptc_segment(data):
            parameters["extra"] = iptc
        if info.get("comment"):
            parameters["comment"] = info["comment"]
    if image.format == "TIFF" and info.get("compression") in _LOSSLESS_TIFF:
        parameters["compression"] = info["compression"]
    if image.format == "WEBP":
        parameters["lossless"] = b"VP8L" in data[:65536]  # the chunk of lossless pixels
    return parameters, dropped


def _keep_text(image: PngImagePlugin.PngImageFile, parameters: dict[str, Any], suffix: str) -> list[str]:
    """Have captions of a PNG written again, if that is a PNG; and what of its text is not, like the prompt it is of."""
    lost = []
    for name, text in image.text.items():
        if name in _CAPTIONS and suffix == ".png":
            parameters.setdefault("pnginfo", PngImagePlugin.PngInfo()).add_itxt(name, text)
        elif name != _PNG_XMP and not name.startswith(("date:", "Raw profile type")):
            lost.append(name)
    return [f"text ({', '.join(lost)})"] if lost else []


_CAPTIONS = {
    "Title", "Author", "Description", "Copyright", "Creation Time", "Software", "Disclaimer", "Warning", "Source",
    "Comment",
}  # fmt: skip
"""The keywords that the PNG specification gives."""


def _lost_tags(image: TiffImagePlugin.TiffImageFile, suffix: str) -> list[str]:
    """What stands in tags of a TIFF that are not written again."""
    resources = image.tag_v2.get(_PHOTOSHOP_TAG)
    lost = lost_resources(resources) if isinstance(resources, bytes) else []
    lost += [PROVENANCE] if _C2PA_TAG in image.tag_v2 else []
    return lost + (["IPTC captions"] if _IPTC_TAG in image.tag_v2 and suffix not in (".tif", ".tiff") else [])


_IPTC_TAG, _PHOTOSHOP_TAG, _C2PA_TAG = 33723, 34377, 52545


def encode_marked(picture: Image.Image, path: Path, mark: bool = True) -> bytes:
    """`encode_image` of what was made of a photo, with `mark` noted in its XMP. Raises UsageError, OutputError."""
    parameters: dict[str, Any] = {}
    if mark:
        _add_xmp(parameters, edited_xmp(), path.suffix.lower())
    return encode_image(picture, path, **parameters)


def _add_xmp(parameters: dict[str, Any], packet: bytes, suffix: str) -> None:
    """Put an XMP packet into what Pillow's writer of that format gets, where the format has a place for it."""
    if suffix in (".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif"):
        parameters["xmp"] = packet
    elif suffix == ".png":
        parameters["pnginfo"] = PngImagePlugin.PngInfo()
        parameters["pnginfo"].add_itxt(_PNG_XMP, packet.decode())
    elif suffix in (".tif", ".tiff"):
        kept = parameters.setdefault("exif", Image.Exif())
        if isinstance(kept, bytes):
            parameters["exif"] = Image.Exif()
            parameters["exif"].load(kept)
        parameters["exif"][ExifTags.Base.XMLPacket] = packet


def _xmp(image: Image.Image) -> bytes | None:
    packet = image.info.get("xmp") or image.info.get(_PNG_XMP)
    if packet is None and isinstance(image, TiffImagePlugin.TiffImageFile):
        packet = image.tag_v2.get(int(ExifTags.Base.XMLPacket))
    return packet.encode() if isinstance(packet, str) else packet if isinstance(packet, bytes) else None


def _exif(image: Image.Image) -> bytes | Image.Exif | None:
    """The photo's EXIF: its own bytes where there are any."""
    try:
        exif = image.getexif()
        if not exif:
            return None
        if image.format == "TIFF":
            return _tiff_exif(exif)
        return image.info.get("exif") or exif.tobytes()
    except Exception:  # damaged EXIF is no reason to refuse
        return None


def _tiff_exif(exif: Image.Exif) -> Image.Exif:
    """TIFF keeps its layout in the same tags: only those that describe the photo are taken over."""
    kept = Image.Exif()
    for tag in (*_DESCRIPTIVE, _IPTC_TAG):
        if tag in exif:
            kept[tag] = exif[tag]
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if tags := exif.get_ifd(directory):
            kept.get_ifd(directory).update({tag: one for tag, one in tags.items() if tag != ExifTags.Base.MakerNote})
            kept[directory] = 0  # its place, which Pillow finds
    return kept


_DESCRIPTIVE = tuple(
    int(getattr(ExifTags.Base, name))
    for name in (
        "ImageDescription",
        "Make",
        "Model",
        "Software",
        "DateTime",
        "Artist",
        "HostComputer",
        "Copyright",
        "Orientation",
    )
)

__all__ = ["encode_change", "encode_marked", "encode_photo", "photo_suffix", "save_photo"]
