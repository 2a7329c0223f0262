from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from stkit.datasets.images import ImageSet
from stkit.errors import UsageError
from stkit.models.mapping import MappingNetwork
from stkit.models.ops import pixel_norm
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.models.stylegan2 import StyleGAN2
from stkit.training.mapping import compare_codes, fit_mapping, mean_codes, set_gaussian

CONFIG = StyleGAN2Config(16, z_dim=32, w_dim=32, mapping_layers=4, channel_base=128, channel_max=8)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_codes(count: int, width: int = 32, seed: int = 0) -> Tensor:
    """Gaussian codes with a decaying spectrum, turned and moved."""
    turn = torch.linalg.qr(torch.randn(width, width, generator=random(7)))[0]
    deviations = 2.0 / torch.arange(1, width + 1)
    mean = torch.randn(width, generator=random(8))
    return torch.randn(count, width, generator=random(seed)) * deviations @ turn + mean


def covariance(codes: Tensor) -> Tensor:
    return torch.cov(codes.T, correction=0)


@pytest.mark.parametrize("layers", range(2, 9))
@pytest.mark.parametrize(("z_dim", "w_dim"), [(12, 12), (8, 12), (16, 12)])
def test_the_gaussian_is_exact_for_any_shape_of_network(layers: int, z_dim: int, w_dim: int) -> None:
    mapping = MappingNetwork(z_dim, w_dim, layers)
    mean, root = torch.randn(w_dim, generator=random(1)), torch.randn(w_dim, w_dim, generator=random(2))
    set_gaussian(mapping, mean, root)
    z = torch.randn(500, z_dim, generator=random(3))
    used = min(z_dim, w_dim)
    expected = mean + pixel_norm(z)[:, :used] @ root[:, :used].T
    torch.testing.assert_close(mapping(z), expected, atol=2e-4, rtol=1e-4)


def test_samples_have_the_mean_and_covariance_of_the_codes() -> None:
    generator, codes = StyleGAN2(CONFIG), make_codes(5000)
    fit_mapping(generator, codes)
    torch.testing.assert_close(generator.w_avg, codes.mean(0), atol=1e-5, rtol=1e-5)
    samples = generator.mapping(torch.randn(50_000, CONFIG.z_dim, generator=random(4)))
    torch.testing.assert_close(samples.mean(0), codes.mean(0), atol=0.04, rtol=0)
    torch.testing.assert_close(covariance(samples), covariance(codes), atol=0.1, rtol=0)


def test_a_narrow_z_takes_the_leading_axes() -> None:
    generator = StyleGAN2(dataclasses.replace(CONFIG, z_dim=8))
    codes = make_codes(2000)
    fit_mapping(generator, codes)
    samples = generator.mapping(torch.randn(20_000, 8, generator=random(4)))
    variances = torch.linalg.eigvalsh(covariance(samples)).flip(0)
    torch.testing.assert_close(variances[:8], torch.linalg.eigvalsh(covariance(codes)).flip(0)[:8], atol=0.1, rtol=0.1)
    assert variances[8:].abs().max() < 1e-4


def test_figures_of_gaussian_codes_are_at_their_floor() -> None:
    figures = fit_mapping(StyleGAN2(CONFIG), make_codes(5000))
    assert figures["wasserstein"] < figures["floor_wasserstein"] + 0.03
    assert figures["spread"] == pytest.approx(1, abs=0.05) and figures["nearest"] == pytest.approx(1, abs=0.1)
    assert figures["skew"] < 0.25


def test_figures_tell_codes_that_a_gaussian_cannot_cover() -> None:
    codes = make_codes(5000)
    codes = codes + torch.where(torch.rand(5000, 1, generator=random(5)) < 0.2, 12.0, 0.0) * codes.std(0)
    figures = fit_mapping(StyleGAN2(CONFIG), codes)
    assert figures["skew"] > 2 * figures["floor_skew"]
    assert figures["wasserstein"] > 2 * figures["floor_wasserstein"]


def test_comparison_sees_samples_that_are_too_narrow_or_too_wide() -> None:
    codes, held_out, samples = (make_codes(count, seed=seed) for count, seed in ((3000, 1), (500, 2), (2000, 3)))
    mean = codes.mean(0)
    good, narrow, wide = (compare_codes(mean + scale * (samples - mean), held_out, codes) for scale in (1.0, 0.5, 2.0))
    assert narrow["spread"] == pytest.approx(0.5 * good["spread"], rel=1e-3)
    assert narrow["nearest"] < 0.8 < good["nearest"] < 1.2 < wide["nearest"]
    assert good["wasserstein"] < 0.1 < narrow["wasserstein"] < wide["wasserstein"]


def test_fitting_is_a_function_of_codes_and_seed() -> None:
    codes = make_codes(300)
    first, second = StyleGAN2(CONFIG), StyleGAN2(CONFIG)
    assert fit_mapping(first, codes, seed=1) == fit_mapping(second, codes, seed=1)
    assert torch.equal(first.mapping(codes), second.mapping(codes))


@pytest.mark.parametrize("codes", [torch.zeros(19, 32), torch.full((40, 32), float("nan")), torch.zeros(40, 2, 32)])
def test_unusable_codes_are_refused(codes: Tensor) -> None:
    with pytest.raises(UsageError, match="at least 20 finite codes"):
        fit_mapping(StyleGAN2(CONFIG), codes)


def test_mean_codes_are_those_of_the_images_and_their_mirror_images() -> None:
    torch.manual_seed(0)
    inverter = StyleTransformer(
        StyleTransformerConfig(16, 6, 6, 16, 2, 16, 0.0, 2, depths=(1, 1, 1, 1), widths=(16, 16, 16, 16))
    ).eval()
    images = ImageSet(torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8), tuple(map(str, range(40))))
    seen: list[tuple[int, int]] = []
    codes = mean_codes(inverter, images, torch.device("cpu"), on_progress=lambda *done: seen.append(done))
    assert codes.shape == (80, 16) and not codes.requires_grad and seen == [(32, 40), (40, 40)]
    photos = images.batch(torch.arange(40), torch.device("cpu"))
    torch.testing.assert_close(codes[:32], inverter(photos[:32]).mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(codes[72:], inverter(photos[32:].flip(3)).mean(1), atol=1e-5, rtol=1e-4)
