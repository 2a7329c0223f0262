"""HDR (PQ, HLG) brought down to what 8 bits of BT.709 can show.

PQ is SMPTE ST 2084 and HLG ARIB STD-B67, as ITU-R BT.2100 gives them; graphics white is at 203 cd/m2 (BT.2408).
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

BT709, BT2020, PQ, HLG = 1, 9, 16, 18
"""Primaries and transfers as ITU-T H.273 numbers them."""
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


def picture_to_sdr(picture: Image.Image, transfer: int, primaries: int) -> None:
    """`to_sdr` of an RGB picture in its place, some rows at a time."""
    for top in range(0, picture.height, 64):
        box = (0, top, picture.width, min(top + 64, picture.height))
        codes = np.asarray(picture.crop(box), np.uint16) * 257
        picture.paste(Image.fromarray(to_sdr(codes, transfer, primaries)), box)


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


__all__ = ["BT709", "BT2020", "HLG", "PQ", "picture_to_sdr", "to_sdr"]
