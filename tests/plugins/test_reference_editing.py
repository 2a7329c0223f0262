"""Reference edits: interpolation, layers, several references, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from stkit_reference.method import ReferenceEditing
from stkit_reference.network import ReferenceBlock, ReferenceBlockConfig, load_reference_block
from stkit_reference.training import export_reference
from torch import Tensor

from stkit.contracts.editing import EditContext
from stkit.errors import LatentsError, UsageError, WeightsError
from stkit.latents.latents import Latents
from stkit.options import LatentSpace, LayerRange, Options
from stkit.testing import make_tiny_weights, random_latents
from stkit.weights import Weights

CPU = torch.device("cpu")
SMALL = ReferenceBlockConfig(("age", "smile"), 6, 32, heads=2, feedforward=16)


def moving_block(config: ReferenceBlockConfig = SMALL) -> ReferenceBlock:
    """A block as if trained: its output depends on source, reference and attribute."""
    torch.manual_seed(0)
    block = ReferenceBlock(config).eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        block.code_std.fill_(0.5)
    return block


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    weights = make_tiny_weights(tmp_path / "tiny")
    export_reference(moving_block(), weights.folder, weights, {"held_out": {"smile": {"transfer": 0.82}}})
    return weights


def offset(weights: Weights, references: Latents, attribute: str = "age", **changes: object) -> Tensor:
    context = EditContext(weights, CPU, attribute, references=references)
    source = random_latents(weights, 3)
    edited = ReferenceEditing().edit(source, Options(), dataclasses.replace(context, **changes))  # type: ignore[arg-type]
    return edited.codes - source.codes


def test_strength_interpolates_to_the_blocks_output(weights: Weights) -> None:
    block, reference, source = load_reference_block(weights), random_latents(weights, 1, 5), random_latents(weights, 3)
    expected = block(source.codes, reference.codes.expand(3, -1, -1), torch.ones(3, dtype=torch.long)) - source.codes
    full = offset(weights, reference, "smile")
    torch.testing.assert_close(full, expected)
    assert full.abs().mean() > 0.01
    torch.testing.assert_close(offset(weights, reference, "smile", strength=0.25), full / 4)
    assert offset(weights, reference, "smile", strength=0.0).abs().max() == 0
    assert not torch.allclose(offset(weights, reference, "age"), full, atol=1e-3)


def test_several_references_are_averaged(weights: Weights) -> None:
    three = random_latents(weights, 3, 7)
    each = [offset(weights, _row(three, i)) for i in range(3)]
    torch.testing.assert_close(offset(weights, three), torch.stack(each).mean(0))
    assert not torch.allclose(each[0], each[1], atol=1e-4)


def _row(latents: Latents, i: int) -> Latents:
    return Latents(latents.codes[i : i + 1], latents.generator)


def test_chosen_layers_alone_move(weights: Weights) -> None:
    reference = random_latents(weights, 1, 5)
    part = offset(weights, reference, layers=LayerRange(2, 3))
    assert torch.equal(part[:, 2:4], offset(weights, reference)[:, 2:4])
    assert part[:, [0, 1, 4, 5]].abs().max() == 0


def test_attributes_tell_their_held_out_figures(weights: Weights) -> None:
    age, smile = ReferenceEditing().attributes(EditContext(weights, CPU))
    assert (age.name, smile.name) == ("age", "smile")
    assert "82% of the way on held-out photos" in smile.description
    assert smile.safe_range == (0.0, 1.5)


def test_references_that_do_not_fit_are_refused(weights: Weights, tmp_path: Path) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=1)
    with pytest.raises(LatentsError) as caught:
        offset(weights, random_latents(other, 1))
    assert other.fingerprint[:12] in str(caught.value) and weights.fingerprint[:12] in str(caught.value)
    with pytest.raises(UsageError, match="takes w_plus references, and these are w"):
        offset(weights, random_latents(weights, 1, space=LatentSpace.W))


def test_what_is_wrong_with_the_block_is_said(weights: Weights, tmp_path: Path) -> None:
    bare = make_tiny_weights(tmp_path / "bare")
    with pytest.raises(WeightsError, match=r"'bare' have no reference block .*: stkit train reference --images"):
        ReferenceEditing().attributes(EditContext(bare, CPU))
    other = make_tiny_weights(tmp_path / "other", seed=1)
    export_reference(moving_block(), other.folder, weights)
    with pytest.raises(WeightsError) as caught:
        offset(other, random_latents(other, 1))
    assert other.fingerprint[:12] in str(caught.value) and weights.fingerprint[:12] in str(caught.value)
    export_reference(moving_block(dataclasses.replace(SMALL, num_ws=8)), bare.folder, bare)
    with pytest.raises(WeightsError, match=r"8 layers and width 32, but weights 'bare' have 6 layers and width 32"):
        offset(bare, random_latents(bare, 1))
