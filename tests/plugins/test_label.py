"""Label edits: the paper's directions against explicit derivatives, and planted attributes that really move."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from stkit_label.gradients import first_order, loss_gradient, project_out, second_order
from stkit_label.method import LabelEditing, LabelOptions
from stkit_label.network import LatentClassifier, LatentClassifierConfig, load_classifier
from stkit_label.training import ClassifierConfig, ClassifierRun, export_classifier
from torch import Tensor

from stkit.contracts.editing import EditContext
from stkit.datasets.codes import LabelledCodes
from stkit.errors import UsageError, WeightsError
from stkit.latents.latents import Latents
from stkit.options import LayerRange, build_options
from stkit.testing import make_tiny_weights
from stkit.training.loop import LoopConfig
from stkit.weights import Weights

CPU = torch.device("cpu")
NAMES = ("age", "smile", "yaw")


def planted_directions() -> Tensor:
    """Three unit directions [3, 6, 32]; the second leans on the first (cosine 0.6)."""
    random = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(6 * 32, 3, generator=random))[0].T
    basis[1] = 0.6 * basis[0] + 0.8 * basis[1]
    return basis.view(3, 6, 32)


def planted_codes(count: int = 3000, seed: int = 0) -> LabelledCodes:
    """Codes with labels: age a number of years, smile 0 or 1, yaw degrees; every tenth row is for validation."""
    codes = 5 + torch.randn(count, 6, 32, generator=torch.Generator().manual_seed(seed))
    raw = torch.einsum("bnd,knd->bk", codes - 5, planted_directions())
    values = torch.stack([40 + 12 * raw[:, 0], (raw[:, 1] > 0).float(), 6 * raw[:, 2]], 1)
    values[::7, 1] = float("nan")
    names = tuple(f"{i}.png" for i in range(count))
    return LabelledCodes(names, NAMES, codes, values, torch.arange(count) % 10 == 9)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Tiny weights with a classifier trained on the planted attributes."""
    folder = tmp_path_factory.mktemp("label")
    weights = make_tiny_weights(folder / "tiny")
    shape = LatentClassifierConfig(NAMES, 6, 32, widths=(64, 32), embedding=8)
    config = ClassifierConfig(shape, learning_rate=3e-3, weight_decay=0.2, noise=0.5)
    loop = LoopConfig(folder / "run", 150, 64, sample_seconds=1e6)
    run = ClassifierRun(config, loop, planted_codes(), CPU)
    run.train()
    export_classifier(run.averaged, weights.folder, weights, {"held_out": {"age": {"correlation": 0.987}}})
    return weights


def photos(weights: Weights, count: int = 40) -> Latents:
    return Latents(planted_codes(count, seed=9).codes, weights.fingerprint)


def moved_by(weights: Weights, attribute: str, strength: float, **options: object) -> Tensor:
    """How far each planted attribute [40, 3] moves, in its standard deviations."""
    latents = photos(weights)
    context = EditContext(weights, CPU, attribute, strength, options.pop("layers", None))  # type: ignore[arg-type]
    edited = LabelEditing().edit(latents, build_options(LabelOptions, options), context)
    return torch.einsum("bnd,knd->bk", edited.codes - latents.codes, planted_directions())


def test_first_order_is_the_papers_normalised_gradient(trained: Weights) -> None:
    classifier = copy.deepcopy(load_classifier(trained)).double()
    codes = photos(trained, 5).codes.double()
    w = codes.clone().requires_grad_()
    y = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    p = torch.sigmoid(classifier(w)[:, 1])
    loss = -(y * p.log() + (1 - y) * (1 - p).log())
    (g,) = torch.autograd.grad(loss.sum(), w)
    n = first_order(lambda w: classifier(w)[:, 1], codes, y)
    torch.testing.assert_close(n, -g / g.flatten(1).norm(dim=1)[:, None, None])
    with torch.no_grad():
        uphill = classifier(codes + 1e-3 * n)[:, 1] > classifier(codes)[:, 1]
    assert torch.equal(uphill, y == 1)


