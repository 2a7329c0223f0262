"""Projection to W (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, appendix D)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from stkit.plugin import Generator
from stkit_optimize.descent import descend
from stkit_optimize.objective import Objective
from stkit_optimize.start import w_spread

if TYPE_CHECKING:
    from stkit_optimize.options import OptimizeOptions

_NOISE_FACTOR, _NOISE_RAMP = 0.05, 0.75
"""Of the random steps of w: their size at first, and the share of the optimisation in which they die away."""


def project(
    generator: Generator,
    objective: Objective,
    start: Tensor,
    options: OptimizeOptions,
    seed: int,
    explore: bool,
    on_step: Callable[[int, Callable[[], Tensor]], None],
) -> Tensor:
    """w [1, w_dim] from `start` [w_dim]; `explore` adds the random steps, which leave the start behind.

    `on_step` hears how many steps are done, with a function that gives the codes [1, num_ws, w_dim] so far.

    Noise maps of layers that use noise are optimised as well, so that w need not explain what is
    random, and then dropped: the generator's own are used with the code.
    """
    generator = copy.deepcopy(generator)
    _, std = w_spread(generator)
    random = torch.Generator().manual_seed(seed)
    maps = _own_noise(generator, random)
    offset = torch.zeros_like(start).requires_grad_()  # in standard deviations of w
    size = _NOISE_FACTOR * math.sqrt(len(start)) if explore else 0.0

    def loss_at(step: int) -> Tensor:
        _normalise(maps)
        left = max(0.0, 1 - step / (_NOISE_RAMP * options.steps))
        shake = size * left**2 * torch.randn(start.shape, generator=random).to(start)
        shaken = start + std * (offset + shake)
        image = generator.synthesize(
            generator.broadcast(shaken[None]), dtype=objective.dtype, resolution=objective.crop.shape[-1]
        )
        return objective(image) + options.noise * noise_regularisation(maps)

    def w() -> Tensor:
        return (start + std * offset).detach()[None]

    def on_done(done: int) -> None:
        on_step(done, lambda: generator.broadcast(w()))

    # While the random steps last, the loss says little about what is gained.
    patience = 0 if explore else options.patience
    rate = options.rate(generator.config.img_resolution)
    descend([offset, *maps], rate, options.steps, patience, loss_at, on_done)
    return w()


def noise_regularisation(maps: list[Tensor]) -> Tensor:
    """How much neighbours of noise maps [R, R] have in common, at all scales down to 8 px; a scalar."""
    total = torch.zeros((), device=maps[0].device) if maps else torch.zeros(())
    for noise in maps:
        level = noise[None, None]
        while True:
            for dim in (2, 3):
                total = total + (level * level.roll(1, dim)).mean().square()
            if level.shape[-1] <= 8:
                break
            level = F.avg_pool2d(level, 2) * 2  # keeps the variance of white noise
    return total


def _own_noise(generator: Generator, random: torch.Generator) -> list[Tensor]:
    """Fresh noise maps, with gradients, in the layers of `generator` that use noise."""
    maps = []
    for name, fixed in generator.noise_maps().items():
        noise = torch.randn(fixed.shape, generator=random).to(fixed).requires_grad_()
        layer, _, buffer = name.rpartition(".")
        generator.get_submodule(layer).register_buffer(buffer, noise)
        maps.append(noise)
    return maps


@torch.no_grad()
def _normalise(maps: list[Tensor]) -> None:
    for noise in maps:
        noise -= noise.mean()
        noise /= noise.square().mean().sqrt()


__all__ = ["noise_regularisation", "project"]
