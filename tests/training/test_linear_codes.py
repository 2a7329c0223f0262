from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from stkit.errors import UsageError
from stkit.models.style_transformer import StyleTransformer
from stkit.training.linear_codes import fit_linear_codes
from tests.training.test_inverter import GENERATOR, NETWORK, make_generator

RANK = 16


def make_network(linear_rank: int = RANK) -> StyleTransformer:
    torch.manual_seed(0)
    return StyleTransformer(dataclasses.replace(NETWORK, linear_rank=linear_rank)).eval()


def make_codes(count: int, seed: int = 0) -> torch.Tensor:
    z = torch.randn(count, GENERATOR.z_dim, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return make_generator().map(z)


def test_the_linear_map_finds_codes_that_the_mean_does_not() -> None:
    generator, network = make_generator(), make_network()
    network.latent_avg.copy_(generator.w_avg)
    calls: list[tuple[int, int]] = []
    claimed = fit_linear_codes(network, generator, make_codes(300), on_progress=lambda *call: calls.append(call))
    assert calls[-1] == (300, 300)
    new = make_codes(100, seed=1)
    with torch.no_grad():
        _, _, medium, coarse = network.backbone(generator.synthesize(new).clamp(-1, 1))
        predicted = network.linear(medium, coarse) + generator.w_avg if network.linear else None
        whole = network(generator.synthesize(new).clamp(-1, 1))
    assert predicted is not None
    spread = (new - generator.w_avg).square().mean()
    assert (predicted - new).square().mean() / spread == pytest.approx(claimed, abs=0.15)
    assert claimed < 0.7
    # What the queries add at random is small beside it.
    assert (whole - new).square().mean() < 1.2 * spread


@pytest.mark.parametrize(("rank", "samples", "message"), [(0, 64, "no linear map"), (RANK, 31, "31 samples are few")])
def test_nothing_to_fit_or_too_little_to_fit_it_on_is_refused(rank: int, samples: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit_linear_codes(make_network(rank), make_generator(), make_codes(samples))


def test_a_map_of_more_rank_than_there_are_directions_is_filled_as_far_as_they_go(tmp_path: Path) -> None:
    network = make_network(linear_rank=200)
    fit_linear_codes(network, make_generator(), make_codes(400))
    assert network.linear is not None and torch.isfinite(network.linear.up.weight).all()
