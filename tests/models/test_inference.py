"""Frozen networks are what they were frozen of, and stay so."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from benchmarks.inference import compare, generator_paths, inverter_paths
from stkit.models.generators import NoiseMode
from stkit.models.inference import freeze_style_transformer
from stkit.models.irse import IRSEBackbone
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.models.stylegan2 import StyleGAN2

TINY_GENERATOR = StyleGAN2Config(32, 24, 16, mapping_layers=2, channel_base=512, channel_max=32)
TINY_INVERTER = StyleTransformerConfig(
    input_resolution=32,
    num_ws=6,
    num_queries=8,
    d_model=16,
    heads=2,
    feedforward=32,
    mapping_layers=2,
    depths=(1, 1, 2, 1),
    widths=(16, 16, 128, 16),  # 128 channels: by Winograd's algorithm
)


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def generator() -> StyleGAN2:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = StyleGAN2(TINY_GENERATOR)
        for parameter in generator.synthesis.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return generator.eval().requires_grad_(False)


def make_inverter(config: StyleTransformerConfig) -> StyleTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = StyleTransformer(config)
        model(seeded(4, 3, 32, 32))  # batch statistics
        model.latent_avg.normal_()
    return model.eval().requires_grad_(False)


@pytest.fixture
def inverter() -> StyleTransformer:
    return make_inverter(TINY_INVERTER)


def psnr(got: Tensor, want: Tensor) -> float:
    """In dB, of the range of `want`."""
    return float(20 * torch.log10((want.max() - want.min()) / (got - want).square().mean().sqrt()))


@pytest.mark.parametrize("noise", ["const", "none"])
@pytest.mark.parametrize("batch", [1, 3])
def test_frozen_generator_is_the_ref(generator: StyleGAN2, noise: NoiseMode, batch: int) -> None:
    w_plus = seeded(batch, generator.config.num_ws, 16)
    frozen = generator.freeze()
    styles = generator.synthesis.styles(w_plus)
    ref = generator.synthesis(styles, noise, ref=True)
    torch.testing.assert_close(frozen.synthesize(w_plus, noise), ref, atol=1e-4, rtol=0)
    torch.testing.assert_close(frozen.render(styles, noise), ref, atol=1e-4, rtol=0)


def test_frozen_generator_in_bfloat16(generator: StyleGAN2) -> None:
    w_plus = seeded(2, generator.config.num_ws, 16)
    image = generator.freeze(torch.bfloat16).synthesize(w_plus)
    assert image.dtype == torch.float32
    assert psnr(image, generator.synthesize(w_plus)) > 45


def test_frozen_generator_draws_random_noise_of_the_right_strength(generator: StyleGAN2) -> None:
    w_plus = seeded(1, generator.config.num_ws, 16).expand(64, -1, -1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        frozen = generator.freeze().synthesize(w_plus, "random").std(0).mean()
        plain = generator.synthesize(w_plus, "random").std(0).mean()
    assert frozen > 0
    torch.testing.assert_close(frozen, plain, atol=0, rtol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frozen_generator_is_a_copy(generator: StyleGAN2, dtype: torch.dtype) -> None:
    w_plus = seeded(1, generator.config.num_ws, 16)
    frozen = generator.freeze(dtype)
    before = frozen.synthesize(w_plus)
    for value in generator.state_dict().values():
        value.zero_()
    assert torch.equal(frozen.synthesize(w_plus), before)


@pytest.mark.parametrize("batch", [1, 3])
def test_frozen_inverter_is_the_ref(inverter: StyleTransformer, batch: int) -> None:
    x = seeded(batch, 3, 32, 32)
    codes = freeze_style_transformer(inverter)(x)
    assert codes.shape == (batch, 6, 16)
    torch.testing.assert_close(codes, inverter(x, ref=True), atol=1e-4, rtol=0)


def test_frozen_inverter_on_lite0_is_the_ref() -> None:
    config = dataclasses.replace(TINY_INVERTER, backbone="lite0", linear_rank=4)
    inverter, x = make_inverter(config), seeded(2, 3, 64, 64)
    frozen = freeze_style_transformer(inverter)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.model.modules())
    torch.testing.assert_close(frozen(x), inverter(x, ref=True), atol=1e-4, rtol=0)


def test_frozen_inverter_in_bfloat16(inverter: StyleTransformer) -> None:
    x = seeded(2, 3, 32, 32)
    codes = freeze_style_transformer(inverter, torch.bfloat16)(x)
    assert codes.dtype == torch.float32
    assert psnr(codes, inverter(x)) > 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frozen_inverter_is_a_copy_in_evaluation_mode(inverter: StyleTransformer, dtype: torch.dtype) -> None:
    x = seeded(1, 3, 32, 32)
    before = freeze_style_transformer(inverter, dtype)(x)
    frozen = freeze_style_transformer(inverter.train(), dtype)
    assert torch.equal(frozen(x), before)
    assert inverter.training
    for value in inverter.state_dict().values():
        value.zero_()
    assert torch.equal(frozen(x), before)


def test_frozen_inverter_adds_its_average_in_float32(inverter: StyleTransformer) -> None:
    x = seeded(1, 3, 32, 32)
    codes = freeze_style_transformer(inverter, torch.bfloat16)(x)
    inverter.latent_avg += 100.3
    moved = freeze_style_transformer(inverter, torch.bfloat16)(x)
    torch.testing.assert_close(moved, codes + 100.3, atol=1e-4, rtol=0)


def test_frozen_inverter_keeps_only_batch_norms_that_come_first(inverter: StyleTransformer) -> None:
    backbone = freeze_style_transformer(inverter).model.backbone
    assert isinstance(backbone, IRSEBackbone)
    left = [name for name, module in backbone.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == [f"body.{i}.unit.res_layer.0" for i in range(len(backbone.body))]


@pytest.mark.parametrize("kind", ["generator", "inverter"])
def test_the_benchmark_compares_equal_things(kind: str) -> None:
    paths = generator_paths(TINY_GENERATOR) if kind == "generator" else inverter_paths(TINY_INVERTER)
    assert list(paths) == ["ref", "float32", "bfloat16"]
    with torch.inference_mode():
        torch.testing.assert_close(paths["float32"](), paths["ref"](), atol=1e-4, rtol=0)
    ref, *fast = compare(kind, paths, rounds=1)
    assert (ref.path, ref.speedup) == ("ref", 1.0)
    assert all(math.isclose(row.speedup, ref.seconds / row.seconds) and row.psnr > 30 for row in fast)
