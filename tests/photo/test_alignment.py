from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stkit.photo.alignment import (
    AlignmentTemplate,
    crop_photo,
    ffhq_transform,
    fit_similarity,
    outside_share,
    points_transform,
    quad_transform,
)

FACES = AlignmentTemplate("points", 128, ((37.7, 36.8), (89.3, 36.8), (40.0, 88.7), (87.0, 88.7)))
IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    a, b = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[a, -b, x], [b, a, y]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def inverse(matrix: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack([linear, -(linear @ matrix[:, 2])[:, None]])


def smooth_photo(width: int, height: int, period: float = 60.0) -> Image.Image:
    y, x = np.mgrid[:height, :width] * (2 * np.pi / period)
    waves = [np.sin(x + 0.4 * y), np.cos(0.7 * x - y), np.sin(0.5 * x) * np.cos(y)]
    return Image.fromarray(np.rint(127.5 + 110 * np.stack(waves, -1)).astype(np.uint8))


def dotted_photo(size: int, points: np.ndarray, sigma: float) -> Image.Image:
    """White with a dark Gaussian dot around each of `points` (pixel coordinates)."""
    y, x = np.mgrid[:size, :size]
    dots = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in points)
    return Image.fromarray(np.rint(255 - 240 * np.clip(dots, 0, 1)).astype(np.uint8)).convert("RGB")


def dot_centre(crop: Image.Image, near: np.ndarray, radius: int) -> np.ndarray:
    ink = 255.0 - np.asarray(crop)[..., 0]
    left, top = np.rint(near).astype(int) - radius
    y, x = np.mgrid[top : top + 2 * radius + 1, left : left + 2 * radius + 1]
    weight = ink[y, x]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


scales = st.floats(0.05, 20)
angles = st.floats(-180, 180)
shifts = st.floats(-500, 500)


@settings(deadline=None)
@given(scale=scales, degrees=angles, x=shifts, y=shifts, seed=st.integers(0, 999))
def test_fit_similarity_recovers_a_similarity(scale: float, degrees: float, x: float, y: float, seed: int) -> None:
    matrix = similarity(scale, degrees, x, y)
    source = np.random.default_rng(seed).uniform(0, 128, (4, 2))
    assert np.allclose(fit_similarity(source, apply(matrix, source)), matrix, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999))
def test_fit_similarity_is_least_squares(seed: int) -> None:
    generator = np.random.default_rng(seed)
    source, target = generator.uniform(0, 100, (5, 2)), generator.uniform(0, 100, (5, 2))
    x, y, one, zero = source[:, 0], source[:, 1], np.ones(5), np.zeros(5)
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, c, d = np.linalg.lstsq(rows, np.concatenate([target[:, 0], target[:, 1]]), rcond=None)[0]
    assert np.allclose(fit_similarity(source, target), [[a, -b, c], [b, a, d]], atol=1e-8)


@settings(deadline=None)
@given(scale=scales, degrees=angles, x=shifts, y=shifts, resolution=st.sampled_from([32, 64, 128, 256, 1024]))
def test_landmarks_land_on_the_template(scale: float, degrees: float, x: float, y: float, resolution: int) -> None:
    template = np.array(FACES.points)
    landmarks = apply(similarity(scale, degrees, x, y), template)
    landed = apply(inverse(points_transform(landmarks, FACES, resolution)), landmarks)
    # The same place as a share of the frame, whatever the resolution.
    assert np.allclose((landed + 0.5) / resolution, (template + 0.5) / 128, atol=1e-6)


