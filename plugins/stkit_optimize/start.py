"""Where an optimisation begins: generator, codes, and the spread of w as the unit of its steps."""

from __future__ import annotations

import torch
from torch import Tensor

from stkit.plugin import (
    Generator,
    InversionContext,
    LatentSpace,
    encode_crops,
    load_generator,
    require_base,
    tuned_generator,
)

_SAMPLES = 4000


def starting_generator(context: InversionContext) -> Generator:
    """The generator of the weights, or the one that was tuned for the codes to go on from."""
    generator = load_generator(context.weights, context.device)
    if context.start is None or context.start.tuning is None:
        return generator
    require_base(context.start.tuning, context.weights)
    return tuned_generator(generator, context.start.tuning)


def starting_codes(crops: Tensor, context: InversionContext, *, encode: bool) -> Tensor:
    """Codes [B, num_ws, w_dim] for `crops`: the context's, or with `encode` the weights' own encoder's, or `w_avg`."""
    weights = context.weights
    generator = load_generator(weights, context.device)
    if context.start is not None:
        codes = context.start.codes.to(context.device)
        return generator.broadcast(codes) if context.start.space is LatentSpace.W else codes.clone()
    encoded = encode_crops(crops, context) if encode else None
    if encoded is not None:
        return encoded.codes.to(context.device)
    return generator.broadcast(generator.w_avg[None]).expand(len(crops), -1, -1).clone()


@torch.no_grad()
def w_spread(generator: Generator) -> tuple[Tensor, Tensor]:
    """Samples of w, [N, w_dim], always the same, and the root mean square of their elements' deviations, a scalar."""
    random = torch.Generator().manual_seed(0)
    z = torch.randn(_SAMPLES, generator.config.z_dim, generator=random)
    w = generator.mapping(z.to(generator.w_avg.device))
    return w, (w - w.mean(0)).square().mean().sqrt()


__all__ = ["starting_codes", "starting_generator", "w_spread"]
