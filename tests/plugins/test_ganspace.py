"""GANSpace finds planted components, keeps them with the generator, and edits in calibrated steps."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch
from stkit_ganspace.activations import fit_activations, load_activations
from stkit_ganspace.components import STORED, fit_components, load_components
from stkit_ganspace.method import GANSpace, GANSpaceOptions
from stkit_ganspace.named import name_component
from torch import Tensor, nn

from stkit.contracts.editing import EditContext
from stkit.editor.steps import EditStep, apply_steps, parse_step
from stkit.errors import UnknownNameError, UsageError, WeightsError
from stkit.latents.directions import own_folder, save_direction
from stkit.latents.latents import Latents
from stkit.models.registry import load_generator
from stkit.options import LayerRange
from stkit.plugins import load_plugins
from stkit.tensors import load_tensors
from stkit.testing import make_tiny_weights, random_latents
from stkit.weights import Weights, cache_folder, find_weights

CPU = torch.device("cpu")


class Planted(nn.Module):
    """A mapping network whose w has known principal components: the columns of `basis`, scaled by `stds`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(3)
        self.basis = torch.linalg.qr(torch.randn(dim, dim, generator=random))[0]
        self.stds = torch.linspace(3, 0.1, dim)

    def forward(self, z: Tensor) -> Tensor:
        return 5 + z * self.stds @ self.basis.T


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    return make_tiny_weights(tmp_path / "tiny")


def test_planted_components_are_found(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted(weights.w_dim)
    monkeypatch.setattr(load_generator(weights), "mapping", planted)
    components = fit_components(weights, samples=20_000, count=4)
    cosines = (components.directions * planted.basis.T[:4]).sum(1).abs()
    assert (cosines > 0.95).all(), cosines
    assert torch.allclose(components.stds, planted.stds[:4], rtol=0.05)
    assert torch.allclose(components.mean, torch.tensor(5.0), atol=0.1)
    for low, high in components.safe_ranges:  # 99% of a normal distribution
        assert low == pytest.approx(-2.6, abs=0.2)
        assert high == pytest.approx(2.6, abs=0.2)
    assert sum(components.shares) < 1


def test_strength_is_in_standard_deviations(weights: Weights) -> None:
    components = load_components(weights)
    latents = random_latents(weights, 3)
    context = EditContext(weights, CPU, "pc2", strength=2.0)
    moved = GANSpace().edit(latents, GANSpaceOptions(), context).codes - latents.codes
    along = moved @ components.directions[1]
    assert torch.allclose(along, (2 * components.stds[1]).expand_as(along), atol=1e-5)
    assert torch.allclose(moved, along[..., None] * components.directions[1], atol=1e-5)


def test_relative_moves_to_a_coordinate(weights: Weights) -> None:
    components = load_components(weights)
    context = EditContext(weights, CPU, "pc1", strength=-1.0, layers=LayerRange(0, 2))
    edited = GANSpace().edit(random_latents(weights, 3), GANSpaceOptions(relative=True), context).codes[:, :3]
    coordinate = ((edited - components.mean) @ components.directions[0]).mean(1) / components.stds[0]
    assert torch.allclose(coordinate, torch.full((3,), -1.0), atol=1e-4)


def test_components_are_cached_by_fingerprint(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_components(weights)
    assert (cache_folder() / "ganspace" / f"{weights.fingerprint}.safetensors").is_file()
    monkeypatch.setattr("stkit_ganspace.components.fit_components", lambda weights: pytest.fail("fitted again"))
    again = find_weights(str(weights.folder))
    assert torch.equal(load_components(again).directions, first.directions)


def test_components_of_another_generator_are_refused(weights: Weights, tmp_path: Path) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=5)
    STORED.save(weights.path("ganspace"), load_components(other), other)
    with pytest.raises(WeightsError, match=other.fingerprint[:12]):
        load_components(weights)


def test_unknown_component(weights: Weights) -> None:
    context = EditContext(weights, CPU, "pc99")
    with pytest.raises(UsageError, match="pc"):
        GANSpace().edit(random_latents(weights, 1), GANSpaceOptions(), context)
    with pytest.raises(UsageError, match="layers"):
        layers = LayerRange(0, 50)
        GANSpace().edit(
            random_latents(weights, 1), GANSpaceOptions(), dataclasses.replace(context, attribute="pc1", layers=layers)
        )


def test_activation_components_are_carried_over_to_w(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = load_generator(weights)
    monkeypatch.setattr(generator, "mapping", nn.Identity())  # w is N(0, 1)
    truth = nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(2)), dim=0)
    affine = generator.synthesis.get_parameter("convs.0.affine.weight")  # its styles follow one direction
    affine.data.copy_(truth.expand(32, -1) * torch.linspace(-1, 1, 32)[:, None])
    components = fit_activations(weights, samples=1000, count=2)
    assert abs(float(components.directions[0] @ truth)) > 0.95
    assert components.shares[0] > 5 * components.shares[1]
    assert torch.allclose(components.directions.norm(dim=1), torch.ones(2), atol=1e-5)
    # One unit of strength is the step in w that goes with one standard deviation of the component.
    assert components.units[0] == pytest.approx(1.0, abs=0.1)


