"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with Limited Data").

Everything that the discriminator sees, real or generated, goes through the same kinds of random
change, each made with probability p; p follows how much the discriminator overfits. Unlike the
paper's, all geometric changes are one bilinear resampling, with no wavelet filter around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AugmentConfig:
    """How often each change is made, as a factor of p (0 is never), and how strong it is.

    Strengths are the paper's: `_std` of normal or log2-normal amounts, `_max` of uniform ones;
    translations are fractions of the side. `rotate90` is for domains without an upright, such as
    textures or views from above.
    """

    xflip: float = 1.0
    rotate90: float = 0.0
    translate_int: float = 1.0
    scale: float = 1.0
    rotate: float = 1.0
    anisotropy: float = 1.0
    translate: float = 1.0
    brightness: float = 1.0
    contrast: float = 1.0
    luma_flip: float = 1.0
    hue: float = 1.0
    saturation: float = 1.0
    translate_int_max: float = 0.125
    scale_std: float = 0.2
    anisotropy_std: float = 0.2
    translate_std: float = 0.125
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    saturation_std: float = 1.0


DIFF_AUGMENT = AugmentConfig(rotate=0, scale=0, anisotropy=0, translate=0, luma_flip=0, hue=0)
"""Colour and translation, in the manner of DiffAugment (Zhao et al., NeurIPS 2020); meant for p = 1."""
PHOTO_AUGMENT = AugmentConfig(
    xflip=0,
    translate_int=0,
    rotate=0,
    luma_flip=0,
    hue=0,
    scale_std=0.04,
    anisotropy_std=0.02,
    translate_std=0.012,
    brightness_std=0.05,
    contrast_std=0.12,
    saturation_std=0.15,
)
"""As photos of a domain differ from each other anyway: by a careless crop, and by how a camera develops them."""


