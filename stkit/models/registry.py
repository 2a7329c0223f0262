"""Generators of weights: built by the architecture that their header names, loaded, sampled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stkit.contracts.generators import Architecture, Shape
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
    except (AttributeError, LookupError, TypeError, ValueError, UsageError) as error:
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


__all__ = ["encode_crops", "load_generator", "read_config", "sample_w"]
