from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from stkit.errors import UsageError
from stkit.models.psp_encoders import (
    Architecture,
    Map2Style,
    PSPEncoder,
    PSPEncoderConfig,
    Resize,
    encode_iteratively,
)
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.models.stylegan2 import StyleGAN2

GENERATOR = StyleGAN2Config(64, z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=8)
RESNET = dataclasses.replace(PSPEncoderConfig.full("restyle"), backbone="resnet", depths=(3, 4, 6, 3))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_encoder(architecture: Architecture, **changes: object) -> PSPEncoder:
    config = dataclasses.replace(PSPEncoderConfig.small(architecture, GENERATOR), **changes)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = PSPEncoder(config)
    encoder.latent_avg.copy_(seeded(config.num_ws, config.w_dim, seed=9))
    return encoder.eval()


def millions(module: nn.Module) -> float:
    return sum(value.numel() for value in module.parameters()) / 1e6


def full(config: PSPEncoderConfig) -> PSPEncoder:
    with torch.device("meta"):
        return PSPEncoder(config)


@pytest.mark.parametrize("architecture", ["psp", "e4e"])
def test_the_papers_encoders_have_the_known_number_of_parameters(architecture: Architecture) -> None:
    assert round(millions(full(PSPEncoderConfig.full(architecture))), 2) == 267.14


def test_restyle_on_resnet_holds_resnet_34_without_its_classifier() -> None:
    trunk = [full(RESNET).get_submodule(name) for name in ("conv1", "bn1", "body")]
    # torchvision's ResNet-34 has 21,797,672 parameters, 513,000 of them in the classifier; 3 more input channels.
    assert sum(round(millions(part) * 1e6) for part in trunk) == 21_797_672 - 513_000 + 3 * 64 * 49


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (
            PSPEncoderConfig.full("psp"),
            {
                "input_layer.0.weight": (64, 3, 3, 3),
                "input_layer.2.weight": (64,),
                "body.0.shortcut_layer": None,
                "body.0.res_layer.5.fc1.weight": (4, 64, 1, 1),
                "body.23.res_layer.4.running_var": (512,),
                "body.3.shortcut_layer.0.weight": (128, 64, 1, 1),
                "styles.0.convs.6.weight": (512, 512, 3, 3),
                "styles.3.convs.8.bias": (512,),
                "styles.17.convs.10.weight": (512, 512, 3, 3),
                "styles.17.linear.weight": (512, 512),
                "latlayer1.weight": (512, 256, 1, 1),
                "latlayer2.weight": (512, 128, 1, 1),
            },
        ),
        (
            PSPEncoderConfig.full("restyle"),
            {
                "input_layer.0.weight": (64, 6, 3, 3),
                "styles.17.convs.6.weight": (512, 512, 3, 3),
                "styles.17.convs.8.weight": None,
                "latlayer1.weight": None,
            },
        ),
        (
            RESNET,
            {
                "conv1.weight": (64, 6, 7, 7),
                "relu.weight": (64,),
                "body.3.downsample.0.weight": (128, 64, 1, 1),
                "body.15.bn2.running_mean": (512,),
                "input_layer.0.weight": None,
            },
        ),
    ],
    ids=["psp", "restyle", "restyle-resnet"],
)
def test_tensors_are_named_and_shaped_as_in_published_checkpoints(
    config: PSPEncoderConfig, shapes: dict[str, tuple[int, ...] | None]
) -> None:
    state = full(config).state_dict()
    assert {key: tuple(state[key].shape) if key in state else None for key in shapes} == shapes
    assert {key.split(".")[0] for key in state} <= {
        *("input_layer", "conv1", "bn1", "relu", "body", "styles", "latlayer1", "latlayer2", "latent_avg")
    }


def test_layers_see_the_map_of_their_scale() -> None:
    encoder = make_encoder("psp")
    maps = encoder.features(seeded(2, 3, 64, 64))
    assert {zoom: tuple(value.shape[2:]) for zoom, value in maps.items()} == {1: (4, 4), 2: (8, 8), 4: (16, 16)}
    # One convolution a halving, down to one pixel.
    convs = [sum(isinstance(m, nn.Conv2d) for m in style.modules()) for style in encoder.styles]
    assert convs == [2, 2, 2, 3, 3, 3, 3, 4, 4, 4]


@pytest.mark.parametrize("architecture", ["psp", "e4e"])
def test_codes_are_the_styles_beside_latent_avg(architecture: Architecture) -> None:
    encoder = make_encoder(architecture)
    images = seeded(2, 3, 64, 64)
    maps = encoder.features(images)
    styles = [style(maps[1 if i < 3 else 2 if i < 7 else 4]) for i, style in enumerate(encoder.styles)]
    if architecture == "e4e":
        styles = [styles[0]] + [styles[0] + style for style in styles[1:]]
    torch.testing.assert_close(encoder(images), torch.stack(styles, 1) + encoder.latent_avg)