def draw_augmentation(
    config: AugmentConfig, p: float, count: int, resolution: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random changes of `count` images: `geometry` [count, 3, 3] and `colour` [count, 4, 4], identities with p = 0.

    `geometry` takes output to input positions, in [-1, 1] across the image; `colour` acts on (r, g, b, 1).
    """
    return _draw_geometry(config, p, count, resolution, generator), _draw_colour(config, p, count, generator)


def apply_augmentation(images: Tensor, geometry: Tensor, colour: Tensor) -> Tensor:
    """Changed `images` [B, 3, R, R], float32 in [-1, 1]; differentiable, mirrored beyond the edges, not clamped.

    Identities change nothing at all.
    """
    grid = F.affine_grid(geometry[:, :2], list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    same = (geometry == torch.eye(3, device=geometry.device)).flatten(1).all(1)
    images = torch.where(same[:, None, None, None], images, moved)
    return torch.einsum("bij,bjhw->bihw", colour[:, :3, :3], images) + colour[:, :3, 3, None, None]


def _draw_geometry(config: AugmentConfig, p: float, count: int, resolution: int, generator: torch.Generator) -> Tensor:
    draw = _Draw(count, generator)
    pixels = int(config.translate_int_max * resolution)
    # A rotation before and one after the anisotropic scaling: together they happen with probability p.
    rotate = 1 - math.sqrt(1 - min(config.rotate * p, 1))

    matrix = _scaling(*draw.some(config.xflip * p, [1 - 2 * draw.integers(0, 1), torch.ones(count)], neutral=1))
    matrix = matrix @ _rotation(*draw.some(config.rotate90 * p, [draw.integers(0, 3) * (math.pi / 2)]))
    shift = [draw.integers(-pixels, pixels) * (2 / resolution) for _ in range(2)]
    matrix = matrix @ _translation(*draw.some(config.translate_int * p, shift))
    scale = torch.exp2(draw.normal(config.scale_std))
    matrix = matrix @ _scaling(*draw.some(config.scale * p, [scale, scale], neutral=1))
    matrix = matrix @ _rotation(*draw.some(rotate, [draw.angles()]))
    stretch = torch.exp2(draw.normal(config.anisotropy_std))
    matrix = matrix @ _scaling(*draw.some(config.anisotropy * p, [stretch, 1 / stretch], neutral=1))
    matrix = matrix @ _rotation(*draw.some(rotate, [draw.angles()]))
    shift = [draw.normal(2 * config.translate_std) for _ in range(2)]
    return matrix @ _translation(*draw.some(config.translate * p, shift))


def _draw_colour(config: AugmentConfig, p: float, count: int, generator: torch.Generator) -> Tensor:
    draw = _Draw(count, generator)
    grey = torch.ones(3, 3) / 3  # projects on the axis of greys
    eye = torch.eye(3)

    (offset,) = draw.some(config.brightness * p, [draw.normal(config.brightness_std)])
    (factor,) = draw.some(config.contrast * p, [torch.exp2(draw.normal(config.contrast_std))], neutral=1)
    (flipped,) = draw.some(config.luma_flip * p, [draw.integers(0, 1)])
    (angle,) = draw.some(config.hue * p, [draw.angles()])
    (vividness,) = draw.some(config.saturation * p, [torch.exp2(draw.normal(config.saturation_std))], neutral=1)

    linear = eye * _each(factor)
    linear = (eye - 2 * grey * _each(flipped)) @ linear
    linear = _hue_rotation(angle) @ linear
    linear = (eye + (eye - grey) * _each(vividness - 1)) @ linear
    matrix = torch.eye(4).repeat(count, 1, 1)
    matrix[:, :3, :3] = linear
    matrix[:, :3, 3] = linear.sum(2) * offset[:, None]  # brightness comes first
    return matrix


class AugmentController:
    """Keeps the mean sign of D(real), the paper's measure of overfitting r_t, at `target` by moving p.

    Every `interval` steps p moves up or down at the speed that takes it from 0 to 1 in `images`
    images. Without a target p stays as it is.
    """

    def __init__(self, target: float | None, p: float = 0.0, interval: int = 4, images: int = 500_000) -> None:
        self.target = target
        self.p = p
        self.interval = interval
        self.images = images
        self._signs: list[float] = []
        self._seen = 0

    def update(self, real_scores: Tensor) -> None:
        """Take in the scores [B] of one step's real images."""
        if self.target is None:
            return
        self._signs.append(float(real_scores.detach().sign().mean()))
        self._seen += len(real_scores)
        if len(self._signs) == self.interval:
            overfitting = sum(self._signs) / self.interval
            direction = (overfitting > self.target) - (overfitting < self.target)
            self.p = min(max(self.p + direction * self._seen / self.images, 0.0), 1.0)
            self._signs, self._seen = [], 0

    def state_dict(self) -> dict[str, Any]:
        """p and what was gathered since it last moved."""
        return {"p": self.p, "signs": self._signs, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.p, self._signs, self._seen = state["p"], list(state["signs"]), state["seen"]


class _Draw:
    """Random amounts, one an image."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count = count
        self.generator = generator

    def normal(self, std: float) -> Tensor:
        return torch.randn(self.count, generator=self.generator) * std

    def angles(self) -> Tensor:
        return (torch.rand(self.count, generator=self.generator) * 2 - 1) * math.pi

    def integers(self, low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (self.count,), generator=self.generator).float()

    def some(self, p: float, amounts: list[Tensor], neutral: float = 0.0) -> list[Tensor]:
        """`amounts` for the images chosen with probability `p`, all of them together, and `neutral` for the others."""
        chosen = torch.rand(self.count, generator=self.generator) < p
        return [torch.where(chosen, amount, neutral) for amount in amounts]


def _each(values: Tensor) -> Tensor:
    return values[:, None, None]


def _affine(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[[a, b, x], [c, d, y], [0, 0, 1]] an image."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack([a, b, x, c, d, y, zero, zero, one], 1).reshape(-1, 3, 3)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    zero = torch.zeros_like(x)
    return _affine(x, zero, zero, y, zero, zero)


def _rotation(angle: Tensor) -> Tensor:
    zero = torch.zeros_like(angle)
    return _affine(angle.cos(), -angle.sin(), angle.sin(), angle.cos(), zero, zero)


def _translation(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _affine(one, zero, zero, one, x, y)


def _hue_rotation(angle: Tensor) -> Tensor:
    """Rotations about the axis of greys, [B, 3, 3], by Rodrigues' formula."""
    a = 1 / math.sqrt(3)
    cross = torch.tensor([[0.0, -a, a], [a, 0.0, -a], [-a, a, 0.0]])
    return torch.eye(3) + cross * _each(angle.sin()) + cross @ cross * _each(1 - angle.cos())


__all__ = [
    "DIFF_AUGMENT",
    "PHOTO_AUGMENT",
    "AugmentConfig",
    "AugmentController",
    "apply_augmentation",
    "draw_augmentation",
]
