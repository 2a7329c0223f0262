"""Unfit faces are found and said to be unfit, with the measure."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageFilter
from stkit_faces.domain import FACES_TEMPLATE, FacesDomain
from stkit_faces.fitness import eye_distance, face_problems, yaw

from stkit.contracts.domains import Subject
from stkit.errors import UsageError

DOMAIN = FacesDomain()


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    return Image.open(path).convert("RGB")


@pytest.fixture(scope="module")
def face(portrait: Image.Image) -> Subject:
    return DOMAIN.locate(portrait)[0]


def test_a_good_portrait_has_no_problem(face: Subject) -> None:
    assert face.problems == ()
    assert abs(yaw(face.landmarks)) < 10


def test_too_small(portrait: Image.Image, face: Subject) -> None:
    small = portrait.resize((102, 120), Image.Resampling.LANCZOS)
    (subject,) = DOMAIN.locate(small)
    distance = eye_distance(subject.landmarks)
    assert distance == pytest.approx(eye_distance(face.landmarks) / 5, rel=0.15)
    assert any(problem.startswith(f"too small: its eyes are {distance:.0f} px") for problem in subject.problems)


@pytest.mark.parametrize("radius", [4, 12, 20])
def test_too_blurred(portrait: Image.Image, radius: int) -> None:
    blurred = portrait.filter(ImageFilter.GaussianBlur(radius))
    subject = DOMAIN.subject_from_box(blurred, (161, 137, 376, 352))
    assert any("too blurred: sharpness 0.00" in problem for problem in subject.problems)


@pytest.mark.parametrize("degrees", [-60, -20, 0, 20, 60])
def test_turn(portrait: Image.Image, face: Subject, degrees: int) -> None:
    """A head as a cylinder, seen from the side: the jaw's sides on it, the nose before it."""
    angle = np.radians(degrees)
    turned = face.landmarks.copy()
    turned[1:4], turned[13:16] = (-np.cos(angle) * 80, 0), (np.cos(angle) * 80, 0)
    turned[30] = (1.4 * np.sin(angle) * 80, 0)
    assert yaw(turned) == pytest.approx(degrees, abs=0.5)
    said = [problem for problem in face_problems(portrait, turned) if "too turned" in problem]
    assert bool(said) == (abs(degrees) == 60)
    assert all(problem.startswith("a profile, too turned: by about 60 degrees") for problem in said)


def test_hardly_seen(portrait: Image.Image, face: Subject) -> None:
    (problem,) = face_problems(portrait, face.landmarks, sure=False, score=0.05)
    assert "detector score 0.05" in problem


def test_a_box_gives_the_same_face(portrait: Image.Image, face: Subject) -> None:
    subject = DOMAIN.subject_from_box(portrait, face.box)
    error = np.hypot(*(subject.landmarks - face.landmarks).T).mean()
    assert error < 0.05 * eye_distance(face.landmarks)


@pytest.mark.parametrize("box", [(0.0, 0.0, 5.0, 5.0), (0.0, 0.0, 512.0, 600.0), (500.0, 590.0, 512.0, 600.0)])
def test_any_box_gives_something(portrait: Image.Image, box: tuple[float, float, float, float]) -> None:
    assert np.isfinite(DOMAIN.subject_from_box(portrait, box).landmarks).all()


def test_four_landmarks_are_the_templates_points(portrait: Image.Image, face: Subject) -> None:
    wanted = DOMAIN.transform(face, FACES_TEMPLATE, 128)
    points = np.array(FACES_TEMPLATE.points) @ wanted[:, :2].T + wanted[:, 2]
    subject = DOMAIN.subject_from_landmarks(portrait, points)
    np.testing.assert_allclose(DOMAIN.transform(subject, FACES_TEMPLATE, 128), wanted, atol=1e-6)
    again = DOMAIN.subject_from_landmarks(portrait, face.landmarks)
    np.testing.assert_allclose(DOMAIN.transform(again, FACES_TEMPLATE, 128), wanted, atol=1e-6)


def test_other_landmarks_are_refused(portrait: Image.Image) -> None:
    with pytest.raises(UsageError, match="68 landmarks"):
        DOMAIN.subject_from_landmarks(portrait, np.zeros((5, 2)))
    with pytest.raises(UsageError, match="one place"):
        DOMAIN.subject_from_landmarks(portrait, np.zeros((68, 2)))
