"""Paste-back: what is not edited stays, what is edited lands where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stkit.errors import UsageError
from stkit.photo.alignment import crop_photo
from stkit.photo.images import to_tensor
from stkit.photo.paste import BLENDS, Blend, feathered_window, paste_back


def photo(width: int = 90, height: int = 70, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    a, b = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[a, -b, x], [b, a, y]])


transforms = st.builds(
    similarity,
    st.floats(0.2, 4.0),
    st.floats(-40, 40),
    st.floats(-40, 90),
    st.floats(-40, 90),
)


@settings(max_examples=25, deadline=None)
@given(transforms, st.integers(0, 99))
def test_without_a_change_the_photo_comes_back(transform: np.ndarray, seed: int) -> None:
    picture, crop = photo(seed=seed), to_tensor(photo(32, 32, seed + 1))[0]
    pasted = paste_back(picture, transform, crop, crop)
    assert np.array_equal(np.asarray(pasted), np.asarray(picture))


@settings(max_examples=25, deadline=None)
@given(transforms, st.sampled_from(BLENDS))
def test_outside_of_the_crop_nothing_changes(transform: np.ndarray, blend: Blend) -> None:
    picture = photo()
    before, after = to_tensor(photo(32, 32, 1))[0], to_tensor(photo(32, 32, 2))[0]
    pasted = paste_back(picture, transform, before, after, blend=blend)
    x, y = np.meshgrid(np.arange(picture.width), np.arange(picture.height))
    inverse = np.linalg.inv(transform[:, :2])
    place = (np.stack([x, y], -1) - transform[:, 2]) @ inverse.T
    outside = ((place < -0.5) | (place > 31.5)).any(-1)
    assert np.array_equal(np.asarray(pasted)[outside], np.asarray(picture)[outside])


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("blend", BLENDS)
def test_the_edit_lands_in_its_place(scale: float, blend: Blend) -> None:
    """A spot of the edited crop is found, in the photo, where the transform says."""
    picture = Image.new("RGB", (300, 260), (100, 110, 120))
    transform = similarity(scale, 20, 120, 60)
    before = np.full((64, 64, 3), (100, 110, 120), np.uint8)
    after = before.copy()
    after[36:44, 24:32] += 90
    pasted = paste_back(picture, transform, Image.fromarray(before), Image.fromarray(after), blend=blend)
    change = np.asarray(pasted, float).sum(-1) - np.asarray(picture, float).sum(-1)
    weights = np.where(change > 30, change, 0)
    y, x = np.indices(change.shape)
    found = np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()
    wanted = transform @ [27.5, 39.5, 1]
    assert np.abs(found - wanted).max() < 0.5 + 0.2 * scale
    assert change.max() > 120


@pytest.mark.parametrize("blend", ["replace", "poisson"])
def test_no_seam_when_the_crop_has_other_colours(blend: Blend) -> None:
    """The reconstruction is darker and flatter than the photo; replaced, it keeps the photo's colours."""
    picture = photo(200, 200)
    transform = similarity(3.0, 0, 4, 4)
    own = np.asarray(crop_photo(picture, transform, 64), float)
    darker = Image.fromarray((own * 0.7 + 10).astype(np.uint8))
    pasted = np.asarray(paste_back(picture, transform, darker, darker, blend=blend), float)
    assert np.abs(pasted - np.asarray(picture)).mean() < 4


def test_strong_edits_fade_the_photos_detail() -> None:
    """An edge that the edit moves is not seen twice."""
    own = np.full((64, 64, 3), 200, np.uint8)
    own[30:34, 16:48] = 40
    moved = np.full((64, 64, 3), 200, np.uint8)
    moved[38:42, 16:48] = 40
    # The reconstruction knows the edge, but blurred: adding the difference alone leaves half of it.
    before, after = (
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.BOX).resize((64, 64), Image.Resampling.BICUBIC)
        for pixels in (own, moved)
    )
    pasted = np.asarray(paste_back(Image.fromarray(own), similarity(1, 0, 0, 0), before, after), float)
    assert pasted[31:33, 28:36].mean() > 185
    assert pasted[39:41, 28:36].mean() < 70


