from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from stkit.contracts.framing import AlignmentTemplate
from stkit.datasets.images import ImageSet
from stkit.errors import WeightsError
from stkit.models.registry import load_generator
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.training.loop import LoopConfig
from stkit.training.mapping import fit_mapping, mean_codes
from stkit.training.reconstruction import (
    Autoencoder,
    ReconstructionConfig,
    ReconstructionRun,
    export_reconstruction,
    stage_at,
)
from stkit.weights import find_weights, verify_weights
from tests.training.resuming import log_lines, require_same_bits

GENERATOR = StyleGAN2Config(32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=16)
INVERTER = StyleTransformerConfig(
    input_resolution=32,
    num_ws=GENERATOR.num_ws,
    num_queries=GENERATOR.num_ws,
    d_model=16,
    heads=2,
    feedforward=16,
    mapping_layers=2,
    depths=(1, 1, 1, 1),
    widths=(16, 16, 16, 16),
)
TINY = ReconstructionConfig(GENERATOR, INVERTER, learning_rate=5e-3, dtype=torch.float32, compile=False)
TEMPLATE = AlignmentTemplate("points", 128, ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.5)))
CPU = torch.device("cpu")


def make_set(count: int = 16, seed: int = 0) -> ImageSet:
    coarse = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) * 255
    images = nn.functional.interpolate(coarse, size=32, mode="bilinear").byte()
    return ImageSet(images, tuple(f"{i}.png" for i in range(count)))


def make_run(out: Path, steps: int, **changes: Any) -> ReconstructionRun:
    loop = LoopConfig(**{"out": out, "steps": steps, "batch": 4, "save_seconds": 1e6, **changes})
    return ReconstructionRun(TINY, loop, make_set(), make_set(5, seed=1), CPU)


def test_lpips_can_be_left_out(tmp_path: Path) -> None:
    loop = LoopConfig(tmp_path, 1, 4)
    for weight, there in ((0.0, False), (0.8, True)):
        config = dataclasses.replace(TINY, lpips=weight)
        losses = ReconstructionRun(config, loop, make_set(), make_set(5, seed=1), CPU).step(0)
        assert ("lpips" in losses) == there and {"loss", "mse", "norm"} <= losses.keys()


def trained(run: ReconstructionRun) -> Autoencoder:
    model = run.ema.model
    assert isinstance(model, Autoencoder)
    return model


def test_a_run_stopped_halfway_ends_with_the_same_bits(tmp_path: Path) -> None:
    require_same_bits(make_run, tmp_path)


def test_training_learns_to_reconstruct(tmp_path: Path) -> None:
    run = make_run(tmp_path, 110)
    mapping = {name: value.clone() for name, value in run.model.generator.mapping.state_dict().items()}
    before = run.sample(0)
    run.train()
    lines = log_lines(tmp_path)
    assert lines[-1]["val_mse"] < 0.5 * before["val_mse"] and lines[-1]["val_lpips"] > 0
    assert lines[-2].keys() >= {"loss", "mse", "mse_w", "lpips", "norm"}
    after = run.model.generator.mapping.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in mapping.items())
    with Image.open(tmp_path / "samples" / "0000110.png") as grid:
        assert grid.size == (5 * 36 + 4, 2 * 36 + 4)


def test_a_growing_run_starts_small_and_ends_whole(tmp_path: Path) -> None:
    stages = [stage_at(32, 128, step, 156) for step in range(156)]
    assert stages == [(32, 0, 100)] * 100 + [(64, 100, 140)] * 40 + [(128, 140, 156)] * 16
    assert {stage_at(16, 16, step, 5) for step in range(5)} == {(16, 0, 5)}

    generator = replace(GENERATOR, img_resolution=64)
    inverter = replace(StyleTransformerConfig.small(generator), input_resolution=32)
    config = replace(TINY, generator=generator, inverter=inverter, grow_from=32)
    coarse = make_set().images
    images = ImageSet(nn.functional.interpolate(coarse.float(), size=64).byte(), tuple(f"{i}.png" for i in range(16)))
    run = ReconstructionRun(config, LoopConfig(tmp_path, 7, 4), images, images, CPU)
    untrained = run.model.generator.synthesis.to_rgbs[-1].get_parameter("weight")
    assert torch.count_nonzero(untrained) == 0
    for step in range(5):
        run.step(step)
    assert torch.count_nonzero(untrained) == 0
    for step in (5, 6):
        run.step(step)
    assert torch.count_nonzero(untrained) == untrained.numel()
    assert trained(run)(images.batch(torch.arange(2), CPU), torch.float32).shape == (2, 3, 64, 64)


def test_all_of_each_batch_may_be_rendered_from_its_mean_w(tmp_path: Path) -> None:
    loop = LoopConfig(tmp_path, 1, 4)
    run = ReconstructionRun(replace(TINY, mean_share=1.0), loop, make_set(), make_set(5, seed=1), CPU)
    losses = run.step(0)
    assert all(torch.isfinite(value) for value in losses.values()) and "mse" not in losses


def test_export_writes_both_networks_for_each_other(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 3)
    run.train()
    model = trained(run)
    fit_mapping(model.generator, mean_codes(model.inverter, make_set(), CPU))
    generator, inverter = export_reconstruction(
        model, tmp_path / "tiny", domain="faces", alignment=TEMPLATE, licence="CC0-1.0", notes={"steps": 3}
    )
    assert inverter.generator == generator.generator == generator.fingerprint
    weights = find_weights(str(tmp_path / "tiny"))
    assert verify_weights(weights) == {"generator.safetensors": "ok", "inverter.safetensors": "ok"}
    assert (weights.domain, weights.alignment, weights.header.notes) == ("faces", TEMPLATE, {"steps": 3})

    loaded = weights.load(
        "inverter", "style-transformer", lambda c: StyleTransformer(StyleTransformerConfig.from_dict(c))
    )
    images = make_set().batch(torch.arange(3), CPU)
    ours = load_generator(weights).synthesize(loaded(images), noise="none")
    torch.testing.assert_close(ours, model(images, torch.float32), atol=2e-2, rtol=0)
    assert loaded.state_dict()["backbone.input_layer.1.num_batches_tracked"] == 3


def test_an_inverter_that_half_floats_cannot_hold_is_refused(tmp_path: Path) -> None:
    model = Autoencoder(TINY)
    model.inverter.z.data[0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match="z holds values that float16 cannot"):
        export_reconstruction(model, tmp_path, domain="faces", alignment=TEMPLATE, licence="CC0-1.0")
