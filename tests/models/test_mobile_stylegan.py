"""MobileStyleGAN: the contract of generators, half-size rendering, the inverse Haar transform."""

from __future__ import annotations

import pytest
import torch

from stkit.errors import UsageError
from stkit.models.mobile_stylegan import MobileStyleGAN
from stkit.models.mobile_stylegan_ops import inverse_haar
from stkit.models.shapes import MobileStyleGANConfig

CONFIG = MobileStyleGANConfig(16, 16, 2, (16, 16, 8))


@pytest.fixture
def generator() -> MobileStyleGAN:
    torch.manual_seed(0)
    made = MobileStyleGAN(CONFIG).eval().requires_grad_(False)
    for name, value in made.named_parameters():
        if name.endswith("noise_strength"):
            value.fill_(0.3)
    return made


def codes(count: int = 2) -> torch.Tensor:
    return torch.randn(count, CONFIG.num_ws, 16, generator=torch.Generator().manual_seed(1))


def test_the_students_shape_has_23_rows_at_1024_px() -> None:
    assert (MobileStyleGANConfig().num_ws, MobileStyleGANConfig().img_resolution) == (23, 1024)


def test_half_size_is_the_mean_of_two_by_two_pixels(generator: MobileStyleGAN) -> None:
    full = generator.synthesize(codes())
    assert full.shape == (2, 3, 32, 32)
    half = generator.synthesize(codes(), resolution=16)
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(full, 2), atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="renders 32 or 16 px, not 8"):
        generator.synthesize(codes(), resolution=8)


def test_inverse_haar_is_the_transpose_of_an_orthonormal_transform() -> None:
    x = torch.randn(1, 8, 3, 3)
    y = inverse_haar(x)
    assert y.shape == (1, 2, 6, 6)
    torch.testing.assert_close(y.square().sum(), x.square().sum())
    constant = inverse_haar(torch.cat([torch.ones(1, 1, 2, 2), torch.zeros(1, 3, 2, 2)], 1))
    assert torch.equal(constant, torch.full((1, 1, 4, 4), 0.5))
    rows = torch.zeros(1, 4, 1, 1)
    rows[0, 1] = 2.0  # high over rows: the upper row against the lower one
    assert torch.equal(inverse_haar(rows)[0, 0], torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))


def test_every_row_steers_one_style_layer(generator: MobileStyleGAN) -> None:
    layers, styles = generator.style_layers(), generator.styles(codes())
    assert [layer.w_index for layer in layers] == list(range(CONFIG.num_ws))
    assert [layer.width for layer in layers] == [style.shape[1] for style in styles]
    w = codes()[:, 3]
    weight, bias = generator.modulation(3)
    torch.testing.assert_close(w @ weight.T + bias, styles[3])


@pytest.mark.parametrize("noise", ["const", "none"])
@pytest.mark.parametrize("resolution", [None, 16])
def test_frozen_equals_plain(generator: MobileStyleGAN, noise: str, resolution: int | None) -> None:
    plain = generator.synthesize(codes(), noise, resolution=resolution)  # type: ignore[arg-type]
    frozen = generator.freeze().synthesize(codes(), noise, resolution=resolution)  # type: ignore[arg-type]
    torch.testing.assert_close(frozen, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [(64, 32), (12, 20, 8), (128, 64, 4, 8, 16)])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("half", [False, True])
def test_strips_give_the_same_image(
    channels: tuple[int, ...], threads: int, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = MobileStyleGANConfig(8, 8, 2, channels)
    made = MobileStyleGAN(config).eval()
    for name, value in made.synthesis.named_parameters():
        if name.endswith(("strength", "bias")):
            torch.nn.init.normal_(value)
    w_plus = torch.randn(3, config.num_ws, 8)
    resolution = config.img_resolution // 2 if half else None
    network = made.synthesis
    want = network(network.styles(w_plus), "const", torch.float32, resolution, ref=True)
    monkeypatch.setattr("stkit.models.mobile_stylegan_cpu._STRIP_BYTES", 4096)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        frozen = made.freeze()
        with torch.inference_mode():
            got = frozen.synthesize(w_plus, resolution=resolution)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_without_onednn_the_image_is_the_same(generator: MobileStyleGAN, monkeypatch: pytest.MonkeyPatch) -> None:
    want = generator.synthesize(codes())
    monkeypatch.setattr("stkit.models.mobile_stylegan_cpu._fuses", lambda dtype: False)
    torch.testing.assert_close(generator.freeze().synthesize(codes()), want, atol=1e-5, rtol=1e-5)


def test_a_frozen_one_is_a_copy(generator: MobileStyleGAN) -> None:
    frozen = generator.freeze()
    want = frozen.synthesize(codes())
    for value in generator.parameters():
        value.add_(1)
    assert torch.equal(frozen.synthesize(codes()), want)


def test_random_noise_has_the_strength_of_the_fixed_one(generator: MobileStyleGAN) -> None:
    w_plus = codes(1).expand(200, -1, -1)
    plain, frozen = (source.synthesize(w_plus, "random") for source in (generator, generator.freeze()))
    torch.testing.assert_close(frozen.std(0).mean(), plain.std(0).mean(), rtol=0.05, atol=0)
    assert float((frozen.mean(0) - plain.mean(0)).abs().mean()) < 0.2 * float(plain.std(0).mean())


def test_frozen_bfloat16_is_close(generator: MobileStyleGAN) -> None:
    exact, near = generator.synthesize(codes()), generator.freeze(torch.bfloat16).synthesize(codes())
    assert near.dtype == torch.float32
    assert float((exact - near).abs().mean() / exact.abs().mean()) < 0.02


def test_noise_matters_and_is_told(generator: MobileStyleGAN) -> None:
    assert len(generator.noise_maps()) == 5
    assert not torch.equal(generator.synthesize(codes()), generator.synthesize(codes(), "none"))
    for name, value in generator.named_parameters():
        if name.endswith("noise_strength"):
            value.zero_()
    assert generator.noise_maps() == {}


def test_gradients_reach_codes_and_weights(generator: MobileStyleGAN) -> None:
    w_plus = codes().requires_grad_()
    generator.synthesis.requires_grad_(True)
    generator.synthesize(w_plus, resolution=16).square().mean().backward()
    assert w_plus.grad is not None and float(w_plus.grad[:, -1].abs().max()) > 0
    assert all(p.grad is not None for name, p in generator.synthesis.named_parameters() if "noise" not in name)


def test_bfloat16_is_close(generator: MobileStyleGAN) -> None:
    exact, near = generator.synthesize(codes()), generator.synthesize(codes(), dtype=torch.bfloat16)
    assert near.dtype == torch.float32
    assert float((exact - near).abs().mean() / exact.abs().mean()) < 0.02


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="multiples of 4"):
        MobileStyleGANConfig(channels=(16, 18))
    with pytest.raises(UsageError, match="mapping_layers"):
        MobileStyleGANConfig(mapping_layers=1)
