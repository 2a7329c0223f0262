"""SeFa's closed form against its definition, and its edits in calibrated steps."""

from __future__ import annotations

import pytest
import torch
from stkit_sefa.factors import factorise, load_factors, modulation_weights
from stkit_sefa.method import SeFa

from stkit.contracts.editing import EditContext
from stkit.errors import UsageError
from stkit.models.registry import load_generator, sample_w
from stkit.models.stylegan2 import StyleGAN2
from stkit.options import LayerRange, Options
from stkit.testing import random_latents
from stkit.weights import Weights

CPU = torch.device("cpu")


def test_planted_factors_are_found() -> None:
    random = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 8, generator=random))[0]
    channels = torch.linalg.qr(torch.randn(30, 8, generator=random))[0]
    scales = torch.linspace(4, 0.5, 8)
    directions, values = factorise(channels * scales @ basis.T, count=3)
    assert torch.allclose((directions @ basis.double()).abs(), torch.eye(3, 8).double(), atol=1e-4)
    assert torch.allclose(values, scales.double().square(), rtol=1e-4)


def test_the_first_factor_changes_the_styles_most(tiny_weights: Weights) -> None:
    generator = load_generator(tiny_weights)
    w = sample_w(tiny_weights, 1)[:, None].expand(-1, 6, -1)
    factors = load_factors(tiny_weights, LayerRange(2, 3))

    def change(direction: torch.Tensor) -> float:
        """Squared distance in the styles of layers 2 and 3 for a unit step in w."""
        before, after = generator.styles(w), generator.styles(w + direction)
        return sum(float((a - b).square().sum()) for a, b in zip(before[2:4], after[2:4], strict=True))

    changes = [change(direction) for direction in factors.directions]
    assert changes == sorted(changes, reverse=True)
    others = torch.nn.functional.normalize(torch.randn(50, 32, generator=torch.Generator().manual_seed(1)), dim=1)
    assert changes[0] > max(change(direction) for direction in others)


def test_layers_stack(tiny_weights: Weights) -> None:
    generator = load_generator(tiny_weights)
    assert isinstance(generator, StyleGAN2)
    assert modulation_weights(generator, range(6)).shape[1] == 32
    parts = [modulation_weights(generator, range(i, i + 1)) for i in range(6)]
    assert torch.equal(torch.cat(parts), modulation_weights(generator, range(6)))
    last = generator.synthesis.to_rgbs[-1].get_submodule("affine")
    w = torch.randn(3, 32)
    assert torch.allclose(last(w) - last(torch.zeros(3, 32)), w @ parts[-1].T, atol=1e-5)


def test_strength_is_in_standard_deviations(tiny_weights: Weights) -> None:
    latents = random_latents(tiny_weights, 2)
    layers = LayerRange(2, 3)
    context = EditContext(tiny_weights, CPU, "eig2", strength=-1.5, layers=layers)
    moved = SeFa().edit(latents, Options(), context).codes - latents.codes
    direction = load_factors(tiny_weights, layers).directions[1]
    unit = float((sample_w(tiny_weights, 10_000) @ direction).std())
    assert torch.allclose(moved[:, 2:4], (-1.5 * unit * direction).expand(2, 2, -1), atol=1e-4)
    assert load_factors(tiny_weights, layers) is load_factors(tiny_weights, layers)


def test_unknown_factor(tiny_weights: Weights) -> None:
    with pytest.raises(UsageError, match="did you mean"):
        SeFa().edit(random_latents(tiny_weights, 1), Options(), EditContext(tiny_weights, CPU, "eig99"))
