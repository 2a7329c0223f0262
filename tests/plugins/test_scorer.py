"""The scorers: which way their numbers go on real faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from stkit_faces.scorer import LandmarkScorer, _ratios
from stkit_label.scorer import ClassifierOptions, ClassifierScorer

from stkit.options import Options
from stkit.photo.images import to_tensor


def test_a_mirrored_face_looks_the_other_way(portrait: Path) -> None:
    with Image.open(portrait) as image:
        face = image.convert("RGB").crop((100, 0, 450, 350)).resize((256, 256))
    blank = Image.new("RGB", face.size)
    images = torch.cat([to_tensor(picture) for picture in (face, ImageOps.mirror(face), blank)])
    scores = LandmarkScorer().score(images, Options())
    assert abs(scores["yaw"][0] + scores["yaw"][1]) < 0.05
    assert scores["mouth-width"][0] > 0.5
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


def test_signs_on_planted_landmarks() -> None:
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = (30, 40), (70, 40)
    points[[1, 2]], points[[14, 15]] = (20, 60), (80, 60)
    points[30], points[48], points[54] = (54, 60), (40, 80), (60, 80)
    points[62], points[66] = (50, 78), (50, 82)
    assert np.allclose(_ratios(points), [4 / 40, 20 / 40, 4 / 40])
