"""Views of edits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stkit.editor.results import Edit
from stkit.jobs.previews import subject_view, sweep_frames
from stkit.latents.latents import Latents, Provenance
from stkit.photo.reading import Photo

SIZE = 32


def make_edit(photo: Image.Image, scale: float, x: float, y: float) -> Edit:
    transform = (scale, 0.0, x), (0.0, scale, y)
    latents = Latents(torch.zeros(1, 4, 8), "g", provenance=(Provenance(transform=transform),))
    before = torch.zeros(1, 3, SIZE, SIZE)
    return Edit(latents, before, before + 1, Photo(photo, Path("a.jpg"), ""), (0.0, 0.0, 1.0, 1.0), "replace", {})


@pytest.mark.parametrize(("width", "height"), [(700, 1300), (1300, 700), (1201, 1200), (90, 3000), (100, 60)])
@pytest.mark.parametrize(("scale", "x", "y"), [(30.0, -100.0, 20.0), (11.0, 40.0, 30.0), (1.0, 20.0, 10.0)])
def test_a_view_is_the_thumbnail_of_the_part_around_the_subject(
    width: int, height: int, scale: float, x: float, y: float
) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    edit = make_edit(photo, scale, x, y)
    first, last = np.array([x, y]) - 0.5 * scale, np.array([x, y]) + (SIZE - 0.5) * scale
    margin = 0.25 * scale * SIZE
    low = np.clip(np.floor(first - margin), 0, photo.size).astype(int)
    high = np.clip(np.ceil(last + margin), 0, photo.size).astype(int)
    wanted = photo.crop((*low.tolist(), *high.tolist()))
    wanted.thumbnail((128, 128), Image.Resampling.LANCZOS)
    assert subject_view(edit, photo, 128).tobytes() == wanted.tobytes()


def test_a_sweep_keeps_no_photo_of_its_frames() -> None:
    photo = Image.new("RGB", (200, 200), (90, 90, 90))
    edits = [make_edit(photo, 2.0, 50.0, 50.0) for _ in range(2)]
    frames = sweep_frames(edits)
    assert np.asarray(photo).max() == 90 and np.asarray(frames[0]).max() > 90
    assert not any("image" in vars(edit) for edit in edits)
    assert frames[0].tobytes() == subject_view(edits[0], edits[0].image, 256).tobytes()
