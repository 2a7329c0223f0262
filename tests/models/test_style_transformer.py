from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from stkit.checkpoints.style_transformer import convert_style_transformer
from stkit.errors import UsageError
from stkit.models.inference import freeze_style_transformer
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig, upsample_add, upsample_add_ref
from tests.goldens import Golden, load_golden

TINY = StyleTransformerConfig(
    input_resolution=32,
    num_ws=6,
    num_queries=6,
    d_model=16,
    heads=2,
    feedforward=32,
    mapping_layers=2,
    depths=(1, 1, 2, 1),
    widths=(16, 16, 32, 16),
)


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def make_tiny(config: StyleTransformerConfig = TINY) -> StyleTransformer:
    """A small model with batch statistics that are not those of initialisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = StyleTransformer(config)
        model(seeded(4, 3, 32, 32))
        model.latent_avg.normal_()
    return model.eval()


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load_golden("style_transformer_1024_codes")


@pytest.fixture(scope="module")
def golden_model(golden: Golden) -> StyleTransformer:
    state = golden.state("encoder.", "decoder.module.style.")
    model = StyleTransformer(StyleTransformerConfig())
    model.load_state_dict(convert_style_transformer(state, golden.latent_avg))
    return model.eval().requires_grad_(False)


def test_golden_queries(golden: Golden, golden_model: StyleTransformer) -> None:
    assert golden.error("query", golden_model.queries()[0]) <= 1e-4


def test_golden_ref_codes(golden: Golden, golden_model: StyleTransformer) -> None:
    assert golden.error("codes", golden_model(golden.inputs["x"], ref=True)) <= 1e-4


def test_golden_fast_codes(golden: Golden, golden_model: StyleTransformer) -> None:
    assert golden.error("codes", golden_model(golden.inputs["x"])) <= 1e-4


def test_golden_frozen_codes(golden: Golden, golden_model: StyleTransformer) -> None:
    assert golden.error("codes", freeze_style_transformer(golden_model)(golden.inputs["x"])) <= 1e-4


def test_small_ones_fit_their_generator() -> None:
    assert StyleTransformerConfig.small(StyleGAN2Config(1024)).input_resolution == 256
    assert StyleTransformerConfig.small(StyleGAN2Config(64)).input_resolution == 64
    with pytest.raises(UsageError, match="130 of w is not a multiple of the 4 attention heads"):
        StyleTransformerConfig.small(StyleGAN2Config(64, 130, 130))


def test_the_paper_counts_its_parameters_so() -> None:
    with torch.device("meta"):
        model = StyleTransformer(StyleTransformerConfig())
    counts = {name: sum(p.numel() for p in child.parameters()) / 1e6 for name, child in model.named_children()}
    assert round(counts["backbone"], 2) == 30.95
    assert round(counts["stages"] / 3, 3) == 3.154
    assert round(counts["mapping"], 2) == 2.10


def test_fast_is_ref() -> None:
    model, x = make_tiny().requires_grad_(False), seeded(2, 3, 32, 32)
    codes = model(x)
    assert codes.shape == (2, 6, 16)
    torch.testing.assert_close(codes, model(x, ref=True), atol=1e-5, rtol=0)


def test_gradients_of_fast_are_those_of_ref() -> None:
    model, x = make_tiny(), seeded(2, 3, 32, 32)
    grads = []
    for ref in (False, True):
        codes = model(x, ref=ref)
        grads.append(torch.autograd.grad((codes * seeded(*codes.shape)).sum(), list(model.parameters())))
    for fast, expected in zip(*grads, strict=True):
        torch.testing.assert_close(fast, expected, atol=1e-5 + 1e-4 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize(("size", "new_size"), [((16, 16), (32, 32)), ((3, 5), (7, 9)), ((1, 2), (2, 4))])
def test_upsample_add_is_its_ref(size: tuple[int, int], new_size: tuple[int, int]) -> None:
    coarse, fine = seeded(2, 3, *size), seeded(2, 3, *new_size)
    torch.testing.assert_close(upsample_add(coarse, fine), upsample_add_ref(coarse, fine))


def test_codes_are_the_first_of_all_queries() -> None:
    """Queries that give no code still take part in self-attention."""
    model = make_tiny().requires_grad_(False)
    fewer = make_tiny(dataclasses.replace(TINY, num_ws=4)).requires_grad_(False)
    fewer.load_state_dict(model.state_dict())
    x = seeded(1, 3, 32, 32)
    torch.testing.assert_close(fewer(x), model(x)[:, :4])


def test_dropout_acts_in_training_alone() -> None:
    model, x = make_tiny().requires_grad_(False), seeded(1, 3, 32, 32)
    assert torch.equal(model(x), model(x))
    model.stages.train()
    assert not torch.equal(model(x), model(x))


def test_other_widths_and_too_few_queries_are_refused() -> None:
    with pytest.raises(UsageError, match="must equal d_model"):
        StyleTransformerConfig(d_model=256)
    with pytest.raises(UsageError, match="cannot give"):
        StyleTransformerConfig(num_ws=18, num_queries=14)


def test_configuration_survives_json() -> None:
    data = {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(TINY).items()}
    assert StyleTransformerConfig.from_dict(data) == TINY
