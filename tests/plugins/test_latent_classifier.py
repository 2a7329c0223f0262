"""The latent classifier: shapes, calibration, and files that do not fit are refused with both sides named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from stkit_label.network import LatentClassifier, LatentClassifierConfig, load_classifier
from stkit_label.training import export_classifier

from stkit.errors import WeightsError
from stkit.testing import make_tiny_weights
from stkit.weights import Weights

SMALL = LatentClassifierConfig(("age", "smile"), num_ws=6, w_dim=32, widths=(24, 12), embedding=5)


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    return make_tiny_weights(tmp_path / "tiny")


def test_the_default_shape_is_the_papers() -> None:
    config = LatentClassifierConfig.for_codes(("a", "b", "c"), 18, 512)
    assert config == LatentClassifierConfig(("a", "b", "c"))
    with torch.device("meta"):
        shapes = [tuple(p.shape) for p in LatentClassifier(config).parameters()]
    assert shapes == [(3, 32), (3,), (2048, 9216), (2048,), (512, 2048), (512,), (96, 512), (96,)]


def test_logits_come_from_the_embeddings_and_attributes_share_no_head() -> None:
    torch.manual_seed(0)
    classifier = LatentClassifier(SMALL).eval()
    codes = torch.randn(4, 6, 32)
    embeddings = classifier.embed(codes)
    assert embeddings.shape == (4, 2, 5)
    assert torch.equal(classifier(codes), classifier.logits(embeddings))
    embeddings[:, 0] += 1
    moved = classifier.logits(embeddings) - classifier(codes)
    assert (moved[:, 0] - classifier.head_weight[0].sum()).abs().max() < 1e-5
    assert moved[:, 1].abs().max() == 0


def test_principal_components_are_all_that_it_sees(weights: Weights, tmp_path: Path) -> None:
    torch.manual_seed(0)
    codes = 3 + torch.randn(300, 5) @ torch.randn(5, 6 * 32)
    shape = dataclasses.replace(SMALL, components=5)
    classifier = LatentClassifier(shape)
    classifier.standardise_codes(codes.unflatten(1, (6, 32)))
    assert classifier.trunk.get_parameter("0.weight").shape == (24, 5)
    assert torch.allclose(classifier.axes @ classifier.axes.T, torch.eye(5), atol=1e-5)
    classifier.calibrate(codes.unflatten(1, (6, 32)))
    w = codes[:2].unflatten(1, (6, 32)).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(w).sum(), w)
    along = gradient.flatten(1) @ classifier.axes.T @ classifier.axes
    assert torch.allclose(along, gradient.flatten(1), atol=1e-6 * float(gradient.abs().max()))
    export_classifier(classifier, weights.folder, weights)
    read = load_classifier(weights)
    assert read.config == shape
    logits = classifier(codes.unflatten(1, (6, 32)))
    assert (read(codes.unflatten(1, (6, 32))) - logits).abs().max() < 0.05 * logits.std()


def test_codes_are_standardised_without_turning_the_gradient() -> None:
    torch.manual_seed(0)
    scale = torch.linspace(0.1, 4, 6 * 32).view(6, 32)
    codes = 7 + scale * torch.randn(500, 6, 32)
    classifier = LatentClassifier(SMALL)
    classifier.standardise_codes(codes)
    centred = (codes - classifier.code_mean) / classifier.code_std
    assert centred.mean(0).abs().max() < 1e-4
    assert centred.square().mean().item() == pytest.approx(1, abs=1e-4)
    w = codes[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(w)[0, 0], w)
    x = centred[:1].clone().requires_grad_()
    plain = LatentClassifier(SMALL)
    plain.load_state_dict({**classifier.state_dict(), "code_mean": torch.zeros(6, 32), "code_std": torch.ones(())})
    (expected,) = torch.autograd.grad(plain(x)[0, 0], x)
    assert torch.cosine_similarity(gradient.flatten(), expected.flatten(), 0).item() == pytest.approx(1, abs=1e-5)


def test_calibration_puts_scores_in_standard_deviations() -> None:
    torch.manual_seed(0)
    classifier = LatentClassifier(SMALL)
    codes = torch.randn(3000, 6, 32)
    classifier.calibrate(codes)
    scores = classifier.scores(codes)
    assert scores.mean(0).abs().max() < 1e-4
    assert (scores.std(0) - 1).abs().max() < 1e-4
    inside = ((scores > classifier.score_limits[:, 0]) & (scores < classifier.score_limits[:, 1])).float().mean(0)
    assert inside.tolist() == pytest.approx([0.99, 0.99], abs=2e-3)
    assert classifier.embed(codes).var(0).mean(1).sqrt().tolist() == pytest.approx(classifier.embedding_std.tolist())


def test_loading_gives_back_what_was_exported(weights: Weights) -> None:
    torch.manual_seed(0)
    classifier = LatentClassifier(SMALL).eval()
    header = export_classifier(classifier, weights.folder, weights, {"held_out": {}})
    assert (header.kind, header.architecture, header.generator) == (
        "classifier",
        "latent-classifier",
        weights.fingerprint,
    )
    loaded = load_classifier(weights)
    assert loaded.config == SMALL
    codes = torch.randn(3, 6, 32)
    torch.testing.assert_close(loaded(codes), classifier(codes), atol=2e-3, rtol=1e-2)


def test_weights_without_a_classifier_say_how_to_train_one(weights: Weights) -> None:
    with pytest.raises(WeightsError, match=r"'tiny' have no latent classifier .*: stkit train classifier --labels"):
        load_classifier(weights)


def test_another_generators_classifier_is_refused(weights: Weights, tmp_path: Path) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=3)
    export_classifier(LatentClassifier(SMALL), weights.folder, other)
    with pytest.raises(WeightsError) as caught:
        load_classifier(weights)
    assert other.fingerprint[:12] in str(caught.value) and weights.fingerprint[:12] in str(caught.value)


@pytest.mark.parametrize(("change", "says"), [({"num_ws": 8}, "8 layers and width 32"), ({"w_dim": 16}, "width 16")])
def test_codes_of_another_size_are_refused(weights: Weights, change: dict[str, Any], says: str) -> None:
    export_classifier(LatentClassifier(dataclasses.replace(SMALL, **change)), weights.folder, weights)
    with pytest.raises(WeightsError, match=rf"{says}.* weights 'tiny' have 6 layers and width 32"):
        load_classifier(weights)


def test_a_file_of_another_kind_is_refused(weights: Weights) -> None:
    weights.path("classifier").write_bytes(weights.path("inverter").read_bytes())
    with pytest.raises(WeightsError, match="style-transformer classifier, not a latent-classifier"):
        load_classifier(weights)
