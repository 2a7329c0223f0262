"""Paste-back: an edited crop put into the photo that it came from, at the photo's own resolution.

A blend says, in crop space, what to add to the photo and what share of its own pixels to take away:
`photo * (1 - less) + more`. Both maps are zero at the crop's border and are warped to the photo, so
every pixel outside the blended region stays as it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from PIL import Image, ImageChops

from stkit.contracts.framing import WHOLE
from stkit.errors import UsageError
from stkit.photo.alignment import crop_photo

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from stkit.photo.reading import Photo

    Maps = tuple[np.ndarray, np.ndarray]
    Box = tuple[int, int, int, int]

Blend = Literal["auto", "residual", "replace", "poisson"]
BLENDS: tuple[Blend, ...] = get_args(Blend)

_STRIP = 256  # rows of the photo that are worked on at a time
_ROWS = 32  # of them, where each is there as floats several times
_FEATHER = 0.35, 0.12  # of the half width of the region: where the reconstruction is another picture, and the photo's
_CORNERS = 2.5, 8.0  # exponent of the region's outline, a superellipse, for both
_LIGHT = 0.35  # of the half width: where an edit changes the light alone, its border shows over a shorter way
_ALIKE = 32.0, 14.0  # levels: root mean square difference of photo and unedited reconstruction, for both
_STRONG = (
    8.0,
    32.0,
)  # levels: how much the structure changes where the photo's own detail fades, none to all of it


def parse_blend(text: str) -> Blend:
    """A blend by name. Raises UsageError."""
    for blend in BLENDS:
        if text == blend:
            return blend
    raise UsageError(f"no blend '{text}'; there is: {', '.join(BLENDS)}")


def paste_back(
    photo: Photo | Image.Image,
    transform: np.ndarray,
    before: Tensor | Image.Image,
    after: Tensor | Image.Image,
    output_crop: tuple[float, float, float, float] = WHOLE,
    blend: Blend = "auto",
) -> Image.Image:
    """The upright RGB photo with the edit in it, of the photo's size.

    `transform` [2, 3] takes crop to photo pixels; `before` and `after` are the unedited and the edited
    reconstruction, tensors [3, R, R] about [-1, 1] or images R x R; `output_crop` is the part of them
    that is picture (see `Domain.output_crop`). Blends:

    - "residual": the difference of the two reconstructions is added to the photo's own pixels; where the
      edit is strong, the photo's finer detail fades with it, so that no edge is seen twice. Without a
      difference the photo is given back unchanged.
    - "replace": the edited reconstruction itself, its colours matched as the unedited one needs it.
    - "poisson": the same's gradients, with the photo's colours on the region's border
      (Pérez et al., "Poisson Image Editing", SIGGRAPH 2003).

    - "auto": as "residual"; but the closer the reconstruction is to the photo, the more the edited reconstruction
      itself stands where the edit moves something, in the photo's light, so that no trace is left of what was there.

    Raises UsageError for another blend, or crops of different sizes.
    """
    image = (photo if isinstance(photo, Image.Image) else photo.image).copy()
    paste_into(image, transform, before, after, output_crop, blend)
    return image


def paste_into(
    image: Image.Image,
    transform: np.ndarray,
    before: Tensor | Image.Image,
    after: Tensor | Image.Image,
    output_crop: tuple[float, float, float, float] = WHOLE,
    blend: Blend = "auto",
) -> Box | None:
    """`paste_back` into `image` itself: of the largest photos there is no room for another; the part that changed."""
    return Place.of(image, transform, before, output_crop).paste_into(image, after, blend)


@dataclass(frozen=True, eq=False)
class Place:
    """A subject's place in a photo: all of pasting that no edit changes, and that takes most of the time.

    `own` [R, R, 3] are the photo's pixels in the crop, `old` those of the unedited reconstruction, 0 to 255;
    `window` [R, R] is where they are blended, `light` [R, R] the same for what changes the light alone, and `alike` how
    much they are the same picture, 0 to 1.
    """

    transform: np.ndarray
    own: np.ndarray
    old: np.ndarray
    window: np.ndarray
    light: np.ndarray
    alike: float

    @classmethod
    def of(
        cls,
        image: Image.Image,
        transform: np.ndarray,
        before: Tensor | Image.Image,
        output_crop: tuple[float, float, float, float] = WHOLE,
    ) -> Place:
        """The place in `image`; arguments are as for `paste_back`."""
        old, transform = _pixels(before), np.asarray(transform, float)
        size = old.shape[1]
        own = _pixels(crop_photo(image, transform, size))
        window = light = feathered_window(size, output_crop)
        if alike := _likeness(own, old, window):
            window = feathered_window(size, output_crop, alike)
            light = feathered_window(size, output_crop, alike, _LIGHT)
        return cls(transform, own, old, window, light, alike)

    def paste(self, image: Image.Image, after: Tensor | Image.Image, blend: Blend = "auto") -> Image.Image:
        """`image` with the edited reconstruction in it; see `paste_back`. Raises UsageError."""
        result = image.copy()
        self.paste_into(result, after, blend)
        return result

    def paste_into(self, image: Image.Image, after: Tensor | Image.Image, blend: Blend = "auto") -> Box | None:
        """Put the edited reconstruction into `image`; see `paste_into`. Raises UsageError."""
        new = _pixels(after)
        if self.old.shape != new.shape:
            raise UsageError(
                f"the crop is {new.shape[1]} px edited and {self.old.shape[1]} px unedited; give both in one size"
            )
        more, less = _BLENDS[parse_blend(blend)](self, new)
        return _apply(image, self.transform, more, less)


def feathered_window(
    size: int,
    output_crop: tuple[float, float, float, float] = WHOLE,
    alike: float = 0.0,
    feather: float | None = None,
) -> np.ndarray:
    """Weights [size, size]: 1 in the middle of `output_crop`, smoothly 0 at its border and outside.

    `alike`, 0 to 1, says how much the unedited reconstruction is the photo: the more, the further the middle reaches,
    so that hair and outlines, which move with the head, are not cut. `feather` is how wide the border is, in half
    widths, where it should not depend on that.
    """
    left, top, right, bottom = (share * size for share in output_crop)
    place = np.arange(size) + 0.5
    x = (2 * place - left - right) / (right - left)
    y = (2 * place - top - bottom) / (bottom - top)
    usual, corners = (near + alike * (far - near) for near, far in (_FEATHER, _CORNERS))
    radius = (np.abs(x)[None, :] ** corners + np.abs(y)[:, None] ** corners) ** (1 / corners)
    # The last two pixels are left out: interpolation reaches that far.
    edge = 1 - 4 / min(right - left, bottom - top)
    return _smoothstep((edge - radius) / (usual if feather is None else feather)).astype(np.float32)


def _likeness(own: np.ndarray, old: np.ndarray, window: np.ndarray) -> float:
    """0 where the reconstruction `old` is another picture than the photo's `own` crop, 1 where it is the same."""
    difference = math.sqrt(float((np.square(own - old).mean(-1) * window).sum() / window.sum()))
    most, least = _ALIKE
    return float(_smoothstep(np.asarray((most - difference) / (most - least))))


