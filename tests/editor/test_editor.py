"""The Python API: three lines from a photo to an edited picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import stkit
from stkit.contracts.editing import Attribute, EditContext, EditingMethod
from stkit.editor.steps import EditStep
from stkit.errors import LatentsError, StkitError, UsageError
from stkit.latents.latents import Latents
from stkit.models.registry import load_generator
from stkit.options import LatentSpace, LayerRange, Options
from stkit.photo.images import to_tensor
from stkit.testing import make_tiny_weights, random_latents
from stkit.weights import Weights


@pytest.fixture
def editor(tiny_weights: Weights) -> stkit.Editor:
    return stkit.load(str(tiny_weights.folder), device="cpu")


def test_three_lines(editor: stkit.Editor, portrait: Path) -> None:
    inversion = editor.invert(portrait)
    edit = editor.edit(inversion, method="ganspace", attribute="pc1", strength=2)
    size = (editor.weights.resolution,) * 2
    assert inversion.crop.size == inversion.image.size == edit.crop.size == size
    assert edit.image.size == inversion.photo.image.size
    edit.save(portrait.with_name("edited.jpg"))
    assert stkit.load_photo(portrait.with_name("edited.jpg")).image.size == edit.image.size
    assert edit.latents.provenance[0].edits == ("ganspace:pc1=+2",)
    error = (to_tensor(inversion.image) - to_tensor(inversion.crop)).square().mean()
    assert inversion.metrics["mse"] == pytest.approx(float(error), rel=0.02)


def test_the_crop_shows_the_face(editor: stkit.Editor, portrait: Path) -> None:
    photo = stkit.load_photo(portrait)
    [framed] = editor.frame_all(photo)
    centre = framed.transform @ [editor.weights.resolution / 2, editor.weights.resolution / 2, 1]
    left, top, right, bottom = framed.subject.box
    assert left < centre[0] < right
    assert top < centre[1] < bottom
    assert np.asarray(framed.crop).std() > 20


def test_w_and_w_plus_give_the_same_image(editor: stkit.Editor) -> None:
    in_w = random_latents(editor.weights, 2, space=LatentSpace.W)
    w_plus = in_w.codes[:, None].expand(-1, editor.weights.num_ws, -1)
    in_w_plus = Latents(w_plus, editor.weights.fingerprint)
    assert torch.allclose(editor.generate(in_w), editor.generate(in_w_plus), atol=1e-5)


def test_codes_of_w_are_edited_in_w_plus(editor: stkit.Editor) -> None:
    in_w = random_latents(editor.weights, 2, space=LatentSpace.W)
    edited, again = (
        editor.edit(latents, "ganspace", "pc1", layers=LayerRange(1, 2)).latents
        for latents in (in_w, in_w.broadcast(editor.weights.num_ws))
    )
    assert torch.equal(edited.codes, again.codes) and edited.provenance == again.provenance
    assert torch.equal(edited.unedited().codes, in_w.broadcast(editor.weights.num_ws).codes)


def test_a_method_of_w_is_deprecated_and_edits_codes_of_w_alone(editor: stkit.Editor) -> None:
    with pytest.warns(DeprecationWarning, match="InW edits codes of w, and those of photos are w_plus"):

        class InW(EditingMethod[Options]):
            name, description, paper, space = "in-w", "moves w", "none", LatentSpace.W

            def attributes(self, context: EditContext) -> list[Attribute]:
                return []

            def edit(self, latents: Latents, options: Options, context: EditContext) -> Latents:
                return latents.replace(latents.codes + context.strength, "in-w")

    registry = dataclasses.replace(editor.registry, editing_methods={**editor.registry.editing_methods, "in-w": InW()})
    mine = stkit.Editor(editor.weights, registry, editor.device)
    in_w = random_latents(editor.weights, 1, space=LatentSpace.W)
    edited = mine.edit(in_w, edits=[EditStep("in-w"), EditStep("sefa", "eig1")]).latents
    assert edited.space is LatentSpace.W_PLUS and edited.provenance[0].edits[1] == "in-w"
    with pytest.raises(UsageError, match="method 'in-w' edits w codes, and these are w_plus"):
        mine.edit(in_w, edits=[EditStep("sefa", "eig1"), EditStep("in-w")])


def test_samples_depend_on_the_seed_alone(editor: stkit.Editor) -> None:
    many = editor.sample([3, 1, 7])
    assert torch.allclose(editor.sample([7]).codes[0], many.codes[2], atol=1e-6)
    mean = editor.sample([3, 1], truncation_psi=0.0).codes
    assert torch.allclose(mean, load_generator(editor.weights).w_avg.expand_as(mean), atol=1e-5)


def test_codes_of_another_generator_are_refused(editor: stkit.Editor, tmp_path: Path) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=9)
    latents = random_latents(other, 1)
    with pytest.raises(LatentsError, match=other.fingerprint[:12]):
        editor.generate(latents)
    with pytest.raises(LatentsError, match=other.fingerprint[:12]):
        editor.edit(latents, "ganspace", "pc1")


def test_layers_must_fit_the_generator(editor: stkit.Editor) -> None:
    with pytest.raises(UsageError, match="layers 0-5"):
        editor.edit(random_latents(editor.weights, 1), "ganspace", "pc1", layers=LayerRange(3, 12))


def test_strength_outside_the_safe_range_warns(editor: stkit.Editor, caplog: pytest.LogCaptureFixture) -> None:
    latents = random_latents(editor.weights, 1)
    editor.edit(latents, "ganspace", "pc1", strength=0.5)
    assert "outside" not in caplog.text
    editor.edit(latents, "ganspace", "pc1", strength=50)
    assert "strength 50 is outside" in caplog.text


def test_photos_without_a_subject(editor: stkit.Editor, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "sky.png"
    Image.new("RGB", (300, 200), "skyblue").save(path)
    with pytest.raises(StkitError, match=r"no face found in .*sky\.png"):
        editor.invert(path)


def test_the_weights_own_encoder_inverts_by_default(tmp_path: Path, portrait: Path) -> None:
    weights = make_tiny_weights(tmp_path / "psp")
    own, other = weights.path("inverter-psp"), weights.path("inverter")
    own.replace(other)  # what an import of a pSp file leaves
    editor = stkit.load(str(weights.folder), device="cpu")
    inversion = editor.invert(portrait)
    assert inversion.latents.provenance[0].inverter == "psp"
    assert torch.equal(inversion.latents.codes, editor.invert(portrait, "psp").latents.codes)
    assert not torch.equal(inversion.latents.codes, editor.invert(portrait, "e4e").latents.codes)


def test_weights_without_an_encoder_say_what_inverts_without_one(tmp_path: Path, portrait: Path) -> None:
    weights = make_tiny_weights(tmp_path / "bare")
    for path in weights.folder.glob("inverter*"):
        path.unlink()
    editor = stkit.load(str(weights.folder), device="cpu")
    with pytest.raises(UsageError, match=r"'bare' have no inverter; choose .* --inverter \(optimize, pti\), or train"):
        editor.invert(portrait)
    assert editor.invert(portrait, "optimize", {"steps": 1}).latents.provenance[0].inverter == "optimize"