@settings(deadline=None)
@given(seed=st.integers(0, 999), degrees=angles, resolution=st.sampled_from([64, 256, 1024]))
def test_ffhq_corners_are_those_of_karras(seed: int, degrees: float, resolution: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 6, (4, 2))
    face = np.array([[200.0, 210.0], [300, 210], [215, 330], [285, 330]]) + noise
    face = apply(similarity(1.0, degrees, 40, -20), face)
    transform = ffhq_transform(face[:2], face[2:], resolution)

    # Written after the text of Karras et al. 2019, appendix A, with complex numbers instead of vectors.
    left, right, mouth_left, mouth_right = (complex(*point) for point in face)
    eye, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    direction = (right - left) - 1j * (mouth - eye)
    half = direction / abs(direction) * max(2.0 * abs(right - left), 1.8 * abs(mouth - eye))
    centre = eye + 0.1 * (mouth - eye)
    quad = [centre + half * turn for turn in (-1 - 1j, -1 + 1j, 1 + 1j, 1 - 1j)]  # -x-y, -x+y, x+y, x-y

    low, high = -0.5, resolution - 0.5
    corners = apply(transform, np.array([[low, low], [low, high], [high, high], [high, low]]))
    assert np.allclose(corners, [(corner.real, corner.imag) for corner in quad], atol=1e-6)


def test_quad_of_a_whole_photo_is_the_identity() -> None:
    assert np.allclose(quad_transform(np.array([31.5, 31.5]), np.array([32.0, 0.0]), 64), IDENTITY)


def test_templates_survive_json() -> None:
    for template in (FACES, AlignmentTemplate("ffhq")):
        assert AlignmentTemplate.from_dict(template.to_dict()) == template


def test_identity_returns_the_photo() -> None:
    photo = smooth_photo(96, 80)
    crop = crop_photo(photo, IDENTITY, 96, 80)
    assert crop.size == (96, 80)
    assert crop.mode == "RGB"
    difference = np.asarray(crop, float) - np.asarray(photo, float)
    assert np.abs(difference).max() <= 2
    assert 20 * np.log10(255 / np.sqrt((difference**2).mean())) > 48


def test_whole_pixel_shift() -> None:
    photo = smooth_photo(120, 120)
    crop = crop_photo(photo, similarity(1, 0, 17, 31), 64)
    difference = np.asarray(crop, float) - np.asarray(photo.crop((17, 31, 81, 95)), float)
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns(turns: int) -> None:
    photo = smooth_photo(64, 64)
    about_centre = similarity(1, 90 * turns, 0, 0)
    about_centre[:, 2] = 31.5 - about_centre[:, :2] @ [31.5, 31.5]
    expected = np.rot90(np.asarray(photo, float), turns)
    assert np.abs(np.asarray(crop_photo(photo, about_centre, 64), float) - expected).max() <= 2


@settings(deadline=None, max_examples=25)
@given(scale=st.floats(0.5, 14), degrees=angles, x=st.floats(-8, 8), y=st.floats(-8, 8))
def test_dots_land_where_they_should(scale: float, degrees: float, x: float, y: float) -> None:
    resolution = 64
    expected = np.array([[20.3, 17.6], [44.1, 22.25], [30.8, 45.0]])
    size = math.ceil(scale * resolution * 1.5) + 40
    matrix = similarity(scale, degrees, 0, 0)
    matrix[:, 2] = size / 2 + np.array([x, y]) - matrix[:, :2] @ [31.5, 31.5]
    photo = dotted_photo(size, apply(matrix, expected), sigma=max(1.5 * scale, 1.2))
    crop = crop_photo(photo, matrix, resolution)
    for point in expected:
        assert np.abs(dot_centre(crop, point, 8) - point).max() < 0.1


def cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -1, which is what Pillow's transform means by bicubic."""
    d = np.abs(distance)
    return np.where(d < 1, d**3 - 2 * d**2 + 1, np.where(d < 2, -(d**3) + 5 * d**2 - 8 * d + 4, 0))


