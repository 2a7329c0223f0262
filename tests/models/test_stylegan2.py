from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stkit.checkpoints.rosinality import convert_rosinality_generator, infer_rosinality_generator
from stkit.errors import UsageError
from stkit.models.generators import NoiseMode
from stkit.models.shapes import StyleGAN2Config
from stkit.models.stylegan2 import StyleGAN2
from tests.goldens import Golden, load_golden


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_generator(resolution: int = 32, mapping_layers: int = 2) -> StyleGAN2:
    """A small generator whose noise and biases matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = StyleGAN2(StyleGAN2Config(resolution, 24, 16, mapping_layers, channel_base=256, channel_max=32))
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.data.fill_(0.3)
            elif name.startswith("synthesis") and name.endswith(".bias"):
                parameter.data.add_(0.2 * torch.randn_like(parameter))
        generator.w_avg.copy_(generator.compute_w_avg(100))
    return generator.eval()


@pytest.fixture(scope="module")
def generator() -> StyleGAN2:
    return make_generator().requires_grad_(False)


@pytest.fixture(scope="module")
def w_plus(generator: StyleGAN2) -> Tensor:
    return seeded(2, generator.config.num_ws, 16)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load_golden("stylegan2_generator_64")


@pytest.fixture(scope="module")
def golden_generator(golden: Golden) -> StyleGAN2:
    state = golden.state()
    generator = StyleGAN2(infer_rosinality_generator(state))
    generator.load_state_dict(convert_rosinality_generator(state, golden.latent_avg))
    return generator.eval().requires_grad_(False)


def test_golden_configuration(golden_generator: StyleGAN2) -> None:
    assert golden_generator.config == StyleGAN2Config(64, 512, 512, 8, 32768, 512)


def test_golden_fast_image(golden: Golden, golden_generator: StyleGAN2) -> None:
    assert golden.error("image", golden_generator.synthesize(golden.inputs["w_plus"])) <= 1e-4


def test_golden_ref_image(golden: Golden, golden_generator: StyleGAN2) -> None:
    styles = golden_generator.synthesis.styles(golden.inputs["w_plus"])
    assert golden.error("image", golden_generator.synthesis(styles, ref=True)) <= 1e-4


def test_golden_frozen_image(golden: Golden, golden_generator: StyleGAN2) -> None:
    assert golden.error("image", golden_generator.freeze().synthesize(golden.inputs["w_plus"])) <= 1e-4


def test_golden_mapping_and_truncation(golden: Golden, golden_generator: StyleGAN2) -> None:
    z = golden.inputs["z"]
    assert golden.error("w", golden_generator.mapping(z)) <= 1e-4
    w_plus = golden_generator.map(z[:2], truncation_psi=0.7)
    assert golden.error("w_truncated", w_plus[:, 0]) <= 5e-5
    assert golden.error("image_truncated", golden_generator.synthesize(w_plus)) <= 1e-4


@pytest.mark.parametrize("resolution", [16, 64])
@pytest.mark.parametrize("noise", ["const", "none"])
def test_fast_is_ref(resolution: int, noise: NoiseMode) -> None:
    generator = make_generator(resolution).requires_grad_(False)
    styles = generator.synthesis.styles(seeded(3, generator.config.num_ws, 16))
    fast, ref = generator.synthesis(styles, noise), generator.synthesis(styles, noise, ref=True)
    torch.testing.assert_close(fast, ref, atol=1e-4, rtol=0)


def test_gradients_of_fast_are_those_of_ref() -> None:
    generator = make_generator(16)
    w_plus = seeded(2, generator.config.num_ws, 16).requires_grad_()
    wanted = [w_plus, *generator.synthesis.parameters()]
    grads = []
    for ref in (False, True):
        image = generator.synthesis(generator.synthesis.styles(w_plus), ref=ref)
        grads.append(torch.autograd.grad((image * seeded(*image.shape)).sum(), wanted))
    for fast, expected in zip(*grads, strict=True):
        torch.testing.assert_close(fast, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)


def test_bfloat16_features_stay_near_float32(generator: StyleGAN2, w_plus: Tensor) -> None:
    image = generator.synthesize(w_plus, dtype=torch.bfloat16)
    assert image.dtype == torch.float32
    exact = generator.synthesize(w_plus)
    assert (image - exact).square().mean().sqrt() < 0.02 * exact.square().mean().sqrt()


@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256, 512, 1024])
def test_every_resolution(resolution: int) -> None:
    config = StyleGAN2Config(resolution)
    assert config.num_ws == 2 * math.log2(resolution) - 2
    with torch.device("meta"):
        generator = StyleGAN2(config)
        image = generator(torch.empty(2, 512))
    assert image.shape == (2, 3, resolution, resolution)
    assert len(generator.synthesis.convs) + 1 == config.num_ws


@pytest.mark.parametrize("resolution", [8, 48, 2048])
def test_other_resolutions_are_refused(resolution: int) -> None:
    with pytest.raises(UsageError, match="power of two from 16 to 1024"):
        StyleGAN2Config(resolution)


@pytest.mark.parametrize("layers", [1, 9])
def test_other_mapping_depths_are_refused(layers: int) -> None:
    with pytest.raises(UsageError, match="not in 2 to 8"):
        StyleGAN2Config(64, mapping_layers=layers)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"channel_base": 64}, "leaves no channels at 128 px; give 128"), ({"w_dim": 0}, "must be 1 or more")],
)
def test_networks_without_channels_are_refused(change: dict[str, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        StyleGAN2Config(128, **change)


@pytest.mark.parametrize("layers", range(2, 9))
def test_mapping_depths(layers: int) -> None:
    generator = make_generator(16, layers)
    assert len(generator.mapping.layers) == layers
    assert generator(seeded(1, 24)).isfinite().all()


def test_z_w_w_plus_and_styles_give_the_same_image(generator: StyleGAN2) -> None:
    z = seeded(2, 24)
    w = generator.mapping(z)
    image = generator(z)
    torch.testing.assert_close(generator.synthesize(generator.broadcast(w)), image)
    torch.testing.assert_close(generator.synthesize(generator.map(z)), image)
    torch.testing.assert_close(generator.synthesis(generator.synthesis.styles(generator.map(z))), image)


def test_styles_are_one_a_layer(generator: StyleGAN2, w_plus: Tensor) -> None:
    styles = generator.synthesis.styles(w_plus)
    layers = [*generator.synthesis.convs, *generator.synthesis.to_rgbs]
    assert [style.shape for style in styles] == [(2, layer.weight.shape[1]) for layer in layers]


def test_each_w_steers_its_own_layers(generator: StyleGAN2, w_plus: Tensor) -> None:
    moved = w_plus.clone()
    moved[:, -1] += 1  # the last ToRGB alone
    before, after = generator.synthesis.styles(w_plus), generator.synthesis.styles(moved)
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if not torch.equal(a, b)]
    assert changed == [len(before) - 1]


def test_truncation(generator: StyleGAN2) -> None:
    z = seeded(2, 24)
    full, half = generator.map(z), generator.map(z, 0.5)
    torch.testing.assert_close(half, (full + generator.w_avg) / 2)
    torch.testing.assert_close(generator.map(z, 0.0), generator.w_avg.expand_as(full))
    cut = generator.map(z, 0.5, truncation_cutoff=3)
    torch.testing.assert_close(cut[:, :3], half[:, :3])
    torch.testing.assert_close(cut[:, 3:], full[:, 3:])


def test_noise_modes(generator: StyleGAN2, w_plus: Tensor) -> None:
    const, none = generator.synthesize(w_plus), generator.synthesize(w_plus, "none")
    assert torch.equal(generator.synthesize(w_plus), const)
    assert torch.equal(generator.synthesize(w_plus, "none"), none)
    assert not torch.allclose(const, none, atol=0.01)
    torch.manual_seed(0)
    first, second = generator.synthesize(w_plus, "random"), generator.synthesize(w_plus, "random")
    assert not torch.allclose(first, second, atol=0.01)
    torch.manual_seed(0)
    assert torch.equal(generator.synthesize(w_plus, "random"), first)


def test_random_noise_differs_within_a_batch(generator: StyleGAN2, w_plus: Tensor) -> None:
    twice = generator.synthesize(w_plus[:1].expand(2, -1, -1), "random")
    assert not torch.allclose(twice[0], twice[1], atol=0.01)


def test_w_avg_is_the_mean_of_the_mapping(generator: StyleGAN2) -> None:
    mean = generator.compute_w_avg(4000, seed=1)
    torch.testing.assert_close(mean, generator.mapping(seeded(4000, 24, seed=2)).mean(0), atol=0.1, rtol=0)
    assert torch.equal(mean, generator.compute_w_avg(4000, seed=1))
