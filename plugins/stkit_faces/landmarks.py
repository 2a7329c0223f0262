"""Faces with their 68 landmarks, by dlib's detectors and predictors (Kazemi and Sullivan, CVPR 2014)."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from stkit.plugin import AlignmentTemplate, Subject, UsageError, ffhq_transform, points_transform
from stkit_faces.detectors import CNN, Detection, detect_any, detect_frontal, overlaps
from stkit_faces.fitness import MAX_DISAGREEMENT, eye_distance, face_problems
from stkit_faces.model_files import import_dlib, model_file

logger = logging.getLogger("stkit")

_LANDMARK_BOX = 256  # width in pixels of the box that landmarks are found in; dlib rounds them to whole pixels
_SHIFT = round(0.08 * _LANDMARK_BOX)
_TURNS = (35, -35, 70, -70)  # degrees by which a face is turned upright where landmarks are not to be trusted

# dlib's box of a face from its landmarks, in units of their root mean square distance from their mean: medians
# of 147 portraits of portraits256.
_BOX_SHIFT, _BOX_WIDTH = np.array([0.0, -0.02]), 2.83
# The places of the 68 points in a mirror: jaw, brows, the nose's bridge and foot, eyes, lips outside and inside.
_MIRRORED = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), *(45, 44, 43, 42, 47, 46)]
_MIRRORED += [*(39, 38, 37, 36, 41, 40), *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65]

# FACES_TEMPLATE was made with MediaPipe's points. dlib's lie lower by this share of the distance between the eyes:
# 0.75 px of the template on average over 596 training crops. Scale differs by only 0.3%, rotation and x by nothing.
_DLIB_BELOW = 0.014


def find_faces(photo: Image.Image) -> list[Subject]:
    """See `FacesDomain.locate`."""
    found = detect_frontal(photo)
    if not any(each.sure for each in found):
        logger.info("no face seen from the front; searching with the CNN detector, which takes some seconds")
        others = detect_any(photo)
        found = [*others, *(each for each in found if not overlaps(each, others))]
        if not any(each.sure for each in others) and (turned := _faces_of_a_turned(photo)):
            return turned
    return _subjects(photo, found)


def _faces_of_a_turned(photo: Image.Image) -> list[Subject]:
    """What is clearly a face once the photo is turned by a quarter, or upside down, in pixels of `photo`."""
    for quarters in (1, 3, 2):
        turned = photo.rotate(90 * quarters, expand=True)
        sure = [each for each in detect_frontal(turned, groups=False) if each.sure]
        if clear := [subject for subject in _subjects(turned, sure) if not subject.problems]:
            logger.info("the photo seems to be turned by %d degrees", 90 * quarters)
            return [_turned_back(subject, quarters, turned.size) for subject in clear]
    return []


def _turned_back(subject: Subject, quarters: int, size: tuple[int, int]) -> Subject:
    """`subject` of a photo of `size` as that is turned clockwise by so many quarters."""
    points = np.concatenate([subject.landmarks, np.reshape(subject.box, (2, 2))])
    for step in range(quarters):
        height = size[(step + 1) % 2]
        points = np.stack([height - 1 - points[:, 1], points[:, 0]], 1)
    (left, top), (right, bottom) = points[-2:].min(0).tolist(), points[-2:].max(0).tolist()
    return dataclasses.replace(subject, box=(left, top, right, bottom), landmarks=points[:-2])


def find_frontal_faces(photo: Image.Image) -> list[Subject]:
    """See `FacesDomain.locate_quickly`."""
    return _subjects(photo, detect_frontal(photo, groups=False))


def _subjects(photo: Image.Image, found: list[Detection]) -> list[Subject]:
    subjects = [_subject(photo, each) for each in found]
    return sorted(subjects, key=lambda subject: (subject.doubtful, -subject.area))


def _subject(photo: Image.Image, found: Detection) -> Subject:
    box = found.box
    fit = fit_shape(photo, box)
    if found.detector == CNN:  # its boxes are coarse
        spread = np.sqrt(((fit.points - fit.points.mean(0)) ** 2).sum(1).mean())
        centre, half = fit.points.mean(0) + _BOX_SHIFT * spread, _BOX_WIDTH * spread / 2
        again = fit_shape(photo, np.concatenate([centre - half, centre + half]))
        fit = min(fit, again, key=lambda each: each.disagreement)
    problems = face_problems(photo, fit.points, found.sure, found.score, fit.disagreement)
    left, top, right, bottom = np.clip(box, 0.0, np.tile(np.array(photo.size) - 1.0, 2)).tolist()
    return Subject((left, top, right, bottom), fit.points, found.score, problems, not found.sure, found.detector)


def face_in_box(photo: Image.Image, box: tuple[float, float, float, float]) -> Subject:
    """See `FacesDomain.subject_from_box`: the landmarks that fit best in a box, whatever it holds."""
    fit = fit_shape(photo, _square(np.array(box)))
    return Subject(box, fit.points, 1.0, face_problems(photo, fit.points, disagreement=fit.disagreement))


def face_from_landmarks(photo: Image.Image, landmarks: np.ndarray) -> Subject:
    """See `FacesDomain.subject_from_landmarks`."""
    if len(landmarks) not in (4, 68):
        raise UsageError(
            f"a face has 68 landmarks (iBUG 300-W) or 4 (eyes, then mouth corners, left of the image first), "
            f"not {len(landmarks)}"
        )
    points = landmarks if len(landmarks) == 4 else template_points(landmarks)
    (left, top), (right, bottom) = landmarks.min(0).tolist(), landmarks.max(0).tolist()
    if np.hypot(*(points[1] - points[0])) < 1 or np.hypot(*(points[2:].mean(0) - points[:2].mean(0))) < 1:
        raise UsageError("the landmarks of the eyes and the mouth lie in one place; give them in photo pixels")
    problems = face_problems(photo, landmarks) if len(landmarks) == 68 else ()
    return Subject((left, top, right, bottom), landmarks, 1.0, problems)


def frame_face(landmarks: np.ndarray, template: AlignmentTemplate, resolution: int) -> np.ndarray:
    """See `FacesDomain.transform`; `landmarks` [68, 2], or the four points [4, 2] of FACES_TEMPLATE."""
    few = len(landmarks) == 4
    if template.kind == "ffhq":
        eyes = landmarks[:2] if few else np.stack([landmarks[36:42].mean(0), landmarks[42:48].mean(0)])
        return ffhq_transform(eyes, landmarks[[2, 3] if few else [48, 54]], resolution)
    if template.kind == "points" and len(template.points) == 4:
        return points_transform(landmarks if few else template_points(landmarks), template, resolution)
    raise UsageError(
        f"faces cannot be framed by a template of kind '{template.kind}' with {len(template.points)} points; "
        "use four points (eyes, mouth corners) or ffhq"
    )


def template_points(landmarks: np.ndarray) -> np.ndarray:
    """FACES_TEMPLATE's four points [4, 2] as MediaPipe would place them, from dlib's 68 landmarks [68, 2]."""
    eyes = np.stack([landmarks[[36, 39]].mean(0), landmarks[[42, 45]].mean(0)])
    points = np.concatenate([eyes, landmarks[[48, 54]]])
    across = eyes[1] - eyes[0]
    return points - _DLIB_BELOW * np.array([-across[1], across[0]])


_loading = threading.Lock()


@functools.cache
def _load_predictor() -> Any:
    return import_dlib().shape_predictor(str(model_file("shape_predictor_68_face_landmarks.dat")))


def _predictor() -> Any:
    with _loading:  # a folder's photos come in several threads, and the predictor is 100 MB
        return _load_predictor()


@dataclass(frozen=True, eq=False)
class Shape:
    """`points` [68, 2] in photo pixels; `disagreement` of the ways to find them, in distances of the eyes.

    It is the sum of two: that of predictions from boxes somewhat moved, and that of the mirrored picture. 98% of
    portraits have less than 0.1; near profiles, on which the points look like a frontal face's beside the real one,
    and places without a face have more.
    """

    points: np.ndarray
    disagreement: float


def fit_landmarks(photo: Image.Image, box: np.ndarray) -> np.ndarray:
    """iBUG 300-W's landmarks [68, 2] of the face in `box` (left, top, right, bottom), all in pixels of an RGB photo.

    The box is as dlib's detector gives it; that there is a face in it is taken for granted. Raises MissingPackageError.
    """
    return fit_shape(photo, box).points


def fit_shape(photo: Image.Image, box: np.ndarray) -> Shape:
    """`fit_landmarks`, with how far they can be trusted; of a tilted head, too, where upright ones cannot."""
    shape = _shape(photo, box, 0)
    if shape.disagreement <= MAX_DISAGREEMENT:
        return shape
    return min((shape, *(_shape(photo, box, turn) for turn in _TURNS)), key=lambda each: each.disagreement)


def _square(box: np.ndarray) -> np.ndarray:
    """The square around the middle of `box` [4] with its mean side: the shape of dlib's own boxes."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).mean() / 2
    return np.concatenate([centre - half, centre + half])


