"""The tuning step of PTI."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stkit.plugin import (
    Generator,
    InversionContext,
    Latents,
    LatentSpace,
    Tuning,
    fast_dtype,
    load_generator,
    tuning_between,
)
from stkit_optimize.descent import descend
from stkit_optimize.objective import Objective, load_network
from stkit_optimize.start import starting_generator, w_spread

if TYPE_CHECKING:
    from stkit_optimize.options import PTIOptions


def tune(crops: Tensor, pivots: Latents, options: PTIOptions, context: InversionContext) -> Tuning:
    """What makes the generator give `crops` [B, 3, R, R] at `pivots`, codes of the same rows."""
    device = context.device
    base = load_generator(context.weights, device)
    before = starting_generator(context)
    tuned = copy.deepcopy(before)
    parameters = [p.requires_grad_() for p in tuned.synthesis.parameters()]
    network, dtype = load_network(options.lpips, device), fast_dtype(device)
    sizes = tuning_sizes(context.weights.resolution)
    objectives = [
        Objective(crop, options.l2, options.lpips, network, sizes, dtype) for crop in crops.to(device).split(1)
    ]
    codes = pivots.codes.to(device)
    w_plus = base.broadcast(codes) if pivots.space is LatentSpace.W else codes
    w, std = w_spread(base)
    random = torch.Generator().manual_seed(context.seed)

    def loss_at(step: int) -> Tensor:
        pairs = zip(objectives, w_plus.split(1), strict=True)
        loss = torch.stack([objective(tuned.synthesize(pivot, dtype=dtype)) for objective, pivot in pairs]).mean()
        if options.locality and step % options.locality_every == 0:
            pivot = w_plus[int(torch.randint(len(w_plus), (), generator=random))]
            other = w[int(torch.randint(len(w), (), generator=random))]
            near = neighbour(pivot, other, options.locality_radius * float(std))[None]
            kept = _wanted(before, near, options, objectives[0])
            loss = loss + options.locality * options.locality_every * kept(tuned.synthesize(near, dtype=dtype))
        return loss

    def tuning() -> Tuning:
        return tuning_between(base, tuned, context.weights)

    def on_step(done: int) -> None:
        context.on_progress(done, options.steps)
        context.on_latents(lambda: dataclasses.replace(pivots, tuning=tuning()))

    descend(parameters, options.learning_rate, options.steps, options.patience, loss_at, on_step)
    return tuning()


def tuning_sizes(resolution: int) -> tuple[int, ...]:
    """Where LPIPS sees the images: details are what tuning is for, so all of a small picture's, up to 512 px."""
    if resolution > 512:
        return (256, 512)
    return (max(256 if resolution > 64 else 2 * resolution, resolution),)


def neighbour(pivot: Tensor, other: Tensor, radius: float) -> Tensor:
    """`pivot` [num_ws, w_dim] moved towards w `other` [w_dim] by `radius` in the root mean square of its elements."""
    way = other - pivot
    return pivot + radius * math.sqrt(way.numel()) * way / way.norm()


def _wanted(generator: Generator, codes: Tensor, options: PTIOptions, like: Objective) -> Objective:
    """The objective whose crop is what `generator` gives for `codes`."""
    with torch.no_grad():
        image = generator.synthesize(codes, dtype=like.dtype)
    return Objective(image, options.l2, options.lpips, like.network, like.sizes, like.dtype)


__all__ = ["neighbour", "tune", "tuning_sizes"]
