"""The scorers: which way their numbers go on real faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from stkit_faces.scorer import LANDMARK_SCORES, AgeScorer, LandmarkScorer, landmark_scores
from stkit_label.scorer import ClassifierOptions, ClassifierScorer

from stkit.options import Options
from stkit.photo.images import to_tensor


def test_a_mirrored_face_looks_the_other_way(portrait: Path) -> None:
    with Image.open(portrait) as image:
        face = image.convert("RGB").crop((100, 0, 450, 350)).resize((256, 256))
    blank = Image.new("RGB", face.size)
    images = torch.cat([to_tensor(picture) for picture in (face, ImageOps.mirror(face), blank)])
    scores = LandmarkScorer().score(images, Options())
    assert abs(scores["yaw"][0] + scores["yaw"][1]) < 5
    assert scores["mouth-width"][0] > 50
    assert all(np.isnan(values[2]) for values in scores.values())


def test_the_classifier_of_other_weights_finds_faces_and_knows_them(portrait: Path) -> None:
    with Image.open(portrait) as image:
        face = image.convert("RGB").crop((100, 0, 450, 350)).resize((256, 256))
    images = torch.cat([to_tensor(picture) for picture in (face, ImageOps.mirror(face), Image.new("RGB", face.size))])
    scores = ClassifierScorer().score(images, ClassifierOptions())
    assert scores.keys() == {"age", "sex", "smile", "yaw"}
    assert np.isnan(scores["age"]).tolist() == [False, False, True]
    assert (scores["age"][:2] > 0).all()  # Grace Hopper, 78
    assert np.sign(scores["yaw"][0]) == -np.sign(scores["yaw"][1])


def planted() -> tuple[np.ndarray, dict[str, int]]:
    """68 landmarks of a drawn face, its eyes 40 px apart in the rows 80, in a picture of 200 px; and its geometry."""
    points = np.full((68, 2), 100.0)
    points[36:42], points[42:48] = (80, 80), (120, 80)
    points[[37, 38, 43, 44], 1] -= 2
    points[[41, 40, 47, 46], 1] += 4
    points[[1, 2]], points[[14, 15]] = (70, 100), (130, 100)
    points[27], points[30], points[33] = (100, 80), (104, 98), (100, 104)
    points[48], points[54] = (90, 120), (110, 120)
    points[57], points[62], points[66], points[8] = (100, 126), (100, 118), (100, 122), (100, 146)
    # The upper and lower lids move the middles of the eyes down by 4/6 px.
    known = {"yaw": 10, "pitch": 25, "mouth-width": 50, "mouth-open": 10, "eyes-open": 15}
    return points, known


def test_signs_on_planted_landmarks() -> None:
    points, known = planted()
    scores = dict(zip(LANDMARK_SCORES, landmark_scores(np.full((200, 200, 3), 200), points), strict=True))
    assert {name: scores[name] for name in known} == pytest.approx(known)
    assert (scores["glasses"], scores["beard"], scores["hair-light"]) == pytest.approx((0, 0, 100))


def test_regions_of_a_planted_face() -> None:
    points, _ = planted()
    pixels = np.full((200, 200, 3), 200)
    pixels[128:150, 60:140] = 50  # a dark beard
    pixels[20:40] = 100  # hair half as bright as the cheeks
    pixels[82:84, 90:110] = 20  # a frame on the bridge of the nose
    scores = dict(zip(LANDMARK_SCORES, landmark_scores(pixels, points), strict=True))
    assert scores["beard"] == pytest.approx(75)
    assert scores["hair-light"] == pytest.approx(50)
    assert scores["glasses"] == pytest.approx(90)


def test_age_and_sex_are_judged_where_there_is_a_face(portrait: Path) -> None:
    with Image.open(portrait) as image:
        face = image.convert("RGB").crop((100, 0, 450, 350)).resize((256, 256))
    scores = AgeScorer().score(torch.cat([to_tensor(face), to_tensor(Image.new("RGB", face.size))]), Options())
    assert scores.keys() == {"age", "sex"} and all(
        np.isnan(values).tolist() == [False, True] for values in scores.values()
    )
    assert 60 < scores["age"][0] <= 80 and abs(scores["sex"][0]) < 6.91