@pytest.mark.parametrize("matrix", [similarity(1.56, 7, -12.3, 20.1), similarity(3.9, -20, 30, 60)])
def test_the_recipe_of_the_training_data(matrix: np.ndarray) -> None:
    """Bicubic warp to 4 times the size, Lanczos reduction, reflection outside (shared/data/README.md), in numpy."""
    photo = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    photo = np.asarray(Image.fromarray(photo).resize((300, 300), Image.Resampling.BICUBIC))
    size, pad = 64, 100
    padded = np.pad(photo, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric").astype(float)
    fine = (np.arange(4 * size) + 0.5) / 4 - 0.5
    x, y = np.moveaxis(apply(matrix, np.stack(np.meshgrid(fine, fine), -1)), -1, 0)
    warped = np.zeros((*x.shape, 3))
    for row in range(-1, 3):
        for column in range(-1, 3):
            at_x, at_y = np.floor(x).astype(int) + column, np.floor(y).astype(int) + row
            weight = cubic(x - at_x) * cubic(y - at_y)
            warped += weight[..., None] * padded[at_y + pad, at_x + pad]
    big = Image.fromarray(np.clip(warped, 0, 255).astype(np.uint8))  # Pillow cuts off fractions here
    expected = np.asarray(big.resize((size, size), Image.Resampling.LANCZOS), float)
    difference = np.abs(np.asarray(crop_photo(Image.fromarray(photo), matrix, size), float) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.02


def test_outside_is_the_mirrored_photo() -> None:
    photo = smooth_photo(64, 48)
    crop = np.asarray(crop_photo(photo, similarity(1, 0, -20, -30), 100, 110), float)
    mirrored = np.pad(np.asarray(photo, float), ((30, 32), (20, 16), (0, 0)), mode="symmetric")
    assert np.abs(crop - mirrored).max() <= 2


def test_mirrors_repeat_for_a_tiny_photo() -> None:
    photo = Image.new("RGB", (5, 3), (30, 90, 160))
    crop = np.asarray(crop_photo(photo, similarity(1, 30, -40, -40), 64))
    assert (crop == [30, 90, 160]).all()


@pytest.mark.parametrize("scale", [4.3, 6.0, 7.96, 8.0, 9.7, 15.9, 31.0])
@pytest.mark.parametrize("degrees", [0, 30])
def test_reduction_does_not_alias(scale: float, degrees: float) -> None:
    size = math.ceil(32 * scale * 1.5)
    checkers = (np.indices((size, size)).sum(0) % 2 * 255).astype(np.uint8)
    stripes = np.broadcast_to((np.arange(size) // 2 % 2 * 255).astype(np.uint8), (size, size))
    matrix = similarity(scale, degrees, 0, 0)
    matrix[:, 2] = (size - 1) / 2 - matrix[:, :2] @ [15.5, 15.5]
    for pattern in (checkers, stripes):
        photo = Image.fromarray(np.ascontiguousarray(pattern)).convert("RGB")
        crop = np.asarray(crop_photo(photo, matrix, 32), float)[2:-2, 2:-2]
        assert np.abs(crop - 127.5).max() < 6, np.abs(crop - 127.5).max()


def test_large_reduction_is_sharp_up_to_its_border() -> None:
    """The border pixels of a crop from the inside of a large photo see what lies beyond them."""
    photo = smooth_photo(800, 800, period=900)
    crop = np.asarray(crop_photo(photo, similarity(20, 0, 209.5, 209.5), 20), float)
    centres = np.rint(209.5 + 20 * np.arange(20)).astype(int)
    assert np.abs(crop - np.asarray(photo, float)[np.ix_(centres, centres)]).max() <= 3


@pytest.mark.parametrize(
    ("matrix", "share"),
    [
        (IDENTITY, 0.0),
        (similarity(1, 0, 4, 0), 0.25),
        (similarity(1, 0, -4, -8), 0.625),
        (similarity(1, 0, 0.4, 0), 0.0),
        (similarity(1, 0, 500, 0), 1.0),
    ],
)
def test_outside_share(matrix: np.ndarray, share: float) -> None:
    assert outside_share(matrix, 16, 16, (16, 16)) == pytest.approx(share)


def test_the_photo_and_the_matrix_are_left_alone() -> None:
    photo, matrix = smooth_photo(300, 300), similarity(9, 10, 3, 4)
    before = np.array(photo), matrix.copy()
    crop_photo(photo, matrix, 32)
    assert np.array_equal(np.asarray(photo), before[0])
    assert np.array_equal(matrix, before[1])
