"""dlib's HOG detector and 68 landmarks (King 2009; Kazemi and Sullivan, CVPR 2014)."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
from PIL import Image

from stkit.contracts.domains import Subject
from stkit.contracts.framing import AlignmentTemplate
from stkit.errors import UsageError
from stkit.photo.alignment import ffhq_transform, points_transform
from stkit_faces.fitness import MIN_SCORE, face_problems
from stkit_faces.model_files import import_dlib, model_file

_DETECTION_SIDE = 1024  # pixels of the longer side in the first search
_LANDMARK_BOX = 256  # width in pixels of the box that landmarks are found in; dlib rounds them to whole pixels
_SHIFT = round(0.08 * _LANDMARK_BOX)

# FACES_TEMPLATE was made with MediaPipe's points. dlib's lie lower by this share of the distance between the eyes:
# 0.75 px of the template on average over 596 training crops. Scale differs by only 0.3%, rotation and x by nothing.
_DLIB_BELOW = 0.014


def find_faces(photo: Image.Image) -> list[Subject]:
    """See `FacesDomain.locate`."""
    with _loading:  # a folder's photos come in several threads, and the predictor is 100 MB
        detector, predictor = _detector(), _predictor()
    dlib = import_dlib()
    scale = min(1.0, _DETECTION_SIDE / max(photo.size))
    boxes, scores = _detect(detector, photo, scale)
    if not len(boxes):
        boxes, scores = _detect(detector, photo, 2 * scale)
    limit = np.tile(np.array(photo.size) - 1.0, 2)
    subjects = []
    for box, score in zip(boxes, scores, strict=True):
        left, top, right, bottom = np.clip(box, 0.0, limit).tolist()
        landmarks = _landmarks(dlib, predictor, photo, box)
        problems = face_problems(photo, landmarks, float(score))
        doubtful = float(score) < MIN_SCORE
        subjects.append(Subject((left, top, right, bottom), landmarks, float(score), problems, doubtful))
    return sorted(subjects, key=lambda subject: (subject.doubtful, -subject.area))


def face_in_box(photo: Image.Image, box: tuple[float, float, float, float]) -> Subject:
    """See `FacesDomain.subject_from_box`: the landmarks that fit best in a box, whatever it holds."""
    landmarks = fit_landmarks(photo, _square(np.array(box)))
    return Subject(box, landmarks, 1.0, face_problems(photo, landmarks, 1.0))


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
    problems = face_problems(photo, landmarks, 1.0) if len(landmarks) == 68 else ()
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


_local = threading.local()
_loading = threading.Lock()


def _detector() -> Any:
    """One detector a thread: it keeps its pyramid in itself, and runs without Python's lock."""
    if not hasattr(_local, "detector"):
        _local.detector = import_dlib().get_frontal_face_detector()
    return _local.detector


@functools.cache
def _predictor() -> Any:
    return import_dlib().shape_predictor(str(model_file("shape_predictor_68_face_landmarks.dat")))


def fit_landmarks(photo: Image.Image, box: np.ndarray) -> np.ndarray:
    """iBUG 300-W's landmarks [68, 2] of the face in `box` (left, top, right, bottom), all in pixels of an RGB photo.

    The box is as dlib's detector gives it; that there is a face in it is taken for granted. Raises MissingPackageError.
    """
    return _landmarks(import_dlib(), _predictor(), photo, box)


def _detect(detector: Any, photo: Image.Image, scale: float) -> tuple[np.ndarray, list[float]]:
    """Boxes [N, 4] in photo pixels and scores, searched in the photo resized by `scale`."""
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    resized = photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    found, scores, _ = detector.run(np.asarray(resized), 0, 0.0)
    boxes = np.array([(r.left(), r.top(), r.right(), r.bottom()) for r in found], float).reshape(-1, 4)
    shrink = np.tile(np.divide(photo.size, size), 2)
    return (boxes + 0.5) * shrink - 0.5, list(scores)


def _square(box: np.ndarray) -> np.ndarray:
    """The square around the middle of `box` [4] with its mean side: the shape of dlib's own boxes."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).mean() / 2
    return np.concatenate([centre - half, centre + half])


def _landmarks(dlib: Any, predictor: Any, photo: Image.Image, box: np.ndarray) -> np.ndarray:
    """Landmarks [68, 2] in photo pixels, found in a patch of the photo whose face is _LANDMARK_BOX wide."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    low = np.maximum(np.floor(centre - 2 * half), 0).astype(int)
    high = np.minimum(np.ceil(centre + 2 * half), photo.size).astype(int)
    size = np.maximum(1, np.round((high - low) * (_LANDMARK_BOX / (2 * half[0])))).astype(int)
    patch = photo.resize((int(size[0]), int(size[1])), Image.Resampling.BICUBIC, (*low.tolist(), *high.tolist()))
    zoom = size / (high - low)
    left, top, right, bottom = np.round((box.reshape(2, 2) - low + 0.5) * zoom - 0.5).astype(int).ravel().tolist()
    pixels = np.asarray(patch)
    # The predictor starts from the box and at times goes astray: the median over moved boxes is steadier.
    shapes = [
        predictor(pixels, dlib.rectangle(left + x, top + y, right + x, bottom + y)).parts()
        for x in (-_SHIFT, 0, _SHIFT)
        for y in (-_SHIFT, 0, _SHIFT)
    ]
    points = np.median([[(point.x, point.y) for point in shape] for shape in shapes], axis=0)
    return (points + 0.5) / zoom - 0.5 + low


__all__ = [
    "face_from_landmarks",
    "face_in_box",
    "find_faces",
    "fit_landmarks",
    "frame_face",
    "template_points",
]
