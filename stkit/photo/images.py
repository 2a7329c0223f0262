"""Pictures in and out: photos as 8-bit sRGB, tensors in [-1, 1], saved files, captioned grids."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import io
import logging
import math
import os
import stat
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageFont, UnidentifiedImageError

from stkit.contracts.framing import picture_box
from stkit.errors import OutputError, PhotoError, UsageError, reason_of
from stkit.files import atomic_path, read_bytes
from stkit.photo import room
from stkit.photo.archives import read_member, split_zip
from stkit.remote import RemotePath, as_path

if TYPE_CHECKING:
    import torch

_log = logging.getLogger("stkit")
# Pillow logs some damaged files as errors before it raises: without a handler they land on stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

if "PILLOW_BLOCK_SIZE" not in os.environ:
    # Smaller ones that are freed glibc may keep for their thread: each then holds a large photo that is gone.
    Image.core.set_block_size(2**26)

_stderr_lock = threading.Lock()

_MAX_PIXELS = 160_000_000
MOST_BYTES = 2**31
"""Of a photo's file: as many pixels as are read take that, uncompressed with twelve bytes each."""
_BYTES_A_PIXEL = 9  # at the most: 4 as decoded, 1 in grey, 4 in RGB
_BYTES_OF_FORMAT = {"WEBP": 16, "AVIF": 11, "JPEG2000": 20}  # whose decoders keep the picture several times
_BYTES_PROGRESSIVE = 10  # of a JPEG
_MOST_MEMORY = 1_450_000_000  # bytes of one photo beside its file
_SLOW_PIXELS = 4_000_000  # for decoders written in Python, a microsecond each
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_ARRAYS = (b"\x93NUMPY", b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation: the turn that makes a picture upright."""
_SAVERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".bmp": ("BMP", {}),
    ".avif": ("AVIF", {"quality": 90}),
    ".heic": ("HEIF", {"quality": 90}),
    ".heif": ("HEIF", {"quality": 90}),
    ".jp2": ("JPEG2000", {}),
}


@dataclass(frozen=True)
class Photo:
    """A photo as people see it: `image` is upright 8-bit sRGB; `sha256` is of the file's bytes, in hex.

    `data` are those bytes, for `stkit.photo.writeback`; empty for pictures that come from no file.
    """

    image: Image.Image
    path: Path
    sha256: str
    data: bytes = field(default=b"", repr=False)


def load_photo(path: Path | str) -> Photo:
    """Read anything that Pillow reads (HEIC too, where pillow-heif is installed) as an upright sRGB photo.

    EXIF orientation is applied and an embedded colour profile is converted to sRGB. Transparency is
    laid on white, as on a page. 16-bit values are scaled from their full range; floats are scaled
    from the smallest of 0-1, 0-255 and 0-65535 that holds them. Of an animation the first picture
    is taken, which is logged. Raises PhotoError.
    """
    path = as_path(path)
    return decode_photo(read_photo(path), path)


def decode_photo(data: bytes, path: Path) -> Photo:
    """`load_photo` of a file whose bytes are `data`; `path` is for messages. Raises PhotoError."""
    if not data:
        raise PhotoError(f"{path} is empty (zero bytes); copy or download it again")
    # What Pillow warns about (size, odd metadata) is either harmless or becomes a PhotoError here.
    with room.turn(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(data, path) as image:
            pixels, each = image.width * image.height, _bytes_a_pixel(image)
            if pixels > (most := _most_pixels(image, each)):
                raise _too_large(path, most)
            room.take(len(data) + pixels * each)
            # Decoders raise anything on a damaged file: OSError, SyntaxError, ValueError, struct.error, ...
            try:
                with _quiet_libtiff(image):
                    image.load()
                rgb, turned = to_rgb(image), UPRIGHT.get(orientation(image))
                several = _has_more(image)
            except Exception as error:
                raise _damaged(path, error) from error
            image.close()  # before the photo is there once more, turned
        upright = rgb if turned is None else rgb.transpose(turned)
    if several:
        _log.info("%s holds several pictures; the first one is used", path)
    return Photo(upright, path, hashlib.sha256(data).hexdigest(), data)


def _bytes_a_pixel(image: Image.Image) -> int:
    """What decoding takes at the most."""
    if image.info.get("progressive"):
        return _BYTES_PROGRESSIVE
    return _BYTES_OF_FORMAT.get(image.format or "", _BYTES_A_PIXEL)


def _most_pixels(image: Image.Image, each: int) -> int:
    """Of a photo of the format of `image`, whose pixels take `each` bytes."""
    if any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ())):
        return _SLOW_PIXELS
    return _MAX_PIXELS if each == _BYTES_A_PIXEL else _MOST_MEMORY // each


def _has_more(image: Image.Image) -> bool:
    """Whether there is a second picture; not how many, for which a hundred thousand would be read."""
    try:
        image.seek(1)
    except Exception:  # no more, or a damaged one
        return False
    return True


def to_tensor(image: Image.Image) -> torch.Tensor:
    """`image` as float32 [1, 3, H, W] in [-1, 1]."""
    import torch

    pixels = torch.from_numpy(np.array(image.convert("RGB")))  # [H, W, 3]
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def resize_batch(images: torch.Tensor, width: int) -> torch.Tensor:
    """Images [N, 3, H, W] bilinearly resized to `width`, in their own shape, antialiased where they shrink."""
    import torch.nn.functional as F

    if images.shape[-1] == width:
        return images
    size = (round(images.shape[-2] * width / images.shape[-1]), width)
    return F.interpolate(images, size=size, mode="bilinear", antialias=images.shape[-1] > width)


def picture_part(images: torch.Tensor, output_crop: tuple[float, float, float, float]) -> torch.Tensor:
    """The part of square images [..., R, R] that is picture (see `Domain.output_crop`): a view."""
    left, top, right, bottom = picture_box(output_crop, images.shape[-1])
    return images[..., top:bottom, left:right]


def to_image(tensor: torch.Tensor) -> Image.Image:
    """The RGB image of `tensor`, [3, H, W] in [-1, 1] of any float type; values outside are clamped."""
    pixels = ((tensor.detach().cpu().float() + 1) * 127.5).round().clamp(0, 255)
    return Image.fromarray(pixels.byte().permute(1, 2, 0).contiguous().numpy())


def save_image(image: Image.Image, path: Path | str) -> None:
    """Write `image` in the format of the path's suffix, complete or not at all. Raises UsageError, OutputError."""
    path = Path(path)
    data = encode_image(image, path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def encode_image(image: Image.Image, path: Path, **parameters: Any) -> bytes:
    """`image` in the format of the path's suffix; `parameters` are Pillow's. Raises UsageError, OutputError."""
    if path.suffix.lower() not in _SAVERS:
        raise UsageError(f"cannot tell an image format from '{path}'; end the name in {', '.join(_SAVERS)}")
    name, usual = _SAVERS[path.suffix.lower()]
    if name == "HEIF" and not knows_heif():
        raise UsageError(f"{path} is to be HEIC: run `pip install pillow-heif`, or save it as .jpg")
    encoded = io.BytesIO()
    try:
        image.save(encoded, format=name, **{**usual, **parameters})
    except KeyError:  # Pillow before 11.3 and AVIF
        hint = f"run `pip install --upgrade pillow`, or save {path} as .jpg"
        raise UsageError(f"this Pillow cannot write {name}; {hint}") from None
    except (OSError, ValueError) as error:  # a picture larger than the format allows, a mode it does not have
        raise OutputError(f"cannot write {path} as {name}: {reason_of(error)}; save it as .png") from error
    return encoded.getvalue()


def image_grid(
    images: Sequence[Image.Image], columns: int, captions: Sequence[str] | None = None, gap: int = 4
) -> Image.Image:
    """`images` on white in rows of `columns`, `gap` pixels apart, each over its caption.

    Cells are as large as the largest image, smaller ones are centred; a caption wider than its
    cell is shortened. Raises UsageError when there is no image or captions do not match in number.
    """
    if not images or columns < 1:
        raise UsageError("a grid needs at least one image and one column")
    if captions is not None and len(captions) != len(images):
        raise UsageError(f"{len(images)} images but {len(captions)} captions; give one caption an image")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    width, height = max(image.width for image in images), max(image.height for image in images)
    font_size = _font_size(width)
    strip = font_size * 3 // 2 if captions else 0
    sheet_size = (columns * (width + gap) + gap, rows * (height + strip + gap) + gap)
    sheet = Image.new("RGB", sheet_size, (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=font_size)
    for index, image in enumerate(images):
        left = gap + index % columns * (width + gap)
        top = gap + index // columns * (height + strip + gap)
        sheet.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
        if captions:
            text = _shorten(captions[index], font, width)
            middle = (left + width / 2, top + height + strip / 2)
            draw.text(middle, text, fill=(0, 0, 0), font=font, anchor="mm")
    return sheet


def side_by_side(images: Sequence[Image.Image], captions: Sequence[str] | None = None, gap: int = 4) -> Image.Image:
    """`images` in one row; see `image_grid`."""
    return image_grid(images, max(len(images), 1), captions, gap)


def split_row(row: Image.Image, count: int, gap: int = 4) -> list[Image.Image]:
    """The `count` pictures of what `side_by_side` made with captions, without these."""
    width = (row.width - gap) // count - gap
    height = row.height - 2 * gap - _font_size(width) * 3 // 2
    return [row.crop((left, gap, left + width, gap + height)) for left in range(gap, row.width - width, width + gap)]


def _font_size(width: int) -> int:
    """Of captions below pictures `width` pixels wide."""
    return min(max(width // 12, 11), 28)


def read_photo(path: Path) -> bytes:
    """The bytes of a photo's file, which may lie in an archive (`album.zip/x.jpg`) or be a URL. Raises PhotoError."""
    if isinstance(path, RemotePath):
        return _fetch(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise PhotoError(f"{path} is a folder; name a photo in it")
        if not stat.S_ISREG(mode):
            raise PhotoError(f"{path} is not a file; save the photo to a file first")
        data = read_bytes(path, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        zipped = split_zip(path)
        if zipped is None:
            raise PhotoError(_missing(path)) from error
        data = read_member(*zipped)
    except PermissionError as error:
        raise PhotoError(f"no permission to read {path}; allow it with chmod +r, or copy the file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise PhotoError(f"cannot read {path!s}: {reason_of(error)}; copy it to another place") from error
    return data


def _fetch(path: RemotePath) -> bytes:
    zipped = split_zip(path)
    if zipped is not None:
        return read_member(*zipped)
    try:
        return read_bytes(path, MOST_BYTES)
    except FileNotFoundError as error:
        raise PhotoError(f"there is no file {path}; check the name") from error
    except OSError as error:
        raise PhotoError(f"cannot read {path}: {reason_of(error)}; try again") from error


def _is_visible(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _missing(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; check the path"
    try:
        names = {entry.name.lower(): entry.name for entry in path.parent.iterdir() if _is_visible(entry)}
    except OSError:
        names = {}
    if path.is_symlink():
        return f"{path} is a link to {path.readlink()}, which is not there; mend the link"
    near = [str(path.with_name(names[name])) for name in difflib.get_close_matches(path.name.lower(), names, n=3)]
    return f"there is no file {path}; " + (f"did you mean {' or '.join(near)}?" if near else "check the name")


def _open(data: bytes, path: Path) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        if "HEIF" not in Image.OPEN and data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
            if not knows_heif():
                raise PhotoError(f"{path} is HEIC: run `pip install pillow-heif`, or save it as JPEG") from None
            return _open(data, path)
        if data.startswith(_ARRAYS) or path.suffix in (".pt", ".pth", ".npz", ".npy", ".safetensors"):
            raise PhotoError(f"{path} is no image; if it holds latent codes, see stkit latents import") from error
        raise PhotoError(f"{path} is not an image, or its start is damaged; save it as JPEG or PNG") from error
    except Exception as error:
        raise _damaged(path, error) from error


def knows_heif() -> bool:
    """Teach Pillow HEIC for the rest of the process; False where pillow-heif is not installed."""
    if "HEIF" not in Image.OPEN:
        try:
            heif = importlib.import_module("pillow_heif")
        except ImportError:
            return False
        heif.register_heif_opener(thumbnails=False)
    return True


@contextlib.contextmanager
def _quiet_libtiff(image: Image.Image) -> Iterator[None]:
    """libtiff, and nothing else that Pillow uses, writes about damaged files straight to file descriptor 2."""
    if image.format != "TIFF":
        yield
        return
    with _stderr_lock, open(os.devnull, "wb") as null:
        saved = os.dup(2)
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _damaged(path: Path, error: Exception) -> PhotoError:
    return PhotoError(f"{path} is damaged or cut short ({reason_of(error)}); copy or download it again")


def _too_large(path: Path, most: int = _MAX_PIXELS) -> PhotoError:
    mend = "scale it down first" if most == _MAX_PIXELS else "scale it down, or save it as JPEG"
    return PhotoError(f"{path} has more than {most // 10**6} million pixels; {mend}")


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit sRGB without metadata, which would otherwise follow the picture into saved files."""
    original, profile = image, image.info.get("icc_profile")
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8bit(image)
    if image.has_transparency_data:
        layer, image = image, Image.new("RGB", image.size, (255, 255, 255))
        for box in _bands(layer):
            part = layer.crop(box).convert("RGBA")
            image.paste(part, box, mask=part.getchannel("A"))
        del layer
    if profile and image.mode in ("L", "RGB", "CMYK"):
        image = _to_srgb(image, profile)
    if image is original or image.mode != "RGB":
        image = image.convert("RGB")
    image.info = {}
    return image


def _bands(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of some rows each: what is made of large photos takes memory for a band alone."""
    for top in range(0, image.height, 256):
        yield 0, top, image.width, min(top + 256, image.height)


def _to_8bit(image: Image.Image) -> Image.Image:
    full = _full_scale(np.asarray(image.crop(box)) for box in _bands(image))
    result = Image.new("L", image.size)
    for box in _bands(image):
        values = _finite(np.asarray(image.crop(box)))
        result.paste(Image.fromarray(np.rint(np.clip(values / full, 0, 1) * 255).astype(np.uint8)), box)
    return result


def full_scale(values: np.ndarray) -> float:
    """The value that stands for white in the pixels of a 16-bit, 32-bit or float image."""
    return _full_scale([values])


def _full_scale(parts: Iterable[np.ndarray]) -> float:
    high, kind = -math.inf, "u"
    for values in parts:
        high, kind = max(high, float(_finite(values).max())), values.dtype.kind
    if kind == "f":
        # Resampling overshoots: a little above a full scale still belongs to it.
        return next((full for full in (1.0, 255.0, 65535.0) if high <= 2 * full), high)
    return max(65535.0, high)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        if image.mode == "RGB" and is_srgb(profile):
            return image
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError):  # a broken profile, or one of another colour space: as if there were none
        return image


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile of RGB is that of sRGB by its name; False for a broken one."""
    try:
        return "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError):
        return False


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that a loaded image still has to be turned by; see `UPRIGHT`."""
    # Read after load(): Pillow turns TIFFs itself and takes the tag away. Damaged EXIF is no reason to refuse.
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


__all__ = [
    "UPRIGHT",
    "Photo",
    "decode_photo",
    "encode_image",
    "full_scale",
    "image_grid",
    "is_srgb",
    "knows_heif",
    "load_photo",
    "orientation",
    "picture_part",
    "read_photo",
    "resize_batch",
    "save_image",
    "side_by_side",
    "split_row",
    "to_image",
    "to_rgb",
    "to_tensor",
]
