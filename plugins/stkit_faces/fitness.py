"""What speaks against a face: too small, too turned, too blurred or hardly seen, each with its measure."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

MIN_EYE_DISTANCE = 20.0  # pixels of the photo; the shipped model's crops have 52
MAX_YAW = 35.0  # degrees; training faces have 15 at most
MIN_SHARPNESS = 0.005  # see `sharpness`; 60 validation images have 0.0056 or more, half of them 0.020
MAX_DISAGREEMENT = 0.1  # see `stkit_faces.landmarks.Shape`
_PROFILE = 55.0  # degrees from which a turned face is called a profile

# Distance of the nose tip from the head's axis, in units of half the jaw's width: fitted to the yaw of 120
# validation images of faces128 (correlation 0.97).
_NOSE = 1.4
_PATCH = 128
_LARGE = 2048  # px


def face_problems(
    photo: Image.Image, landmarks: np.ndarray, sure: bool = True, score: float = 1.0, disagreement: float = 0.0
) -> tuple[str, ...]:
    """One line for each thing wrong with the face of 68 `landmarks` [68, 2] (photo pixels); empty for a fit one.

    `sure` and `score` are the detector's, `disagreement` is that of a `Shape`.
    """
    problems = []
    between = eye_distance(landmarks)
    if between < MIN_EYE_DISTANCE:
        problems.append(f"too small: its eyes are {between:.0f} px apart ({MIN_EYE_DISTANCE:.0f} needed)")
    turned = yaw(landmarks)
    if abs(turned) > MAX_YAW:
        profile = "a profile, " if abs(turned) > _PROFILE else ""
        problems.append(f"{profile}too turned: by about {abs(turned):.0f} degrees ({MAX_YAW:.0f} at most)")
    if disagreement > MAX_DISAGREEMENT:
        problems.append(
            f"seen with uncertain landmarks, perhaps a profile or covered: they differ by {disagreement:.2f} "
            f"of the distance of the eyes ({MAX_DISAGREEMENT} at most)"
        )
    clear = sharpness(photo, landmarks)
    if clear < MIN_SHARPNESS:
        problems.append(f"too blurred: sharpness {clear:.4f} ({MIN_SHARPNESS:g} needed)")
    if not sure:
        problems.append(f"hardly seen, perhaps covered or no face: detector score {score:.2f}")
    return tuple(problems)


def eye_distance(landmarks: np.ndarray) -> float:
    """Pixels between the eyes' centres."""
    return float(np.hypot(*(landmarks[42:48].mean(0) - landmarks[36:42].mean(0))))


def yaw(landmarks: np.ndarray) -> float:
    """How far the head is turned, in degrees, about: positive when the nose points to the right of the image.

    From the nose tip's place between the two sides of the jaw, as on a cylinder.
    """
    tip, left, right = landmarks[30], landmarks[1:4].mean(0), landmarks[13:16].mean(0)
    across = right - left
    width = float(np.hypot(*across))
    if width < 1e-6:
        return 90.0
    place = 2 * float((tip - left) @ across) / width**2 - 1
    return math.degrees(math.atan(place / _NOSE))


def sharpness(photo: Image.Image, landmarks: np.ndarray) -> float:
    """Variance of the Laplacian over the variance of luminance, in the face's middle at 128 px.

    The same measure that shared/data/README.md drops blurred training images by.
    """
    centre = landmarks[27:48].mean(0)
    half = 0.8 * max(eye_distance(landmarks), 1.0)
    if half > 2 * _LARGE:
        step = int(half / _LARGE)
        return sharpness(photo.reduce(step), landmarks / step)
    left, top = np.floor(centre - half).astype(int) - 2
    right, bottom = np.ceil(centre + half).astype(int) + 2
    # In floats: on a smooth face rounding is detail enough to pass.
    part = photo.crop((int(left), int(top), int(right), int(bottom))).convert("RGB").convert("F")
    box = (*(centre - half - (left, top)), *(centre + half - (left, top)))
    pixels = np.asarray(part.transform((_PATCH, _PATCH), Image.Transform.EXTENT, box, Image.Resampling.BICUBIC), float)
    laplacian = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:] - 4 * pixels[1:-1, 1:-1]
    return float(laplacian.var() / max(pixels.var(), 1e-6))


__all__ = ["eye_distance", "face_problems", "sharpness", "yaw"]