def test_what_an_edit_takes_away_leaves_no_trace_where_the_reconstruction_is_close() -> None:
    """Teeth, which the reconstruction has a little beside their place, behind lips that the edit closes."""
    closed = np.full((128, 128, 3), (180, 140, 120), np.uint8)
    own, old = closed.copy(), closed.copy()
    own[60:68, 48:80] = old[60:68, 48:80] = (90, 40, 40)
    own[61:67, 48:80:4] = old[61:67, 49:80:4] = 250
    traces = {}
    blends: tuple[Blend, ...] = ("auto", "residual")
    for blend in blends:
        before, after = (Image.fromarray(pixels) for pixels in (old, closed))
        pasted = np.asarray(paste_back(Image.fromarray(own), similarity(1, 0, 0, 0), before, after, blend=blend), float)
        traces[blend] = np.abs(pasted - closed.astype(float))[56:72, 44:84].max()
        assert np.array_equal(pasted[:20], own[:20])
    assert traces["auto"] < 40 and traces["residual"] > 75
    other = np.asarray(photo(128, 128))
    before, after = Image.fromarray(other), Image.fromarray(other[::-1].copy())
    far = [paste_back(Image.fromarray(own), similarity(1, 0, 0, 0), before, after, blend=blend) for blend in blends]
    assert far[0].tobytes() == far[1].tobytes()


@pytest.mark.parametrize("blend", ["auto", "residual"])
def test_light_that_changes_fades_over_a_longer_way_than_outlines(blend: Blend) -> None:
    picture = Image.new("RGB", (300, 300), (120, 120, 120))
    before = to_tensor(picture.crop((50, 50, 250, 250)))[0]
    brighter, moved = before + 12 / 127.5, before.clone()
    moved[:, 90:110] = 1.0  # a bar through the picture, out of it on both sides
    ways = []
    for after in (brighter, moved):
        pasted = paste_back(picture, similarity(1, 0, 50, 50), before, after, blend=blend)
        change = np.abs(np.asarray(pasted, float) - 120)[150, :150].mean(-1)
        assert change[:50].max() == 0 and change.max() == change[149] > 10
        ways.append(int(((change > 0.1 * change[149]) & (change < 0.9 * change[149])).sum()))
    assert ways[0] > 2 * ways[1] > 0, ways


def test_window_is_smooth_and_inside_the_output_crop() -> None:
    window = feathered_window(128, (0.0, 0.25, 1.0, 0.75))
    assert window[64, 64] == 1
    assert not window[:32].any() and not window[96:].any() and not window[:, 0].any()
    assert np.abs(np.diff(window, axis=0)).max() < 0.2


def test_wrong_calls() -> None:
    crop = torch.zeros(3, 16, 16)
    with pytest.raises(UsageError, match="auto, residual, replace, poisson"):
        paste_back(photo(), similarity(1, 0, 0, 0), crop, crop, blend="mix")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="32 px edited and 16 px"):
        paste_back(photo(), similarity(1, 0, 0, 0), crop, torch.zeros(3, 32, 32))


def test_the_region_reaches_further_where_the_reconstruction_is_the_photo() -> None:
    wide, narrow = feathered_window(128, alike=1.0), feathered_window(128)
    assert (wide >= narrow - 1e-6).all()
    assert narrow[12, 12] == 0 and wide[12, 12] > 0.8
    for window in (wide, narrow):
        assert window[[0, -1]].max() == window[:, [0, -1]].max() == 0
    before = photo().resize((64, 64))
    after = Image.fromarray(np.asarray(before) // 2 + 100)
    near = paste_back(before, similarity(1, 0, 0, 0), before, after)
    other = Image.fromarray(255 - np.asarray(before))
    far = paste_back(before, similarity(1, 0, 0, 0), other, after)
    corner = np.asarray(before, float)[6:10, 6:10]
    assert np.abs(np.asarray(near, float)[6:10, 6:10] - corner).max() > 5
    assert np.abs(np.asarray(far, float)[6:10, 6:10] - corner).max() == 0
