"""The colours of a video: its tags, which the edited clip keeps, but for HDR, which is brought down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stkit.errors import PhotoError
from stkit.photo.hdr import BT709, BT2020, HLG, PQ, to_sdr

RGB, UNSPECIFIED = 0, 2
_MATRICES = (RGB, BT709, UNSPECIFIED, 4, 5, 6, 7, BT2020)
"""Those that FFmpeg's scaler turns into RGB."""
_EXACT = 4 | 0x2000 | 0x40000
"""Its flags bicubic, full_chroma_int, accurate_rnd: without them every way through it darkens by a level and more."""


@dataclass(frozen=True)
class Colours:
    """The tags of a stream as ITU-T H.273 numbers them, and its bits a channel."""

    matrix: int
    primaries: int
    transfer: int
    range: int
    bits: int

    @property
    def hdr(self) -> bool:
        """Whether the brightness is coded by PQ or HLG."""
        return self.transfer in (PQ, HLG)

    def written(self) -> Colours:
        """Those of the edited clip: the same, or BT.709 where HDR was brought down or RGB becomes YUV."""
        if self.hdr:
            return Colours(BT709, BT709, BT709, 1, 8)
        if self.matrix == RGB:
            return replace(self, matrix=BT709, range=1, bits=8)
        return replace(self, matrix=BT709 if self.matrix == BT2020 and not _codes_bt2020() else self.matrix, bits=8)


def _codes_bt2020() -> bool:
    """PyAV before 18 takes BT.601 in its place, and says nothing."""
    from av.video.reformatter import Colorspace

    return BT2020 in {int(known) for known in Colorspace}


def colours_of(stream: Any) -> Colours:
    """Of an opened video stream."""
    context = stream.codec_context
    matrix, primaries, transfer = int(context.colorspace), int(context.color_primaries), int(context.color_trc)
    bits = max((component.bits for component in context.format.components), default=8) if context.format else 8
    return Colours(matrix, primaries, transfer, int(context.color_range), bits)


def tag_stream(stream: Any, colours: Colours) -> None:
    """Have a stream that is to be written say what its colours are."""
    context = stream.codec_context
    context.colorspace, context.color_range = colours.matrix, colours.range
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer


def require_known(colours: Colours, name: str) -> None:
    """Raise PhotoError for colours that would come out wrong: coded as YCgCo or ICtCp, say."""
    if colours.matrix not in _MATRICES:
        raise PhotoError(
            f"the colours of {name} are coded in a way that cannot be read here (matrix {colours.matrix} of H.273); "
            "convert it to BT.709 first"
        )


def picture_of(frame: Any, colours: Colours) -> np.ndarray:
    """A decoded frame as RGB, uint8 [H, W, 3]; HDR brought down to what a picture can show."""
    if not colours.hdr:
        rgb: np.ndarray = frame.to_ndarray(format="rgb24", interpolation=_EXACT)
        return rgb
    matrix = BT2020 if colours.matrix == UNSPECIFIED else None  # BT.2100 has no other
    codes = frame.to_ndarray(format="rgb48le", src_colorspace=matrix, interpolation=_EXACT)
    return to_sdr(codes, colours.transfer, colours.primaries)


def frame_of(picture: np.ndarray, pix_fmt: str, colours: Colours) -> Any:
    """RGB, uint8 [H, W, 3], as a frame in `pix_fmt` and `colours`."""
    from av import VideoFrame

    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(
        format=pix_fmt, dst_colorspace=colours.matrix, dst_color_range=colours.range, interpolation=_EXACT
    )


__all__ = [
    "Colours",
    "colours_of",
    "frame_of",
    "picture_of",
    "require_known",
    "tag_stream",
]
