"""The cars that ship: colour and body directions do on the generator's own cars what their names say."""

from __future__ import annotations

import pytest
import torch

import stkit
from stkit.editor.editor import Editor
from stkit.latents.latents import Latents
from stkit.models.registry import sample_w
from stkit.photo.images import picture_part


@pytest.fixture(scope="module")
def cars() -> Editor:
    return stkit.load("cars", "cpu")


@pytest.fixture(scope="module")
def latents(cars: Editor) -> Latents:
    w = sample_w(cars.weights, 12, seed=4)
    w = w.lerp(w.mean(0, keepdim=True), 0.3)  # truncated, as samples are looked at
    return Latents(w[:, None].expand(-1, cars.weights.num_ws, -1).clone(), cars.weights.fingerprint)


def middle(cars: Editor, latents: Latents) -> torch.Tensor:
    """Mean colour [B, 3] of the middle of the pictures, where the car is."""
    images = picture_part(cars.generate(latents), cars.domain.output_crop)
    height, width = images.shape[-2:]
    return images[..., height // 4 : -height // 4, width // 4 : -width // 4].mean((2, 3))


@pytest.mark.parametrize(
    ("colour", "towards"), [("red", (1.0, -0.5, -0.5)), ("white", (1.0, 1.0, 1.0)), ("black", (-1.0, -1.0, -1.0))]
)
def test_colours(cars: Editor, latents: Latents, colour: str, towards: tuple[float, float, float]) -> None:
    step = cars.parse_step(f"{colour}=2")
    change = middle(cars, cars.apply(latents, [step])) - middle(cars, latents)
    moved = (change * torch.tensor(towards)).sum(1)
    assert (moved > 0).float().mean() >= 0.9, moved
    assert moved.mean() > 0.1, moved
