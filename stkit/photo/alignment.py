"""Alignment: where a subject's landmarks go in the crop that a generator knows.

A matrix is 2x3 and takes crop pixel coordinates to photo pixel coordinates, both with the centre
of the top left pixel at (0, 0). Training data and photos go through the same functions.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from stkit.contracts.framing import AlignmentTemplate, picture_box
from stkit.errors import SubjectError

_BAND = 256  # rows of the photo that are reduced at a time


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity [2, 3] (rotation, uniform scale, shift) from `source` to `target`, [N, 2] each."""
    centre_s, centre_t = source.mean(0), target.mean(0)
    s, t = source - centre_s, target - centre_t
    norm = (s**2).sum()
    a = (s * t).sum() / norm
    b = (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum() / norm
    linear = np.array([[a, -b], [b, a]])
    return np.hstack([linear, (centre_t - linear @ centre_s)[:, None]])


def points_transform(landmarks: np.ndarray, template: AlignmentTemplate, resolution: int) -> np.ndarray:
    """Crop-to-photo matrix [2, 3] that puts `landmarks` [N, 2] (photo pixels) on the template's points."""
    scale = resolution / template.size
    # Pixel centres: coordinate c of a frame of n pixels lies at (c + 0.5) / n of its width.
    target = (np.asarray(template.points) + 0.5) * scale - 0.5
    return fit_similarity(target, np.asarray(landmarks, float))


def quad_transform(centre: np.ndarray, x_axis: np.ndarray, resolution: int) -> np.ndarray:
    """Crop-to-photo matrix [2, 3] of a square with half width vector `x_axis` around `centre` (photo pixels)."""
    y_axis = np.array([-x_axis[1], x_axis[0]])
    linear = np.stack([x_axis, y_axis], 1) * (2 / resolution)
    return np.hstack([linear, (centre - linear @ np.full(2, (resolution - 1) / 2))[:, None]])


def ffhq_transform(eyes: np.ndarray, mouth: np.ndarray, resolution: int) -> np.ndarray:
    """Crop-to-photo matrix [2, 3] of FFHQ's oriented square (Karras et al. 2019, dataset preparation).

    `eyes` and `mouth` are [2, 2] in photo pixels, left of the image first: the mean of each eye's
    six landmarks, and the mouth corners.
    """
    eye_centre, mouth_centre = eyes.mean(0), mouth.mean(0)
    across = eyes[1] - eyes[0]
    down = mouth_centre - eye_centre
    x_axis = across + np.array([down[1], -down[0]])
    x_axis /= np.hypot(*x_axis)
    x_axis *= max(np.hypot(*across) * 2.0, np.hypot(*down) * 1.8)
    return quad_transform(eye_centre + down * 0.1, x_axis, resolution)


def box_transform(
    box: tuple[float, float, float, float], template: AlignmentTemplate, resolution: int, max_cut: float
) -> np.ndarray:
    """Crop-to-photo matrix [2, 3] that fits `box` (photo pixels) to the template's picture by uniform scale, centred.

    The box covers the picture, but at most a share `max_cut` of its width or height is cut away for that
    (shared/data/README.md, cars, step 3).
    """
    left, top, right, bottom = box
    size = np.array([right - left, bottom - top])
    picture = np.asarray(template.points) * (resolution / template.size)  # [2, 2]: two corners
    scales = (picture[1] - picture[0]) / size  # crop pixels a photo pixel, by width and by height
    scale = max(scales) if max_cut >= 1 else min(max(scales), min(scales) / (1 - max_cut))
    centre = np.array([left + right, top + bottom]) / 2
    # Corners are pixel borders, the matrix is between pixel centres.
    shift = centre - 0.5 - (picture.mean(0) - 0.5) / scale
    return np.hstack([np.eye(2) / scale, shift[:, None]])


def frame_photo(
    image: Image.Image, transform: np.ndarray, resolution: int, output_crop: tuple[float, float, float, float]
) -> Image.Image:
    """The square crop that `transform` describes, black outside its picture part `output_crop`."""
    box = picture_box(output_crop, resolution)
    canvas = Image.new("RGB", (resolution, resolution))
    picture = crop_photo(image, picture_transform(transform, box), box[2] - box[0], box[3] - box[1])
    canvas.paste(picture, box[:2])
    return canvas


def picture_transform(transform: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Matrix [2, 3] from pixels of the part `box` of the crop to photo pixels."""
    moved = transform.copy()
    moved[:, 2] += transform[:, :2] @ np.array(box[:2])
    return moved


def crop_photo(image: Image.Image, transform: np.ndarray, width: int, height: int | None = None) -> Image.Image:
    """The crop that `transform` (crop to photo) describes, as an RGB image of `width` x `height` (square by default).

    Bicubic warp to 4 times the size, Lanczos reduction after it; the photo is first reduced where
    it is finer than that, and reflected outside its borders (shared/data/README.md, steps 2).
    Raises SubjectError for what is no part of the photo at all.
    """
    height = height or width
    oversample = 4
    if not np.isfinite(transform).all():
        raise SubjectError("where the subject is cannot be told from its landmarks; give others")
    # At most `oversample` photo pixels a crop pixel are left, so that the warp itself cannot alias.
    step = max(1, math.ceil(np.hypot(*transform[:, 0]) / oversample))
    corners = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [-0.5, height - 0.5], [width - 0.5, height - 0.5]])
    quad = corners @ transform[:, :2].T + transform[:, 2]
    margin = 8 * step
    _require_near(quad, transform, image.size)
    low, high = np.floor(quad.min(0)).astype(int) - margin, np.ceil(quad.max(0)).astype(int) + margin + 1
    patch = _reflected_patch(image, low, high, step)
    matrix = transform.copy()
    matrix[:, 2] -= low
    if step > 1:
        matrix = matrix / step
        matrix[:, 2] -= (step - 1) / (2 * step)
    # PIL wants output-to-input in coordinates whose pixel centres are at +0.5.
    big = matrix[:, :2] / oversample
    shift = matrix[:, 2] + 0.5 - matrix[:, :2] @ np.full(2, 0.5)
    data = (big[0, 0], big[0, 1], shift[0], big[1, 0], big[1, 1], shift[1])
    size = (width * oversample, height * oversample)
    warped = patch.transform(size, Image.Transform.AFFINE, data, resample=Image.Resampling.BICUBIC)
    return warped.resize((width, height), Image.Resampling.LANCZOS)


def _require_near(quad: np.ndarray, transform: np.ndarray, photo_size: tuple[int, int]) -> None:
    """Raise SubjectError for a crop with the corners `quad` that is far larger than its photo, or far from it."""
    size = np.array(photo_size)
    reach = 4 * size.max() + 256
    if (quad < -reach).any() or (quad > size + reach).any() or np.prod(np.ptp(quad, 0)) > 16 * size.prod() + 2**22:
        raise SubjectError("the subject would lie far outside the photo, or be many times as large; say where it is")
    if abs(np.linalg.det(transform[:, :2])) < 1e-9:
        raise SubjectError("the landmarks lie on one line, or in one point; give others")


def _reflected_patch(image: Image.Image, low: np.ndarray, high: np.ndarray, step: int) -> Image.Image:
    """Pixels [low, high) of `image`, mirrored where they lie outside it, reduced by `step`."""
    width, height = (int(size) for size in -((low - high) // step))
    patch = Image.new(image.mode, (width, height))
    for top in range(int(low[1]), int(high[1]), _BAND * step):
        band = _reflected_rows(image, (int(low[0]), top, int(high[0]), min(top + _BAND * step, int(high[1]))))
        patch.paste(band.reduce(step), (0, (top - int(low[1])) // step))
    return patch


def _reflected_rows(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """The part of `image` in `box`, mirrored where that lies outside."""
    left, top, right, bottom = box
    if left >= 0 and top >= 0 and right <= image.width and bottom <= image.height:
        return image.crop(box)
    columns, rows = _mirror(np.arange(left, right), image.width), _mirror(np.arange(top, bottom), image.height)
    corner = int(columns.min()), int(rows.min())
    array = np.asarray(image.crop((*corner, int(columns.max()) + 1, int(rows.max()) + 1)))
    return Image.fromarray(array[rows[:, None] - corner[1], columns[None, :] - corner[0]])


def _mirror(index: np.ndarray, size: int) -> np.ndarray:
    index = np.mod(index, 2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


def outside_share(transform: np.ndarray, width: int, height: int, photo_size: tuple[int, int]) -> float:
    """The share (0 to 1) of a `width` x `height` crop that lies outside the photo."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    points = np.stack([x, y], -1) @ transform[:, :2].T + transform[:, 2]
    limit = np.asarray(photo_size) - 0.5
    return float(((points < -0.5) | (points > limit)).any(-1).mean())


__all__ = [
    "box_transform",
    "crop_photo",
    "ffhq_transform",
    "fit_similarity",
    "frame_photo",
    "outside_share",
    "picture_transform",
    "points_transform",
    "quad_transform",
]
