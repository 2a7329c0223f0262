"""Inverters and edit models of other projects, from files written as those write them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from stkit_label.network import LatentClassifier, LatentClassifierConfig
from stkit_reference.checkpoint import CELEBA_ATTRIBUTES
from stkit_reference.network import ReferenceBlock, ReferenceBlockConfig
from torch import Tensor

from stkit.checkpoints.layout import Part
from stkit.checkpoints.recognise import open_checkpoint
from stkit.errors import WeightsError
from stkit.models.psp_encoders import PSPEncoder, PSPEncoderConfig
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from tests.checkpoints.writers import (
    make_generator,
    make_psp_encoder,
    make_style_transformer,
    write_framework,
    write_style_transformer,
)


def parts(path: Path) -> dict[str, Part]:
    return {part.kind: part for part in open_checkpoint(path)[1].parts}


def photos(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_style_transformer_with_more_queries_than_styles(tmp_path: Path) -> None:
    model, generator = make_style_transformer(), make_generator()
    found = parts(write_style_transformer(tmp_path / "a.pt", model, generator))
    copy = StyleTransformer(StyleTransformerConfig.from_dict(found["inverter"].config))
    assert copy.config == model.config
    copy.load_state_dict(found["inverter"].convert())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in copy.state_dict().items())
    with torch.inference_mode():
        torch.testing.assert_close(copy.eval()(photos()), model(photos()))
    decoder = found["generator"].convert()
    assert torch.equal(decoder["synthesis.const"], generator.synthesis.const)
    assert torch.equal(decoder["mapping.layers.0.weight"], model.mapping.layers[0].get_parameter("weight"))
    assert torch.equal(decoder["w_avg"], model.latent_avg)


@pytest.mark.parametrize(
    ("changes", "encoder_type", "what"),
    [
        ({}, "GradualStyleEncoder", "pSp"),
        ({"progressive": True}, "Encoder4Editing", "e4e"),
        ({"pyramid": False, "iterations": 5}, "BackboneEncoder", "ReStyle (Alaluf et al., ICCV 2021) over pSp"),
        ({"pyramid": False, "iterations": 5, "progressive": True}, "ProgressiveBackboneEncoder", "over e4e"),
        ({"pyramid": False, "iterations": 5, "backbone": "resnet"}, "ResNetBackboneEncoder", "over pSp"),
        (
            {"pyramid": False, "iterations": 3, "progressive": True, "backbone": "resnet"},
            "ResNetProgressiveBackboneEncoder",
            "over e4e",
        ),
    ],
)
@pytest.mark.parametrize("namespace", [False, True])
def test_psp_family(changes: dict[str, Any], encoder_type: str, what: str, namespace: bool, tmp_path: Path) -> None:
    if "iterations" in changes:
        changes = {**changes, "resize": "average"}  # as ReStyle's own code does between its passes
    encoder = make_psp_encoder(**changes)
    state = encoder.state_dict()
    average = state.pop("latent_avg")
    opts: dict[str, Any] = {"encoder_type": encoder_type, "start_from_latent_avg": True}
    if encoder.config.iterations > 1:
        opts["n_iters_per_batch"] = encoder.config.iterations
    path = tmp_path / "a.pt"
    shape = average if namespace else average[0]
    write_framework(path, state, make_generator(), argparse.Namespace(**opts) if namespace else opts, shape)
    _, recognised = open_checkpoint(path)
    assert what in recognised.what
    found = parts(path)
    assert found["inverter"].architecture == encoder.config.architecture
    copy = PSPEncoder(PSPEncoderConfig.from_dict(found["inverter"].config))
    assert copy.config == encoder.config
    copy.load_state_dict(found["inverter"].convert())
    for name, value in copy.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[name]), name
    assert torch.equal(found["generator"].convert()["w_avg"], average[0])


def test_models_that_do_not_start_from_the_average(tmp_path: Path) -> None:
    state = make_psp_encoder().state_dict()
    average = state.pop("latent_avg")
    opts = {"encoder_type": "GradualStyleEncoder", "start_from_latent_avg": False}
    path = write_framework(tmp_path / "a.pt", state, make_generator(), opts, average)
    assert not parts(path)["inverter"].convert()["latent_avg"].any()


def test_encoders_without_an_average_compute_it(tmp_path: Path) -> None:
    state = make_psp_encoder().state_dict()
    del state["latent_avg"]
    path = write_framework(tmp_path / "a.pt", state, make_generator(), {"encoder_type": "Encoder4Editing"})
    found = parts(path)
    assert torch.equal(found["inverter"].convert()["latent_avg"][3], found["generator"].convert()["w_avg"])
    write_framework(path, state, None, {"encoder_type": "Encoder4Editing"})
    with pytest.raises(WeightsError, match="neither an average latent nor a generator"):
        parts(path)["inverter"].convert()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoder_type": "BackboneEncoderUsingLastLayerIntoW"}, "BackboneEncoderUsingLastLayerIntoW"),
        ({"input_layer.0.weight": torch.zeros(16, 19, 3, 3)}, "19 input channels"),
        ({"body.9.res_layer.1.weight": torch.zeros(64, 64, 3, 3)}, "backbone"),
        ({"body.1.res_layer.0.weight": None}, "1 missing: body.1.res_layer.0.weight"),
    ],
)
def test_encoders_that_stkit_lacks_are_named(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    state: dict[str, Any] = {**make_psp_encoder().state_dict()}
    average = state.pop("latent_avg")
    opts = {"encoder_type": change.pop("encoder_type", "GradualStyleEncoder")}
    state = {key: value for key, value in {**state, **change}.items() if value is not None}
    path = write_framework(tmp_path / "a.pt", state, None, opts, average)
    with pytest.raises(WeightsError, match=reason):
        parts(path)["inverter"].convert()


def test_the_edit_model(tmp_path: Path) -> None:
    """Against the same networks made of torch's own layers."""
    random = torch.Generator().manual_seed(0)
    generator = make_generator()
    width = 6 * 64

    def linear(out: int, inner: int) -> torch.nn.Linear:
        layer = torch.nn.Linear(inner, out).requires_grad_(False)
        layer.weight.normal_(generator=random).mul_(inner**-0.5)
        layer.bias.normal_(generator=random)
        return layer

    fcs = [linear(48, width), linear(40, 48)]
    embeddings, heads = [linear(32, 40) for _ in range(40)], [linear(1, 32) for _ in range(40)]
    block = torch.nn.TransformerDecoderLayer(64, 4, 96, batch_first=True).eval().requires_grad_(False)
    state: dict[str, Tensor] = {}
    for group, layers in (("fcs", fcs), ("indep_fcs", embeddings), ("output_fcs", heads)):
        for i, layer in enumerate(layers):
            state |= {f"classifier.module.{group}.{i}.{key}": value for key, value in layer.state_dict().items()}
    encoder = {f"transformerlayer.{key}": value for key, value in block.state_dict().items()}
    path = write_framework(tmp_path / "a.pt", encoder, generator, {"output_size": 16}, parallel=True, more=state)
    found = parts(path)
    assert list(found) == ["generator", "classifier", "reference"]

    classifier = LatentClassifier(LatentClassifierConfig.from_dict(found["classifier"].config)).eval()
    classifier.load_state_dict(found["classifier"].convert())
    assert classifier.config.attributes == CELEBA_ATTRIBUTES
    source, reference = torch.randn(2, 3, 6, 64, generator=random)
    hidden = source.flatten(1)
    for layer in fcs:
        hidden = torch.nn.functional.leaky_relu(layer(hidden), 0.2)
    expected = torch.cat([head(embed(hidden)) for embed, head in zip(embeddings, heads, strict=True)], 1)
    with torch.inference_mode():
        torch.testing.assert_close(classifier(source), expected, atol=1e-4, rtol=1e-4)
        samples = generator.map(torch.randn(500, 24, generator=random), 0.7)
        assert 0.8 < float(classifier.scores(samples).std(0).mean()) < 1.2

    copy = ReferenceBlock(ReferenceBlockConfig.from_dict(found["reference"].config)).eval()
    copy.load_state_dict(found["reference"].convert())
    with torch.inference_mode():
        codes = copy(source, reference, torch.zeros(3, dtype=torch.long))
        torch.testing.assert_close(codes, block(source, reference), atol=1e-5, rtol=1e-5)
