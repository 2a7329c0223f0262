"""The domains without a detector: cars and plain."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stkit_cars import CarsDomain
from stkit_plain import PlainDomain

from stkit.contracts.framing import AlignmentTemplate, picture_box
from stkit.datasets.images import load_image_set
from stkit.editor.editor import Editor
from stkit.errors import UsageError
from stkit.photo.alignment import frame_photo
from stkit.photo.boxes import BoxDomain, box_subject
from stkit.photo.images import picture_part, to_tensor
from stkit.photo.reading import load_photo
from stkit.plugins import load_plugins
from stkit.testing import check_domain, make_tiny_weights

CARS = CarsDomain()


def ramp(width: int, height: int) -> Image.Image:
    """Red grows with x, green with y."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 128)], -1).astype(np.uint8))


def box_in_crop(domain: BoxDomain, box: tuple[float, float, float, float], resolution: int) -> list[float]:
    """Where the corners of `box` come to lie, as pixel borders of the crop."""
    matrix = domain.transform(box_subject(box), domain.template, resolution)
    inverse = np.linalg.inv(matrix[:, :2])
    corners = [inverse @ (np.array(corner) - 0.5 - matrix[:, 2]) + 0.5 for corner in (box[:2], box[2:])]
    return [float(x) for corner in corners for x in corner]


@pytest.mark.parametrize("domain", [CARS, PlainDomain()])
def test_contract(domain: BoxDomain) -> None:
    check_domain(domain, ramp(90, 60))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.0, 0.0, 256.0, 144.0), [0, 28, 128, 100]),
        ((10.0, 20.0, 266.0, 164.0), [0, 28, 128, 100]),
        # Wider by less than 12%: its sides are cut away.
        ((0.0, 0.0, 280.0, 144.0), [-6, 28, 134, 100]),
        # Half as high as it should be: 12% of the width is cut, and the rest is missing.
        ((0.0, 0.0, 256.0, 72.0), [64 - 64 / 0.88, 64 - 18 / 0.88, 64 + 64 / 0.88, 64 + 18 / 0.88]),
    ],
)
def test_cars_fit_the_picture(box: tuple[float, float, float, float], expected: list[float]) -> None:
    assert box_in_crop(CARS, box, 128) == pytest.approx(expected)
    assert box_in_crop(CARS, box, 256) == pytest.approx([2 * x for x in expected])


def test_plain_is_the_centre_square() -> None:
    assert box_in_crop(PlainDomain(), (0.0, 0.0, 300.0, 100.0), 128) == pytest.approx([-128, 0, 256, 128])


def test_a_photo_of_the_pictures_size_comes_through_as_it_is() -> None:
    photo = ramp(128, 72)
    matrix = CARS.transform(CARS.locate(photo)[0], CARS.template, 128)
    crop = np.asarray(frame_photo(photo, matrix, 128, CARS.output_crop)).astype(int)
    assert (crop[:28] == 0).all() and (crop[100:] == 0).all()
    assert np.abs(crop[28:100] - np.asarray(photo)).max() <= 3


def test_training_reads_the_same_canvas_as_the_editor_crops(tmp_path: Path) -> None:
    for i in range(2):
        ramp(128, 72).save(tmp_path / f"{i}.png")
    images = load_image_set(tmp_path, 128, output_crop=CARS.output_crop)
    assert images.output_crop == CARS.output_crop
    photo = ramp(128, 72)
    matrix = CARS.transform(CARS.locate(photo)[0], CARS.template, 128)
    crop = to_tensor(frame_photo(photo, matrix, 128, CARS.output_crop))
    trained = images.batch(torch.arange(1), torch.device("cpu"))
    assert torch.equal(trained[:, :, :28], crop[:, :, :28]) and (trained[:, :, 100:] == -1).all()
    assert (picture_part(trained, CARS.output_crop) - picture_part(crop, CARS.output_crop)).abs().max() < 0.03


def test_the_editor_shows_and_measures_the_picture_alone(tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path / "tiny", "cars", alignment=CARS.template)
    editor = Editor(weights, load_plugins(), torch.device("cpu"))
    path = tmp_path / "car.png"
    ramp(160, 90).save(path)
    inversion = editor.invert(path)
    left, top, right, bottom = picture_box(CARS.output_crop, 16)
    assert inversion.crop.size == inversion.image.size == (right - left, bottom - top) == (16, 8)
    whole = editor.generate(inversion.latents).clamp(-1, 1)
    shown = to_tensor(inversion.crop)
    expected = float((picture_part(whole, CARS.output_crop) - shown).square().mean())
    assert inversion.metrics["mse"] == pytest.approx(expected, rel=1e-5)
    edit = editor.edit(inversion, "ganspace", "pc1")
    assert edit.crop.size == (16, 8)
    assert edit.image.size == (160, 90)


def test_a_box_is_a_subject_like_any_other(tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path / "tiny", "cars", alignment=CARS.template)
    editor = Editor(weights, load_plugins(), torch.device("cpu"))
    path = tmp_path / "car.png"
    photo = ramp(320, 180)
    photo.paste((255, 255, 255), (200, 100, 264, 136))
    photo.save(path)
    framed = editor.frame(load_photo(path), box_subject((200.0, 100.0, 264.0, 136.0)))
    assert (np.asarray(framed.crop)[5:11, 2:14] > 240).all()
    assert framed.transform[0, 0] == pytest.approx(64 / 16)


def test_other_templates_are_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="the domain 'cars' fits boxes, but these weights are framed by 'ffhq'"):
        CARS.transform(box_subject((0.0, 0.0, 9.0, 9.0)), AlignmentTemplate("ffhq"), 128)


def test_the_output_crop_is_the_templates_picture() -> None:
    for domain in (CARS, PlainDomain()):
        (left, top), (right, bottom) = (np.array(point) / domain.template.size for point in domain.template.points)
        assert domain.output_crop == pytest.approx((left, top, right, bottom))
    assert dataclasses.asdict(AlignmentTemplate.from_dict(CARS.template.to_dict())) == dataclasses.asdict(CARS.template)