def test_activation_edits(weights: Weights) -> None:
    latents = random_latents(weights, 2)
    components = load_activations(weights)
    context = EditContext(weights, CPU, "act3", strength=-2.0, layers=LayerRange(0, 1))
    moved = GANSpace().edit(latents, GANSpaceOptions(), context).codes - latents.codes
    expected = (-2 * components.units[2] * components.directions[2]).expand(2, 2, -1)
    assert torch.allclose(moved[:, :2], expected, atol=1e-5)
    with pytest.raises(UsageError, match="relative"):
        GANSpace().edit(latents, GANSpaceOptions(relative=True), context)


@pytest.mark.parametrize(
    "name", ["pc", "act", "pc0", "pc01", "act00", "pc-1", "3", "cp1", "actpc1", "pc1 ", "act\u0663"]
)
def test_odd_names_are_no_components(weights: Weights, name: str) -> None:
    context = EditContext(weights, CPU, name)
    with pytest.raises(UnknownNameError, match=f"no attribute named '{re.escape(name)}'"):
        GANSpace().edit(random_latents(weights, 1), GANSpaceOptions(), context)


def test_activations_are_fitted_only_for_one_of_them(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[str] = []

    def fit(weights: Weights) -> object:
        fits.append(weights.name)
        return fit_activations(weights, samples=300)

    monkeypatch.setattr("stkit_ganspace.activations.fit_activations", fit)
    registry, latents = load_plugins(), random_latents(weights, 1)
    names = [attribute.name for attribute in GANSpace().attributes(EditContext(weights, CPU))]
    assert names[0] == "pc1"
    assert names[-1] == "act20"
    step = parse_step("pc2=1.5", registry, weights, CPU)
    apply_steps(latents, [step], registry, weights, CPU)
    for unknown in ("act21", "smile"):
        with pytest.raises(UsageError):
            apply_steps(latents, [EditStep("ganspace", unknown)], registry, weights, CPU)
        with pytest.raises(UsageError):
            parse_step(f"{unknown}=1", registry, weights, CPU)
    assert fits == []
    (before,) = (a for a in GANSpace().attributes(EditContext(weights, CPU)) if a.name == "act20")
    apply_steps(latents, [parse_step("act20=1", registry, weights, CPU)], registry, weights, CPU)
    assert fits == [weights.name]
    (after,) = (a for a in GANSpace().attributes(EditContext(weights, CPU)) if a.name == "act20")
    assert math.isinf(before.safe_range[1])
    assert 1 < after.safe_range[1] < 5
    assert "first used" in before.description
    assert "variance" in after.description


def test_files_are_read_once_for_all_edits(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    load_components(weights)
    load_activations(weights)
    again = find_weights(str(weights.folder))
    reads: list[Path] = []

    def read(path: Path) -> object:
        reads.append(path)
        return load_tensors(path)

    monkeypatch.setattr("stkit_ganspace.stored.load_tensors", read)
    for strength in (1.0, 2.0):
        for attribute in ("pc1", "act1"):
            context = EditContext(again, CPU, attribute, strength)
            GANSpace().attributes(context)
            GANSpace().edit(random_latents(again, 1), GANSpaceOptions(), context)
    assert len(reads) == 2


def test_a_named_component_edits_like_its_number(weights: Weights) -> None:
    latents = random_latents(weights, 2)
    for number, flip in (("pc2", False), ("act3", True)):
        named = name_component(weights, number, "turn", LayerRange(0, 1), flip)
        save_direction(own_folder(weights) / "component-turn.safetensors", named, weights)
        moved = apply(weights, latents, "turn", 1.5, None)
        assert torch.allclose(
            moved, apply(weights, latents, number, -1.5 if flip else 1.5, LayerRange(0, 1)), atol=1e-5
        )
        elsewhere = apply(weights, latents, "turn", 1.5, LayerRange(2, 2))
        assert torch.equal(elsewhere[:, :2], latents.codes[:, :2]) and not torch.equal(elsewhere, latents.codes)
    attributes = {one.name: one for one in GANSpace().attributes(EditContext(weights, CPU))}
    assert list(attributes)[:2] == ["turn", "pc1"]
    assert attributes["turn"].description == "component -act3 in layers 0-1"
    low, high = attributes["act3"].safe_range
    assert attributes["turn"].safe_range == (-high, -low)
    with pytest.raises(UsageError, match="relative"):
        GANSpace().edit(latents, GANSpaceOptions(relative=True), EditContext(weights, CPU, "turn"))


def test_a_named_component_of_another_generator_is_refused_by_name(weights: Weights, tmp_path: Path) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=5)
    path = own_folder(weights) / "component-turn.safetensors"
    save_direction(path, name_component(other, "pc1", "turn"), other)
    assert "turn" not in {one.name for one in GANSpace().attributes(EditContext(weights, CPU))}
    with pytest.raises(WeightsError, match="'turn' belongs to generator"):
        apply(weights, random_latents(weights, 1), "turn", 1.0, None)


def apply(weights: Weights, latents: Latents, name: str, strength: float, layers: LayerRange | None) -> Tensor:
    return GANSpace().edit(latents, GANSpaceOptions(), EditContext(weights, CPU, name, strength, layers)).codes


def test_a_mapping_network_that_makes_one_w_is_told(monkeypatch: pytest.MonkeyPatch, tiny_weights: Weights) -> None:
    monkeypatch.setattr("stkit_ganspace.components.sample_w", lambda *_: torch.ones(50, tiny_weights.w_dim))
    with pytest.raises(WeightsError, match="make one w of every z"):
        fit_components(tiny_weights)