def explicit_eigenvector(loss: object, codes: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues of the Hessian at `codes` [1, N, D] by size, and the eigenvector of the largest."""
    hessian = torch.autograd.functional.hessian(loss, codes).reshape(codes.numel(), codes.numel())
    values, vectors = torch.linalg.eigh(hessian)
    order = values.abs().argsort(descending=True)
    return values[order], vectors[:, order[0]]


def test_second_order_is_the_first_eigenvector_of_an_explicit_hessian() -> None:
    torch.manual_seed(4)
    classifier = LatentClassifier(LatentClassifierConfig(("a", "b"), 3, 4, widths=(16, 8), embedding=4)).double()
    bend = torch.randn(12, 12, dtype=torch.float64) / 4
    bend = bend + bend.T

    def smooth(w: Tensor) -> Tensor:
        """A logit that curves in all directions."""
        flat = w.flatten(1)
        return torch.einsum("bi,ij,bj->b", flat, bend, flat) + flat.sum(1)

    functions = (lambda w: classifier(w)[:, 1], smooth)
    for logit in functions:
        for target in (0.0, 1.0):
            codes = 0.3 * torch.randn(1, 3, 4, dtype=torch.float64)
            y = torch.full((1,), target, dtype=torch.float64)
            values, expected = explicit_eigenvector(
                lambda w, f=logit, y=y: torch.nn.functional.binary_cross_entropy_with_logits(f(w), y), codes
            )
            d = second_order(logit, codes, y, 1e-5, 300, torch.Generator().manual_seed(0))
            assert values[0].abs() > 1.02 * values[1].abs()
            assert abs(float(d.flatten() @ expected)) > 0.999
            assert float((d * loss_gradient(logit, codes, y)).sum()) < 0  # the loss falls along d


@pytest.mark.parametrize(
    ("logit", "start", "xi", "cosine"),
    [
        # x + 4 y^2 near p = 1/2: H = diag(p(1-p), 8(p-1) + ...), so the curvature along y is 16 times that along x.
        (lambda x, y: x + 4 * y**2, (0.0, 0.05), 1e-4, 0.37),
        # A hinge ahead in y, such as LeakyReLU's: within its piece H = p(1-p) grad C grad C^T ...
        (lambda x, y: x + 4 * torch.nn.functional.leaky_relu(y - 1, 0.2), (0.8, 0.9), 1e-4, 1.0),
        # ... and where the logit is far from its label, a difference across the hinge finds the steeper piece.
        (lambda x, y: x + 4 * torch.nn.functional.leaky_relu(y - 1, 0.2) - 7, (0.8, 0.9), 1.0, 0.62),
    ],
)
def test_orders_part_where_the_classifier_bends(
    logit: Callable[[Tensor, Tensor], Tensor], start: tuple[float, float], xi: float, cosine: float
) -> None:
    def function(w: Tensor) -> Tensor:
        return logit(w[:, 0, 0], w[:, 0, 1])

    codes, y = torch.tensor([[start]], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    n = first_order(function, codes, y)
    d = second_order(function, codes, y, xi, 50, torch.Generator().manual_seed(0))
    assert float((n * d).sum()) == pytest.approx(cosine, abs=0.05)
    if cosine < 1:
        assert float(d[0, 0, 1]) > 0.95  # along y, and upwards
        assert float(function(codes + 2 * d)) > 1.2 * float(function(codes + 2 * n))


def test_projection_leaves_nothing_along_what_is_held() -> None:
    torch.manual_seed(0)
    direction, held = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 3, 4, dtype=torch.float64)
    held[0, 2] = 2 * held[0, 1]  # parallel
    held[1, 0] = 0  # flat
    projected = project_out(direction, held)
    assert torch.einsum("bnd,bhnd->bh", projected, held).abs().max() < 1e-6
    kept = project_out(projected, held)
    torch.testing.assert_close(kept, projected)
    assert torch.equal(project_out(direction, held[:, :0]), direction)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("attribute", "strength"), [("age", 1.5), ("smile", -1.0), ("yaw", 1.0)])
def test_planted_attributes_move_and_the_others_stay(
    trained: Weights, attribute: str, strength: float, order: int
) -> None:
    k = NAMES.index(attribute)
    moved = moved_by(trained, attribute, strength, order=order)
    mean = moved.mean(0)
    # One standard deviation of the logit is nearly one of the planted attribute.
    assert 0.6 * abs(strength) < mean[k] * (1 if strength > 0 else -1) < 1.5 * abs(strength)
    assert (moved[:, k] * strength > 0).all()
    others = [j for j in range(3) if j != k]
    assert mean[others].abs().max() < 0.25 * abs(strength), mean


def test_strength_is_calibrated_on_the_classifiers_own_score(trained: Weights) -> None:
    classifier, latents = load_classifier(trained), photos(trained)
    before = classifier.scores(latents.codes)[:, 0]
    for strength in (-2.0, 0.5, 2.0):
        context = EditContext(trained, CPU, "age", strength)
        after = classifier.scores(LabelEditing().edit(latents, LabelOptions(), context).codes)[:, 0]
        assert (after - before).mean().item() == pytest.approx(strength, abs=0.05)


@pytest.mark.parametrize(("correlation", "unit"), [(0.8, 1.25), (0.1, 2.0), (None, 1.0)])
def test_strength_makes_up_for_what_the_classifier_cannot_tell(
    trained: Weights, tmp_path: Path, correlation: float | None, unit: float
) -> None:
    weights = make_tiny_weights(tmp_path / "noisy")
    notes = {} if correlation is None else {"held_out": {"age": {"correlation": correlation}}}
    export_classifier(load_classifier(trained), weights.folder, weights, notes)
    latents = photos(weights)
    edited = LabelEditing().edit(latents, LabelOptions(), EditContext(weights, CPU, "age", 1.5))
    scores = [load_classifier(weights).scores(codes)[:, 0] for codes in (latents.codes, edited.codes)]
    assert (scores[1] - scores[0]).mean().item() == pytest.approx(1.5 * unit, abs=0.05)


def test_holding_is_what_keeps_a_correlated_attribute(trained: Weights) -> None:
    free = moved_by(trained, "age", 1.0, hold="none").mean(0)
    held = moved_by(trained, "age", 1.0, hold="smile").mean(0)
    assert free[1] > 0.35
    assert abs(held[1]) < 0.2


def test_more_steps_follow_the_classifier_better(trained: Weights) -> None:
    classifier, latents = load_classifier(trained), photos(trained)
    context = EditContext(trained, CPU, "age", 2.0)
    drift = []
    for steps in (1, 16):
        edited = LabelEditing().edit(latents, LabelOptions(steps=steps), context).codes
        drift.append(float((classifier.scores(edited) - classifier.scores(latents.codes))[:, 1:].abs().mean()))
    assert drift[1] < drift[0]


@pytest.mark.parametrize("order", [1, 2])
def test_chosen_layers_alone_move_and_still_reach_the_strength(trained: Weights, order: int) -> None:
    classifier, latents = load_classifier(trained), photos(trained, 6)
    context = EditContext(trained, CPU, "yaw", 0.5, LayerRange(1, 3))
    edited = LabelEditing().edit(latents, LabelOptions(order=order), context).codes
    assert torch.equal(edited[:, [0, 4, 5]], latents.codes[:, [0, 4, 5]])
    change = (classifier.scores(edited) - classifier.scores(latents.codes))[:, 2]
    assert change.mean().item() == pytest.approx(0.5, abs=0.1)


def test_a_flat_classifier_moves_no_further_than_the_codes_spread(trained: Weights, tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path / "flat")
    classifier = copy.deepcopy(load_classifier(trained))
    classifier.head_weight[0] *= 1e-6
    export_classifier(classifier, weights.folder, weights)
    latents = photos(weights, 4)
    edited = LabelEditing().edit(latents, LabelOptions(), EditContext(weights, CPU, "age", 2.0)).codes
    far = (edited - latents.codes).flatten(1).norm(dim=1)
    assert torch.isfinite(edited).all()
    assert (far <= 2 * float(classifier.code_std) * (6 * 32) ** 0.5 + 1e-4).all()


def test_attributes_tell_their_held_out_figures_and_a_range(trained: Weights) -> None:
    attributes = LabelEditing().attributes(EditContext(trained, CPU))
    assert [attribute.name for attribute in attributes] == list(NAMES)
    assert "correlation 0.99 on held-out photos" in attributes[0].description
    for attribute in attributes:
        low, high = attribute.safe_range
        assert -3 <= low == -high <= -2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hold": "age"}, "'age' cannot be both edited and held"),
        ({"hold": "glasses"}, "no attribute named 'glasses'"),
        ({"order": 3}, "option 'order'"),
        ({"steps": 0}, "option 'steps'"),
    ],
)
def test_options_that_make_no_sense_are_refused(trained: Weights, options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        moved_by(trained, "age", 1.0, **options)


def test_what_is_wrong_with_the_classifier_is_said(trained: Weights, tmp_path: Path) -> None:
    bare, other = make_tiny_weights(tmp_path / "bare"), make_tiny_weights(tmp_path / "other", seed=2)
    with pytest.raises(WeightsError, match="stkit train classifier"):
        LabelEditing().attributes(EditContext(bare, CPU))
    export_classifier(load_classifier(trained), other.folder, trained)
    context = EditContext(other, CPU, "age")
    with pytest.raises(WeightsError) as caught:
        LabelEditing().edit(dataclasses.replace(photos(trained), generator=other.fingerprint), LabelOptions(), context)
    assert trained.fingerprint[:12] in str(caught.value) and other.fingerprint[:12] in str(caught.value)
