"""Photos read as people see them: upright, 8-bit sRGB, within bounds of memory; what cannot be read is said."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from stkit.errors import PhotoError, reason_of
from stkit.files import read_bytes
from stkit.photo import room
from stkit.photo.archives import read_member, split_zip
from stkit.photo.aside import is_large, turned
from stkit.photo.colour import to_rgb
from stkit.photo.hdr import HLG, PQ, picture_to_sdr
from stkit.photo.metadata import coding, knows_kind
from stkit.photo.ondisk import LARGE_FILE, OnDisk, PhotoBytes, fingerprint, head, opened, whole
from stkit.photo.suffixes import VIDEO_SUFFIXES
from stkit.remote import RemotePath, as_path

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
_DATA = (".pt", ".pth", ".pkl", ".npz", ".npy", ".safetensors", ".json", ".csv", ".mat", ".h5", ".bin", ".ckpt")
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


@dataclass(frozen=True)
class Photo:
    """A photo as people see it: `image` is upright 8-bit sRGB; `sha256` is of the file's bytes, in hex.

    `data` are those bytes, for `stkit.photo.writeback`, or the file that has them; empty for pictures that come from no
    file.
    """

    image: Image.Image
    path: Path
    sha256: str
    data: PhotoBytes = field(default=b"", repr=False)


def load_photo(path: Path | str) -> Photo:
    """Read anything that Pillow reads (HEIC too, where pillow-heif is installed) as an upright sRGB photo.

    EXIF orientation is applied and an embedded colour profile is converted to sRGB. Transparency is
    laid on white, as on a page. 16-bit values are scaled from their full range; floats are scaled
    from the smallest of 0-1, 0-255 and 0-65535 that holds them. Of an animation the first picture
    is taken, which is logged. Raises PhotoError.
    """
    path = as_path(path)
    return decode_photo(read_photo(path), path)


def decode_photo(data: PhotoBytes, path: Path) -> Photo:
    """`load_photo` of a file whose bytes are `data`; `path` is for messages. Raises PhotoError."""
    if data == b"":
        raise PhotoError(f"{path} is empty (zero bytes); copy or download it again")
    # What Pillow warns about (size, odd metadata) is either harmless or becomes a PhotoError here.
    with room.turn(), opened(data) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(file, path) as image:
            pixels, each = image.width * image.height, _bytes_a_pixel(image)
            if pixels > (most := _most_pixels(image, each)):
                raise _too_large(path, most)
            room.take((len(data) if isinstance(data, bytes) else 0) + pixels * each)
            # Decoders raise anything on a damaged file: OSError, SyntaxError, ValueError, struct.error, ...
            try:
                primaries, transfer = hdr_coding(data) or (0, 0)
                with _quiet_libtiff(image):
                    image.load()
                if transfer:
                    image.info.pop("icc_profile", None)
                turn, large = UPRIGHT.get(orientation(image)), is_large(image)
                rgb = to_rgb(image)
                if transfer:
                    picture_to_sdr(rgb, transfer, primaries)
                several = _has_another(data) if large else _has_more(image)
            except Exception as error:
                raise _damaged(path, error) from error
            image.close()  # before the photo is there once more, turned
        upright = rgb if turn is None else turned(rgb, turn, spend=True)
    if several:
        _log.info("%s holds several pictures; the first one is used", path)
    if transfer:
        _log.warning("%s is HDR; it is read as SDR, in 8 bits, and so an edit is written", path)
    return Photo(upright, path, fingerprint(data), data)


def read_photo(path: Path) -> PhotoBytes:
    """The bytes of a photo's file, which may lie in an archive (`album.zip/x.jpg`) or be a URL. Raises PhotoError.

    Those of a large file stay there.
    """
    if isinstance(path, RemotePath):
        return _fetch(path)
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            raise PhotoError(f"{path} is a folder; name a photo in it")
        if not stat.S_ISREG(state.st_mode):
            raise PhotoError(f"{path} is not a file; save the photo to a file first")
        if LARGE_FILE < state.st_size <= MOST_BYTES:
            path.open("rb").close()  # what may not be read is said at once, as of small files
            return OnDisk(path, state.st_size, state.st_mtime_ns)
        return read_bytes(path, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        zipped = split_zip(path)
        if zipped is None:
            raise PhotoError(_missing(path)) from error
        return read_member(*zipped)
    except PermissionError as error:
        raise PhotoError(f"no permission to read {path}; allow it with chmod +r, or copy the file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise PhotoError(f"cannot read {path!s}: {reason_of(error)}; copy it to another place") from error


def knows_heif() -> bool:
    """Teach Pillow HEIC for the rest of the process; False where pillow-heif is not installed."""
    if "HEIF" not in Image.OPEN:
        try:
            heif = importlib.import_module("pillow_heif")
        except ImportError:
            return False
        heif.register_heif_opener(thumbnails=False)
    return True


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that a loaded image still has to be turned by; see `UPRIGHT`."""
    # Read after load(): Pillow turns TIFFs itself and takes the tag away. Damaged EXIF is no reason to refuse.
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def hdr_coding(data: PhotoBytes) -> tuple[int, int] | None:
    """Primaries and transfer of a photo whose brightness is coded by PQ or HLG; None of all others."""
    said = coding(described(data))
    return said if said and said[1] in (PQ, HLG) else None


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


def _has_another(data: PhotoBytes) -> bool:
    """`_has_more` of a file whose image is closed."""
    with opened(data) as file, Image.open(file) as image:
        return _has_more(image)


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


def described(data: PhotoBytes) -> bytes:
    """What `stkit.photo.metadata` needs to see of a file: all of it, but of kinds that it does not know the head."""
    return whole(data) if knows_kind(start := head(data)) else start


def _open(file: BinaryIO, path: Path) -> Image.Image:
    try:
        return Image.open(file)
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        file.seek(0)
        start = file.read(16)
        if "HEIF" not in Image.OPEN and start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
            if not knows_heif():
                raise PhotoError(f"{path} is HEIC: run `pip install pillow-heif`, or save it as JPEG") from None
            return _open(file, path)
        if start.startswith(_ARRAYS) or path.suffix.lower() in _DATA:
            raise PhotoError(f"{path} is no image; if it holds latent codes, see stkit latents import") from error
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise PhotoError(f"{path} is a video or damaged; `stkit edit` edits videos, one at a time") from error
        raise PhotoError(f"{path} is not an image, or its start is damaged; save it as JPEG or PNG") from error
    except Exception as error:
        raise _damaged(path, error) from error


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


__all__ = [
    "MOST_BYTES",
    "UPRIGHT",
    "Photo",
    "decode_photo",
    "described",
    "hdr_coding",
    "knows_heif",
    "load_photo",
    "orientation",
    "read_photo",
]
