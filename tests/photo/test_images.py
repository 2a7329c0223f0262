from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stkit.errors import OutputError, UsageError
from stkit.photo.images import image_grid, save_image, side_by_side, split_row, to_image, to_tensor
from stkit.photo.reading import load_photo


def noise(size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def test_tensors_and_images() -> None:
    image = noise((5, 7))
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, 7, 5)
    assert tensor.dtype == torch.float32
    levels = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    assert to_tensor(levels).min() == -1
    assert to_tensor(levels).max() == 1
    assert tensor[0, 2, 6, 4].item() == pytest.approx(np.asarray(image)[6, 4, 2] / 127.5 - 1)
    for original in (image, levels):
        assert np.array_equal(np.asarray(to_image(to_tensor(original)[0])), np.asarray(original))


def test_to_image_clamps_and_rounds() -> None:
    values = torch.tensor([-3.0, -1.0, 0.0, 0.006, 1.0, 7.0], dtype=torch.bfloat16, requires_grad=True)
    image = to_image(values.expand(3, 1, 6))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 128, 128, 255, 255]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".tif", ".tiff", ".bmp"])
def test_saved_images_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"picture{suffix}"
    smooth = Image.linear_gradient("L").convert("RGB")
    save_image(smooth, path)
    difference = np.abs(np.asarray(load_photo(path).image, float) - np.asarray(smooth, float))
    assert difference.max() <= (4 if suffix in (".jpg", ".JPEG", ".webp") else 0)
    assert list(path.parent.iterdir()) == [path]


def test_images_that_cannot_be_saved(tmp_path: Path) -> None:
    for name in ("picture.xyz", "picture"):
        with pytest.raises(UsageError, match=r"cannot tell an image format .* end the name in \.png, \.jpg"):
            save_image(noise(), tmp_path / name)
    with pytest.raises(OutputError, match=r"wide\.webp as WEBP: .*; save it as \.png"):
        save_image(Image.new("RGB", (17_000, 1)), tmp_path / "wide.webp")
    (tmp_path / "blocker").touch()
    with pytest.raises(OutputError, match="cannot write"):
        save_image(noise(), tmp_path / "blocker" / "a.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["blocker"]


def test_grid_places_images() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    grid = image_grid([Image.new("RGB", (20, 10), colour) for colour in colours], columns=2, gap=3)
    assert grid.size == (2 * 20 + 3 * 3, 2 * 10 + 3 * 3)
    expected = Image.new("RGB", grid.size, (255, 255, 255))
    for colour, corner in zip(colours, [(3, 3), (26, 3), (3, 16)], strict=True):
        expected.paste(colour, (*corner, corner[0] + 20, corner[1] + 10))
    assert np.array_equal(np.asarray(grid), np.asarray(expected))


def test_grid_centres_smaller_images() -> None:
    grid = image_grid([Image.new("RGB", (10, 10), (9, 9, 9)), Image.new("RGB", (4, 6), (9, 9, 9))], columns=5, gap=0)
    assert grid.size == (20, 10)
    rows, columns = np.nonzero(np.asarray(grid)[:, 10:, 0] == 9)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (3, 6, 2, 7)


@pytest.mark.parametrize("width", [64, 128, 512])
def test_captions_are_under_their_images_and_fit(width: int) -> None:
    images = [Image.new("RGB", (width, 30), (255, 255, 255))] * 3
    row = np.asarray(side_by_side(images, ["photo", "", "a very long caption " * 30], gap=4))
    height = row.shape[0] - 30 - 8
    assert 14 <= height <= 48
    ink = row[..., 0] < 128
    assert not ink[:34].any()
    cells = [ink[34 : 34 + height, 4 + i * (width + 4) : 4 + i * (width + 4) + width] for i in range(3)]
    assert ink.sum() == sum(cell.sum() for cell in cells)
    rows, columns = np.nonzero(cells[0])
    assert rows.max() - rows.min() >= 7
    assert abs((columns.min() + columns.max()) / 2 - (width - 1) / 2) <= 2
    assert not cells[1].any()
    assert np.ptp(np.nonzero(cells[2])[1]) > width * 0.7


@pytest.mark.parametrize("size", [(40, 30), (512, 300), (7, 64)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_row_with_captions_is_split_again(size: tuple[int, int], count: int) -> None:
    images = [Image.effect_noise(size, 90).convert("RGB") for _ in range(count)]
    parts = split_row(side_by_side(images, ["a caption"] * count), count)
    assert [part.tobytes() for part in parts] == [image.tobytes() for image in images]


def test_grid_mistakes() -> None:
    with pytest.raises(UsageError, match="at least one image"):
        side_by_side([])
    with pytest.raises(UsageError, match="one column"):
        image_grid([noise()], columns=0)
    with pytest.raises(UsageError, match="1 images but 2 captions"):
        image_grid([noise()], 1, ["a", "b"])
