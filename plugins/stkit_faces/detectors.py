"""dlib's face detectors: HOG for frontal faces, and its CNN for those that HOG does not see (King 2009, 2015)."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from stkit_faces.model_files import import_dlib, model_file

HOG = "HOG"
CNN = "CNN"
MIN_SCORES = {HOG: 0.15, CNN: 0.4}
"""Of surely seen faces: clear ones have 0.5 and more with HOG, 0.9 and more with the CNN."""

_HOG_SIDE = 1024  # pixels of the longer side in the first search
_GROUP = 1 / 6  # of the longer side: the width of the largest face, below which smaller ones are searched for
_CNN_SIDES = (512, 1024)  # a second on one core, then four: the first sees faces from 15% of the longer side
_CNN_LEAST = 40  # pixels of the shorter side, below which dlib fails; no face that it sees is smaller
# The CNN's boxes as HOG's: of 60 portraits of portraits256, seen by both, shares of the CNN's width.
_CNN_GROW, _CNN_LOWER = 1.13, 0.127
_local = threading.local()


@dataclass(frozen=True, eq=False)
class Detection:
    """`box` [4] (left, top, right, bottom) in photo pixels, as HOG frames a face: from the brows to the chin."""

    box: np.ndarray
    score: float
    detector: str

    @property
    def sure(self) -> bool:
        """Whether the score is that of faces which are seen well."""
        return self.score >= MIN_SCORES[self.detector]


def detect_frontal(photo: Image.Image, groups: bool = True) -> list[Detection]:
    """The frontal faces; of half the size too, where the first search finds none.

    With `groups` also where it finds small ones alone: there may be others behind them.
    """
    detector = _kept("hog", lambda: import_dlib().get_frontal_face_detector())
    scale = min(1.0, _HOG_SIDE / max(photo.size))
    found = _hog(detector, photo, scale)
    widest = max((each.box[2] - each.box[0] for each in found), default=0.0)
    if not found or (groups and widest < _GROUP * max(photo.size)):
        found += [each for each in _hog(detector, photo, 2 * scale) if not overlaps(each, found)]
    return found


def detect_any(photo: Image.Image) -> list[Detection]:
    """Faces that may be turned, tilted or partly covered; a smaller size where the first search is sure of none."""
    path = str(model_file("mmod_human_face_detector.dat"))
    network = _kept("cnn", lambda: import_dlib().cnn_face_detection_model_v1(path))
    found: list[Detection] = []
    last = 0.0
    for side in _CNN_SIDES:
        scale = min(2.0, side / max(photo.size))
        if scale == last or scale * min(photo.size) < _CNN_LEAST:
            break
        last = scale
        resized, shrink = _resized(photo, scale)
        seen = [_cnn_detection(each, shrink) for each in network(np.asarray(resized), 0)]
        found = [*found, *(each for each in seen if not overlaps(each, found))]
        if any(each.sure for each in found):
            break
    return found


def overlaps(one: Detection, others: list[Detection]) -> bool:
    """Whether the box shares more than a third of the smaller one's area with another."""
    return any(_shared(one.box, other.box) > 1 / 3 for other in others)


def _shared(a: np.ndarray, b: np.ndarray) -> float:
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(inner / max(min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()), 1e-6))


def _kept(name: str, make: Any) -> Any:
    """One detector a thread: it keeps its pyramid in itself, and runs without Python's lock."""
    if not hasattr(_local, name):
        setattr(_local, name, make())
    return getattr(_local, name)


def _resized(photo: Image.Image, scale: float) -> tuple[Image.Image, np.ndarray]:
    """The photo, and what takes boxes in it to photo pixels."""
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    resized = photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return resized, np.tile(np.divide(photo.size, size), 2)


def _corners(rectangle: Any) -> np.ndarray:
    return np.array([rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom()], float)


def _hog(detector: Any, photo: Image.Image, scale: float) -> list[Detection]:
    resized, shrink = _resized(photo, scale)
    found, scores, _ = detector.run(np.asarray(resized), 0, 0.0)
    boxes = [(_corners(each) + 0.5) * shrink - 0.5 for each in found]
    return [Detection(box, float(score), HOG) for box, score in zip(boxes, scores, strict=True)]


def _cnn_detection(found: Any, shrink: np.ndarray) -> Detection:
    box = (_corners(found.rect) + 0.5) * shrink - 0.5
    width = box[2] - box[0]
    centre = (box[:2] + box[2:]) / 2 + (0, _CNN_LOWER * width)
    half = _CNN_GROW * width / 2
    return Detection(np.concatenate([centre - half, centre + half]), float(found.confidence), CNN)


__all__ = ["CNN", "HOG", "MIN_SCORES", "Detection", "detect_any", "detect_frontal", "overlaps"]
