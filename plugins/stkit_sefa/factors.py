"""The closed form: eigenvectors of the modulation weights of a range of layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stkit.plugin import Generator, LayerRange, Weights, calibrate, coordinates, load_generator, row_signs, sample_w

COUNT = 20
_SAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class Factors:
    """`directions` [K, w_dim] unit rows by falling eigenvalue, `shares` [K] of the eigenvalues' sum, `units` [K] and
    `safe_ranges`: one standard deviation of w along each, and the middle 99% of w in such units."""

    directions: Tensor
    shares: list[float]
    units: list[float]
    safe_ranges: list[tuple[float, float]]


def load_factors(weights: Weights, layers: LayerRange | None) -> Factors:
    """The factors of `layers` (None: all), computed once. Raises UsageError when the layers do not fit."""
    indices = layers.indices(weights.num_ws) if layers else range(weights.num_ws)
    return weights.keep(("sefa", indices), lambda: _compute(weights, indices))


def modulation_weights(generator: Generator, layers: range) -> Tensor:
    """A [channels, w_dim]: the affine maps from w to the styles of `layers`, one below the other.

    Of the style layers that a row of w_plus steers, those of convolutions count, and where there is none the image's.
    """
    steered: dict[int, dict[str, list[Tensor]]] = {row: {} for row in layers}
    for i, layer in enumerate(generator.style_layers()):
        if layer.w_index in steered:
            steered[layer.w_index].setdefault(layer.kind, []).append(generator.modulation(i)[0])
    parts = [part for kinds in steered.values() for part in kinds.get("conv", kinds.get("image", []))]
    return torch.cat(parts).detach()


def factorise(a: Tensor, count: int = COUNT) -> tuple[Tensor, Tensor]:
    """The `count` leading eigenvectors of A^T A as rows [K, w_dim], and all eigenvalues [w_dim], both falling.

    An eigenvector's largest entry is positive.
    """
    values, vectors = torch.linalg.eigh(a.double().T @ a.double())
    values, directions = values.flip(0).clamp(min=0), vectors.T.flip(0)[:count]
    return directions * row_signs(directions), values


def _compute(weights: Weights, layers: range) -> Factors:
    directions, values = factorise(modulation_weights(load_generator(weights), layers))
    w = weights.keep("sefa w", lambda: sample_w(weights, _SAMPLES))
    measured = [calibrate(coordinates(w, direction)) for direction in directions]
    shares = (values / values.sum())[: len(directions)].tolist()
    return Factors(directions.float(), shares, [unit for unit, _ in measured], [safe for _, safe in measured])


__all__ = ["COUNT", "Factors", "factorise", "load_factors", "modulation_weights"]