def test_e4e_gives_one_w_before_its_first_stage() -> None:
    encoder = make_encoder("e4e")
    images = seeded(2, 3, 64, 64)
    everything = encoder.offsets(images)
    for stage in (0, 4, 9):
        offsets = encoder.offsets(images, stage)
        torch.testing.assert_close(offsets[:, : stage + 1], everything[:, : stage + 1])
        torch.testing.assert_close(offsets[:, stage + 1 :], everything[:, :1].expand(-1, 9 - stage, -1))


@pytest.mark.parametrize("backbone", ["ir-se", "resnet"])
@pytest.mark.parametrize("progressive", [False, True])
def test_restyle_refines_pass_by_pass(backbone: str, progressive: bool) -> None:
    torch.manual_seed(0)
    generator = StyleGAN2(GENERATOR)
    encoder = make_encoder("restyle", backbone=backbone, progressive=progressive)
    images = seeded(2, 3, 64, 64)
    passes = encode_iteratively(encoder, generator, images)
    assert len(passes) == 3 and passes[0].shape == (2, 10, 16)
    start = generator.synthesize(encoder.latent_avg[None]).expand(2, -1, -1, -1)
    torch.testing.assert_close(passes[0], encoder(torch.cat([images, start], 1)))
    again = generator.synthesize(passes[0])
    torch.testing.assert_close(passes[1], passes[0] + encoder.offsets(torch.cat([images, again], 1)))
    assert len(encode_iteratively(encoder, generator, images, iterations=1)) == 1


@pytest.mark.parametrize("resize", ["bilinear", "average"])
def test_restyle_sees_reconstructions_as_it_was_trained(resize: Resize) -> None:
    """The paper's code pools the 64 px image to the encoder's 32 px; what stkit trains sees it resized bilinearly."""
    torch.manual_seed(0)
    generator = StyleGAN2(GENERATOR)
    encoder = make_encoder("restyle", input_resolution=32, resize=resize)
    images = seeded(2, 3, 32, 32)
    codes = encoder.latent_avg.expand(2, -1, -1)
    others = codes
    for found in encode_iteratively(encoder, generator, images):
        made = generator.synthesize(codes)
        pooled = made.unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean((3, 5))
        bilinear = nn.functional.interpolate(made, size=(32, 32), mode="bilinear", antialias=True)
        right, wrong = (pooled, bilinear) if resize == "average" else (bilinear, pooled)
        codes, others = (codes + encoder.offsets(torch.cat([images, seen], 1)) for seen in (right, wrong))
        torch.testing.assert_close(found, codes)
        assert not torch.allclose(found, others, atol=1e-5)


def test_pooling_keeps_the_shape_and_enlarges_where_the_generator_is_smaller() -> None:
    encoder = make_encoder("restyle", input_resolution=32, resize="average")
    assert encoder.seen(seeded(1, 3, 48, 64)).shape == (1, 3, 24, 32)
    small = seeded(1, 3, 16, 16)
    assert torch.equal(encoder.seen(small), small.repeat_interleave(2, 2).repeat_interleave(2, 3))
    same = seeded(1, 3, 32, 32)
    assert torch.equal(encoder.seen(same), same)


def test_map2style_ends_in_one_pixel_whatever_the_size() -> None:
    for size in (1, 2, 3, 12, 16):
        assert Map2Style(4, 6, 5, size)(seeded(2, 4, size, size)).shape == (2, 5)


def test_config_says_its_architecture_and_survives_json() -> None:
    for architecture in ("psp", "e4e", "restyle"):
        for config in (PSPEncoderConfig.full(architecture), PSPEncoderConfig.small(architecture, GENERATOR)):
            assert config.architecture == architecture
            as_json = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
            assert PSPEncoderConfig.from_dict(as_json) == config
    assert PSPEncoderConfig.full("restyle", progressive=True).architecture == "restyle"
    with pytest.raises(UsageError, match="at least 1 iteration"):
        PSPEncoderConfig(iterations=0)
    with pytest.raises(UsageError, match="resizes by 'nearest'; stkit knows bilinear, average"):
        PSPEncoderConfig.from_dict({"resize": "nearest"})


def test_headers_from_before_there_was_a_choice_are_read() -> None:
    old = dataclasses.asdict(PSPEncoderConfig.small("restyle", GENERATOR))
    del old["resize"]
    assert PSPEncoderConfig.from_dict(old).resize == "bilinear"


def test_small_rivals_are_about_as_large_as_the_small_style_transformer() -> None:
    shape = StyleGAN2Config(128, 256, 256, 4, 6144, 256)
    ours = millions(StyleTransformer(StyleTransformerConfig.small(shape)))
    for architecture in ("psp", "e4e", "restyle"):
        assert 0.9 < millions(PSPEncoder(PSPEncoderConfig.small(architecture, shape))) / ours < 1.2
