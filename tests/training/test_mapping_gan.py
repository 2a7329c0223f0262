"""The mapping network trained on codes: the same function as a StyleGAN2 one, codes no Gaussian covers, resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stkit.errors import UsageError
from stkit.models.shapes import StyleGAN2Config
from stkit.models.stylegan2 import StyleGAN2
from stkit.training.loop import LoopConfig
from stkit.training.mapping import compare_codes, moments, set_gaussian
from stkit.training.mapping_gan import CodeMapping, MappingConfig, MappingRun, with_mapping
from tests.training.resuming import log_lines, require_same_bits

CPU = torch.device("cpu")
SHAPE = StyleGAN2Config(16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8)
WHOLE = (0.0, 0.0, 1.0, 1.0)


def ring(count: int, seed: int = 0) -> Tensor:
    """Codes [count, 8] on a thin ring in two of their axes: a Gaussian of them fills its middle."""
    random = torch.Generator().manual_seed(seed)
    angle = 6.2832 * torch.rand(count, generator=random)
    rest = 0.1 * torch.randn(count, 6, generator=random)
    return torch.cat([3 * torch.stack([angle.cos(), angle.sin()], 1), rest], 1) + torch.arange(8.0)


def radius(codes: Tensor) -> Tensor:
    return (codes[:, :2] - torch.arange(2.0)).norm(dim=1)


def make_run(out: Path, steps: int = 1, **changes: Any) -> MappingRun:
    batch, resume = changes.pop("batch", 64), changes.pop("resume", False)
    codes, held_out = changes.pop("codes", ring(2000)), changes.pop("held_out", ring(200, 1))
    config = MappingConfig(8, 8, **{"critic_width": 64, "learning_rate": 5e-3, "ema_decay": 0.98, **changes})
    loop = LoopConfig(out, steps, batch, resume=resume)
    torch.manual_seed(1)
    return MappingRun(config, loop, StyleGAN2(SHAPE), codes, held_out, WHOLE, CPU)


@pytest.mark.parametrize("layers", [3, 4, 8])
@pytest.mark.parametrize("z_dim", [6, 8, 12])
def test_it_is_a_mapping_network_of_stylegan2(layers: int, z_dim: int) -> None:
    torch.manual_seed(0)
    ours = CodeMapping(MappingConfig(z_dim, 8, layers), *moments(ring(500)))
    theirs = ours.network()
    z = torch.randn(100, z_dim)
    torch.testing.assert_close(theirs(z), ours(z), atol=1e-4, rtol=1e-4)
    generator = StyleGAN2(SHAPE)
    changed = with_mapping(generator, theirs)
    assert (changed.config.mapping_layers, changed.config.z_dim) == (layers, z_dim)
    torch.testing.assert_close(changed.map(z)[:, 0], ours(z), atol=1e-4, rtol=1e-4)
    codes = generator.broadcast(ours(z[:2]))
    assert torch.equal(changed.synthesize(codes), generator.synthesize(codes))


def test_samples_come_to_lie_where_codes_do_and_a_gaussian_does_not(tmp_path: Path) -> None:
    run = make_run(tmp_path, 400)
    codes = ring(2000)
    z = torch.randn(2000, 8, generator=torch.Generator().manual_seed(2))
    gaussian = StyleGAN2(SHAPE).mapping.requires_grad_(False)
    set_gaussian(gaussian, *moments(codes))
    strays = (radius(gaussian(z)) < 2).float().mean()
    assert run.train() == 400
    samples = run.averaged.network()(z).detach()
    assert strays > 0.3 and (radius(samples) < 2).float().mean() < 0.6 * strays
    offset = samples.mean(0) - codes.mean(0)
    assert offset.abs().max() < 0.5  # all around the ring
    assert (samples.std(0) / codes.std(0))[:2].min() > 0.8
    figures = [line for line in log_lines(tmp_path) if "val_nearest" in line]
    assert figures[-1]["val_nearest"] < compare_codes(gaussian(z), ring(200, 1), codes)["nearest"]
    assert len(list((tmp_path / "samples").glob("*.png"))) == 1


def test_it_begins_the_same_wherever_its_memory_lies() -> None:
    kept, starts = [], []
    for i in range(5):
        kept.append(torch.randn(1000 + 37 * i))
        torch.manual_seed(0)
        starts.append(CodeMapping(MappingConfig(8, 8), *moments(ring(500))).axes.weight)
    assert all(torch.equal(starts[0], start) for start in starts)


def test_a_run_stopped_halfway_ends_with_the_same_bits(tmp_path: Path) -> None:
    require_same_bits(make_run, tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"codes": torch.zeros(19, 8)}, "at least 20 finite codes of width 8"),
        ({"codes": torch.full((40, 8), float("nan"))}, "finite codes"),
        ({"codes": torch.zeros(40, 9)}, r"got \[40, 9\]"),
        ({"held_out": torch.zeros(1, 8)}, "at least 2 finite codes"),
        ({"batch": 40}, "no multiple of 16"),
        ({"mapping_layers": 2}, "3 to 8 are possible"),
        ({"mapping_layers": 9}, "3 to 8 are possible"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        make_run(tmp_path, **changes)
