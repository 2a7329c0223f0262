"""The colours of a video: its tags, and HDR (PQ, HLG) brought down to what 8 bits of BT.709 can show.

PQ is SMPTE ST 2084 and HLG ARIB STD-B67, as ITU-R BT.2100 gives them; graphics white is at 203 cd/m2 (BT.2408).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stkit.errors import PhotoError

RGB, BT709, UNSPECIFIED, BT2020, PQ, HLG = 0, 1, 2, 9, 16, 18
_MATRICES = (RGB, BT709, UNSPECIFIED, 4, 5, 6, 7, BT2020)
"""Those that FFmpeg's scaler turns into RGB."""
_EXACT = 4 | 0x2000 | 0x40000
"""Its flags bicubic, full_chroma_int, accurate_rnd: without them every way through it darkens by a level and more."""
_WHITE = 203.0  # cd/m2
_HLG_PEAK = 1000.0  # cd/m2 of the display that HLG is shown on
_KNEE = 0.7  # of white: what is darker keeps its brightness
_STEPS = 4096  # of code values, as many as 12 bits have
_TO_BT709 = {
    BT709: np.eye(3, dtype=np.float32),
    BT2020: np.array(
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
        np.float32,
    ),
    12: np.array(
        [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]], np.float32
    ),
}
"""From light of those primaries, of which 12 is Display P3."""
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)


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
        return replace(self, bits=8)


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


def to_sdr(codes: np.ndarray, transfer: int, primaries: int = BT2020) -> np.ndarray:
    """RGB codes in PQ or HLG, uint16 [H, W, 3], as uint8 of BT.709 [H, W, 3] with gamma 2.4.

    Up to 70% of graphics white brightness stays as it is; what is brighter nears white, in its own hue.
    """
    light = _light(transfer)[codes >> 4]  # 1 is graphics white
    if transfer == HLG:
        light *= (_HLG_PEAK / _WHITE) * np.maximum(light @ _LUMA_2020, 1e-6)[..., None] ** 0.2
    light = np.maximum(light @ _TO_BT709.get(primaries, _TO_BT709[BT2020]).T, 0)
    peak = light.max(-1, keepdims=True)
    rolled = _KNEE + (1 - _KNEE) * (1 - np.exp(-(peak - _KNEE) / (1 - _KNEE)))
    light *= np.where(peak > _KNEE, rolled, peak) / np.maximum(peak, 1e-6)
    encoded: np.ndarray = np.rint(255 * np.clip(light, 0, 1) ** (1 / 2.4)).astype(np.uint8)
    return encoded


@functools.cache
def _light(transfer: int) -> np.ndarray:
    """Light by code value [_STEPS]: of PQ in units of graphics white, of HLG of the scene, 0 to 1."""
    code = np.arange(_STEPS) / (_STEPS - 1)
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        light = 10_000 / _WHITE * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return light.astype(np.float32)


__all__ = [
    "BT709",
    "HLG",
    "PQ",
    "Colours",
    "colours_of",
    "frame_of",
    "picture_of",
    "require_known",
    "tag_stream",
    "to_sdr",
]