def _residual(place: Place, new: np.ndarray) -> Maps:
    change = new - place.old
    fade = _moved(change)
    weight = place.window[..., None]
    more = weight * (change + fade * place.own)
    if place.light is not place.window:
        # The light of what does not move: a background that is a little brighter has a border that one sees.
        slow = (1 - fade) * _blur_channels(change, len(change) / 20)
        more += (place.light[..., None] - weight) * slow
    return more, weight * fade


def _auto(place: Place, new: np.ndarray) -> Maps:
    more, less = _residual(place, new)
    if not place.alike:
        return more, less
    # What the reconstruction lacks of the photo, but its light, belongs to what was there before.
    lacking = place.own - place.old
    return more - place.alike * less * (lacking - _blur_channels(lacking, len(lacking) / 20)), less


def _moved(change: np.ndarray) -> np.ndarray:
    """How much the structure changes [H, W, 1], 0 to 1: what moves edges, and not what only changes light."""
    # Blurred, so that detail fades around them too.
    moved = change - _blur_channels(change, len(change) / 10)
    strength = _blur(np.abs(moved).max(-1), len(change) / 40)
    return _smoothstep((strength - _STRONG[0]) / (_STRONG[1] - _STRONG[0]))[..., None]


def _blur_channels(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.dstack([_blur(channel, sigma) for channel in np.moveaxis(image, -1, 0)])


def _replace(place: Place, new: np.ndarray) -> Maps:
    weight = place.window[..., None]
    return weight * _match_colours(place, new), weight


def _poisson(place: Place, new: np.ndarray) -> Maps:
    weight = _smoothstep(place.window / 0.2)[..., None]
    new = _match_colours(place, new)
    return weight * (new + _membrane(place.own - new, place.window > 0.02)), weight


_BLENDS: dict[Blend, Callable[[Place, np.ndarray], Maps]] = {
    "auto": _auto,
    "residual": _residual,
    "replace": _replace,
    "poisson": _poisson,
}


def _match_colours(place: Place, new: np.ndarray) -> np.ndarray:
    """`new` with each channel's gain and offset that bring what was there to the photo's mean and spread."""
    own, old, window = place.own, place.old, place.window
    weight = window[..., None] / window.sum()
    mean_own, mean_old = (weight * own).sum((0, 1)), (weight * old).sum((0, 1))
    spread_own = np.sqrt((weight * (own - mean_own) ** 2).sum((0, 1)))
    spread_old = np.sqrt((weight * (old - mean_old) ** 2).sum((0, 1)))
    gain = np.clip(spread_own / np.maximum(spread_old, 1.0), 0.5, 2.0)
    return (new - mean_old) * gain + mean_own


def _membrane(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """`values` [H, W, C] kept where not `inside`, and there the harmonic function that continues them."""
    import scipy.sparse
    import scipy.sparse.linalg

    count = int(inside.sum())
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(count)
    rows, columns = np.nonzero(inside)
    target = np.zeros((count, values.shape[2]))
    pairs = []
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        neighbour = rows + down, columns + right
        index = number[neighbour]
        free = index >= 0
        pairs.append((np.arange(count)[free], index[free]))
        target[~free] += values[neighbour][~free]
    row, column = (np.concatenate(part) for part in zip(*pairs, strict=True))
    links = scipy.sparse.coo_matrix((np.ones(len(row)), (row, column)), (count, count))
    system = (4 * scipy.sparse.identity(count) - links).tocsc()
    result = values.copy()
    result[inside] = scipy.sparse.linalg.splu(system).solve(target)
    return result


def _apply(image: Image.Image, transform: np.ndarray, more: np.ndarray, less: np.ndarray) -> Box | None:
    changed_boxes = []
    maps = [np.ascontiguousarray(channel, np.float32) for channel in np.moveaxis(np.dstack([more, less]), -1, 0)]
    maps, transform = _reduced(maps, transform)
    for box in strips(_bounds(transform, maps[0].shape, image.size)):
        warped = np.dstack([_warp(channel, transform, box) for channel in maps])
        for part in strips(box, _ROWS):
            old = image.crop(part)
            of_part = warped[part[1] - box[1] : part[3] - box[1]]
            changed = np.asarray(old, np.float32) * (1 - of_part[..., 3:]) + of_part[..., :3]
            new = Image.fromarray(np.rint(np.clip(changed, 0, 255)).astype(np.uint8))
            image.paste(new, part[:2])
            changed_boxes.append(difference(old, new, part[:2]))
    return union(changed_boxes)


def _reduced(maps: list[np.ndarray], transform: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Maps no finer than the photo, so that warping them cannot alias, and the transform that fits them."""
    size = len(maps[0])
    scale = float(np.hypot(*transform[:, 0]))
    if scale >= 1:
        return maps, transform
    smaller = max(1, math.ceil(size * scale))
    ratio = size / smaller
    shrunk = [np.asarray(Image.fromarray(m).resize((smaller, smaller), Image.Resampling.HAMMING)) for m in maps]
    linear = transform[:, :2] * ratio
    shift = transform[:, 2] + transform[:, :2] @ np.full(2, (ratio - 1) / 2)
    return shrunk, np.hstack([linear, shift[:, None]])


def _bounds(transform: np.ndarray, shape: tuple[int, ...], photo_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of the photo (left, top, right, bottom) that a crop of `shape` covers."""
    height, width = shape
    corners = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [-0.5, height - 0.5], [width - 0.5, height - 0.5]])
    quad = corners @ transform[:, :2].T + transform[:, 2] + 0.5
    low = np.clip(np.floor(quad.min(0)), 0, photo_size).astype(int)
    high = np.clip(np.ceil(quad.max(0)), 0, photo_size).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def strips(box: tuple[int, int, int, int], rows: int = _STRIP) -> Iterator[tuple[int, int, int, int]]:
    """The rows of a box (left, top, right, bottom), some at a time: floats of a whole large photo take gigabytes."""
    left, top, right, bottom = box
    if left < right:
        for start in range(top, bottom, rows):
            yield left, start, right, min(start + rows, bottom)


def difference(one: Image.Image, other: Image.Image, corner: tuple[int, int] = (0, 0)) -> Box | None:
    """The box in which two pictures of one size differ, that lie at `corner`; None where they do not."""
    found = []
    for box in strips((0, 0, *one.size)):
        differing = ImageChops.difference(one.crop(box), other.crop(box)).getbbox()
        if differing is not None:
            x, y = corner[0], corner[1] + box[1]
            found.append((x + differing[0], y + differing[1], x + differing[2], y + differing[3]))
    return union(found)


def union(boxes: Iterable[Box | None]) -> Box | None:
    """The smallest box around those that are there; None where none is."""
    found = [box for box in boxes if box is not None]
    if not found:
        return None
    left, top, right, bottom = zip(*found, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _warp(channel: np.ndarray, transform: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """`channel` [R, R] of the crop as the photo's pixels in `box` see it, bicubic, 0 outside."""
    inverse = np.linalg.inv(transform[:, :2])
    # PIL wants output-to-input in coordinates whose pixel centres are at +0.5.
    corner = np.array(box[:2], float) - 0.5 - transform[:, 2]
    shift = inverse @ corner + 0.5
    data = (inverse[0, 0], inverse[0, 1], shift[0], inverse[1, 0], inverse[1, 1], shift[1])
    size = (box[2] - box[0], box[3] - box[1])
    source = Image.fromarray(channel)
    return np.asarray(source.transform(size, Image.Transform.AFFINE, data, resample=Image.Resampling.BICUBIC))


def _pixels(picture: Tensor | Image.Image) -> np.ndarray:
    """Float pixels [H, W, 3], 0 to 255."""
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"), np.float32)
    values = picture.detach().cpu().float().clamp(-1, 1).permute(1, 2, 0).numpy()
    return (values + 1) * 127.5


def _blur(values: np.ndarray, radius: float) -> np.ndarray:
    """A Gaussian of standard deviation `radius`, with mirrored borders: [H, W] to the same, float32."""
    down, across = (_gaussian(size, radius) for size in values.shape)
    return down @ values.astype(np.float32) @ across.T


@functools.lru_cache(maxsize=8)
def _gaussian(size: int, radius: float) -> np.ndarray:
    """The matrix [size, size] that blurs a row; at 512 pixels it takes half the time of convolving rows."""
    reach = math.ceil(3 * radius)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(radius, 1e-6)) ** 2)
    kernel /= kernel.sum()
    source = np.pad(np.arange(size), reach, mode="symmetric")
    matrix = np.zeros((size, size))
    for offset, share in enumerate(kernel):
        matrix[np.arange(size), source[offset : offset + size]] += share
    return matrix.astype(np.float32)


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


__all__ = [
    "BLENDS",
    "Blend",
    "Place",
    "difference",
    "feathered_window",
    "parse_blend",
    "paste_back",
    "paste_into",
    "strips",
    "union",
]
