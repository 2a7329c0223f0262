"""Generators of weights: built by the architecture that their header names, loaded, sampled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stkit.contracts.generators import Architecture
from stkit.contracts.shapes import Shape
from stkit.errors import UsageError, WeightsError
from stkit.models.generators import Generator
from stkit.plugins import load_plugins

if TYPE_CHECKING:
    from stkit.contracts.inversion import InversionContext
    from stkit.latents.latents import Latents
    from stkit.weights import Weights


def load_generator(weights: Weights, device: torch.device | str = "cpu") -> Generator:
    """The generator of `weights`, in eval mode, loaded once for each device.

    Raises WeightsError, UnknownNameError when no plugin brings its architecture.
    """
    architecture = load_plugins().architecture(weights.header.architecture)

    def build(values: Mapping[str, Any]) -> Generator:
        return architecture.build(read_config(architecture, values, weights.path("generator")))

    return weights.load("generator", architecture.name, build, device)


def read_config(architecture: Architecture, values: Mapping[str, Any], source: Path) -> Shape:
    """The configuration that `values` of the header of `source` stand for. Raises WeightsError."""
    try:
        return architecture.config(values)
    except TypeError:
        entries = ", ".join(map(str, values))[:200]
        reason = f"entries of its config ({entries}) are missing, unknown or of another type"
        raise WeightsError(f"{source} does not describe a {architecture.name}: {reason}") from None
    except (AttributeError, LookupError, ValueError, UsageError) as error:
        raise WeightsError(f"{source} does not describe a {architecture.name}: {error}") from None


def encode_crops(crops: Tensor, context: InversionContext) -> Latents | None:
    """Codes of `crops` [B, 3, R, R] by the weights' own encoder, None when they have none that a plugin can run."""
    name = context.weights.own_inverter() if context.weights.inverters() else None
    inverter = load_plugins().inverters.get(name) if name else None
    return inverter.invert(crops, inverter.Options(), context) if inverter else None


@torch.inference_mode()
def sample_w(weights: Weights, count: int, seed: int = 0) -> Tensor:
    """w [count, w_dim] of random z, the same for the same seed."""
    generator = load_generator(weights)
    random = torch.Generator().manual_seed(seed)
    z_dim = generator.config.z_dim
    chunks = [generator.mapping(torch.randn(2_000, z_dim, generator=random)) for _ in range(-(-count // 2_000))]
    return torch.cat(chunks)[:count].clone()


@torch.inference_mode()
def sample_codes(weights: Weights, count: int, seed: int = 0) -> Tensor:
    """w_plus [count, num_ws, w_dim] as varied as inverted photos are; number i is the same for any `count`.

    Each is drawn at truncation 1, 0.85 or 0.7. Half of them mix two or three codes from layer to layer; three in ten
    have noise of 0.3 standard deviations on every layer, as codes of photos do.
    """
    generator = load_generator(weights)
    z_dim, mean = generator.config.z_dim, generator.w_avg.cpu()
    codes = torch.empty(count, weights.num_ws, weights.w_dim)
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        randoms = [torch.Generator().manual_seed(1_000_000 * (seed + 1) + i) for i in numbers]
        z = torch.cat([torch.randn(3, z_dim, generator=random) for random in randoms])
        parts = generator.mapping(z.to(generator.w_avg)).cpu().split(3)
        for i, w, random in zip(numbers, parts, randoms, strict=True):
            codes[i] = _varied(w, mean, weights.num_ws, random)
    return codes


def _varied(w: Tensor, mean: Tensor, num_ws: int, random: torch.Generator) -> Tensor:
    """One of `sample_codes` from three w [3, w_dim]."""
    truncation = (1.0, 0.85, 0.7)[int(torch.randint(3, (), generator=random))]
    kind = float(torch.rand((), generator=random))
    code = w[0].repeat(num_ws, 1)
    if kind < 0.5:
        cuts = torch.randint(1, num_ws, (2,), generator=random).sort().values
        code[cuts[0] :] = w[1]
        if kind < 0.25:
            code[cuts[1] :] = w[2]
    if kind < 0.15 or kind > 0.85:
        code += 0.3 * (w - mean).square().mean().sqrt() * torch.randn(code.shape, generator=random)
    return mean + truncation * (code - mean)


__all__ = ["encode_crops", "load_generator", "read_config", "sample_codes", "sample_w"]
