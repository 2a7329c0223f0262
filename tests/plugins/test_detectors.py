"""Faces that are tilted or partly covered: found by the CNN where HOG sees none, and with landmarks to be trusted."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import stkit_faces.landmarks
from PIL import Image, ImageDraw
from stkit_faces.detectors import CNN, HOG, Detection, detect_any, detect_frontal, overlaps
from stkit_faces.domain import FacesDomain
from stkit_faces.fitness import MAX_DISAGREEMENT, eye_distance
from stkit_faces.landmarks import fit_shape

DOMAIN = FacesDomain()


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    return Image.open(path).convert("RGB").resize((256, 300), Image.Resampling.LANCZOS)


@pytest.fixture(scope="module")
def landmarks(portrait: Image.Image) -> np.ndarray:
    (face,) = DOMAIN.locate(portrait)
    assert face.detector == HOG
    return face.landmarks


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean distance in units of the distance between the eyes."""
    return float(np.hypot(*(found - wanted).T).mean() / eye_distance(wanted))


@pytest.mark.parametrize("degrees", [40, -58])
def test_tilted_heads(portrait: Image.Image, landmarks: np.ndarray, degrees: int) -> None:
    """The landmarks lie where those of the upright photo are turned to."""
    tilted = portrait.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(90, 90, 90))
    face = DOMAIN.locate(tilted)[0]
    angle, centre = np.radians(-degrees), (np.array(portrait.size) - 1) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert error(face.landmarks, (landmarks - centre) @ turn.T + centre) < 0.1
    assert not face.doubtful and face.problems == ()


def covered(photo: Image.Image, landmarks: np.ndarray, parts: list[tuple[float, float, float, float]]) -> Image.Image:
    """Rectangles (left, top, right, bottom), in distances of the eyes from the point between them, filled."""
    copy = photo.copy()
    middle, unit = landmarks[36:48].mean(0), eye_distance(landmarks)
    for left, top, right, bottom in parts:
        corners = (middle[0] + left * unit, middle[1] + top * unit, middle[0] + right * unit, middle[1] + bottom * unit)
        ImageDraw.Draw(copy).rectangle(corners, fill=(50, 45, 90))
    return copy


def test_covered_by_half(portrait: Image.Image, landmarks: np.ndarray) -> None:
    photo = covered(portrait, landmarks, [(-1.5, -1.8, 0.0, 2.0)])
    assert not any(found.sure for found in detect_frontal(photo))
    face = DOMAIN.locate(photo)[0]
    assert face.detector == CNN and not face.doubtful
    assert error(face.landmarks, landmarks) < 0.3


def test_a_frontal_face_costs_no_second_search(portrait: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(photo: Image.Image) -> list[Detection]:
        raise AssertionError("searched")

    monkeypatch.setattr(stkit_faces.landmarks, "detect_any", refuse)
    assert len(DOMAIN.locate(portrait)) == 1
    assert DOMAIN.locate_quickly(Image.new("RGB", (200, 200), (90, 90, 90))) == []


def test_both_detectors_frame_a_face_alike(portrait: Image.Image) -> None:
    (hog,), (cnn,) = detect_frontal(portrait), detect_any(portrait)
    assert overlaps(hog, [cnn])
    np.testing.assert_allclose(cnn.box, hog.box, atol=0.2 * (hog.box[2] - hog.box[0]))


def test_where_no_face_is_the_landmarks_say_so(portrait: Image.Image, landmarks: np.ndarray) -> None:
    uniform = np.array([60.0, 210.0, 150.0, 300.0])
    assert fit_shape(portrait, uniform).disagreement > MAX_DISAGREEMENT
    face = DOMAIN.subject_from_box(portrait, (60.0, 210.0, 150.0, 300.0))
    assert any("uncertain landmarks" in problem for problem in face.problems)
    low, high = landmarks.min(0), landmarks.max(0)
    assert fit_shape(portrait, np.concatenate([low, high])).disagreement < MAX_DISAGREEMENT / 2


def test_points_that_a_mirror_moves_are_not_trusted(portrait: Image.Image, landmarks: np.ndarray) -> None:
    """As on profiles: boxes beside each other agree on points that the mirrored picture puts elsewhere."""
    low, high = landmarks.min(0), landmarks.max(0)
    box = np.concatenate([low, high])
    mirrored = portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    other = fit_shape(mirrored, np.array([portrait.width - 1 - high[0], low[1], portrait.width - 1 - low[0], high[1]]))
    places = stkit_faces.landmarks._MIRRORED
    assert sorted(places) == list(range(68))
    back = other.points[places] * (-1, 1) + (portrait.width - 1, 0)
    shape = fit_shape(portrait, box)
    assert error(back, shape.points) < 0.03
    assert other.disagreement == pytest.approx(shape.disagreement, abs=0.02)
    half = covered(portrait, landmarks, [(-1.5, -1.8, 0.0, 2.0)])
    assert fit_shape(half, box).disagreement > 1.5 * shape.disagreement


def test_small_faces_beside_larger_ones(portrait: Image.Image) -> None:
    canvas = Image.new("RGB", (1600, 1200), (120, 130, 140))
    places = [(60, 60, 300), (700, 500, 120), (1300, 100, 100)]
    for left, top, width in places:
        canvas.paste(portrait.resize((width, width * 300 // 256)), (left, top))
    faces = DOMAIN.locate(canvas)
    assert {face.detector for face in faces} == {HOG}
    for face, (left, top, width) in zip(faces, places, strict=True):
        assert left < face.box[0] < face.box[2] < left + width and top < face.box[1] < face.box[3] < top + width * 1.2