def _shape(photo: Image.Image, box: np.ndarray, turn: int) -> Shape:
    """The shape in a patch of the photo whose face is _LANDMARK_BOX wide, turned counterclockwise by `turn` degrees."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    low = np.maximum(np.floor(centre - 2 * half), 0).astype(int)
    high = np.minimum(np.ceil(centre + 2 * half), photo.size).astype(int)
    size = np.maximum(1, np.round((high - low) * (_LANDMARK_BOX / (2 * half[0])))).astype(int)
    patch = photo.resize((int(size[0]), int(size[1])), Image.Resampling.BICUBIC, (*low.tolist(), *high.tolist()))
    zoom = size / (high - low)
    pivot = (centre - low + 0.5) * zoom
    if turn:
        patch = patch.rotate(turn, Image.Resampling.BICUBIC, center=(float(pivot[0]), float(pivot[1])))
    corners = np.round((box.reshape(2, 2) - low + 0.5) * zoom - 0.5).astype(int).ravel()
    pixels = np.asarray(patch)
    # The predictor starts from the box and at times goes astray: the median over moved boxes is steadier.
    shapes = _shapes(_predictor(), pixels, corners)
    points = np.median(shapes, axis=0)
    between = max(eye_distance(points), 1.0)
    disagreement = float(np.median(np.hypot(*(shapes - points).transpose(2, 0, 1)).mean(1)) / between)
    right = patch.width - 1
    mirrored = np.array([right - corners[2], corners[1], right - corners[0], corners[3]])
    others = np.median(_shapes(_predictor(), np.ascontiguousarray(pixels[:, ::-1]), mirrored), axis=0)[_MIRRORED]
    others[:, 0] = right - others[:, 0]
    disagreement += float(np.hypot(*(others - points).T).mean() / between)
    if turn:
        angle = np.radians(turn)
        back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = (points + 0.5 - pivot) @ back.T + pivot - 0.5
    return Shape((points + 0.5) / zoom - 0.5 + low, disagreement)


def _shapes(predictor: Any, pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The points [9, 68, 2] that the predictor gives from the box and from eight moved ones."""
    rectangle = import_dlib().rectangle
    left, top, right, bottom = box.tolist()
    shapes = [
        predictor(pixels, rectangle(left + x, top + y, right + x, bottom + y)).parts()
        for x in (-_SHIFT, 0, _SHIFT)
        for y in (-_SHIFT, 0, _SHIFT)
    ]
    return np.array([[(point.x, point.y) for point in shape] for shape in shapes], float)


__all__ = [
    "Shape",
    "face_from_landmarks",
    "face_in_box",
    "find_faces",
    "find_frontal_faces",
    "fit_landmarks",
    "fit_shape",
    "frame_face",
    "template_points",
]
