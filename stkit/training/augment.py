"""Adaptive discriminator augmentation (Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data").

Everything that the discriminator sees, real or generated, goes through the same kinds of random
change, each made with probability p; p follows how much the discriminator overfits. Unlike the
paper's, all geometric changes are one bilinear resampling, with no wavelet filter around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

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


def augment(images: Tensor, config: AugmentConfig, p: float, generator: torch.Generator) -> Tensor:
    """Randomly changed `images` [B, 3, R, R] in [-1, 1], float32, differentiable, not clamped.

    `generator` is on the CPU whatever the device of the images; with p = 0 nothing changes.
    """
    geometry = draw_geometry(config, p, len(images), images.shape[-1], generator).to(images.device)
    colour = draw_colour(config, p, len(images), generator).to(images.device)
    return apply_colour(apply_geometry(images, geometry), colour)


def draw_geometry(config: AugmentConfig, p: float, count: int, resolution: int, generator: torch.Generator) -> Tensor:
    """Random matrices [count, 3, 3] that take output to input positions, in [-1, 1] across the image."""
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


def draw_colour(config: AugmentConfig, p: float, count: int, generator: torch.Generator) -> Tensor:
    """Random affine matrices [count, 4, 4] on (r, g, b, 1)."""
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
    linear = (grey + (eye - grey) * _each(vividness)) @ linear
    matrix = torch.eye(4).repeat(count, 1, 1)
    matrix[:, :3, :3] = linear
    matrix[:, :3, 3] = linear.sum(2) * offset[:, None]  # brightness comes first
    return matrix
