"""A generator that stkit has never seen: sampled, optimised, edited, imported and trained through its contracts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import stkit
from stkit.plugin import Header, Weights, find_weights, load_generator, load_plugins, origin, save_module, shape_values
from stkit.testing import run_stkit
from stkit_alias_free.checkpoint import RENAMED
from stkit_alias_free.config import AliasFreeConfig
from stkit_alias_free.generator import AliasFree

SHAPE = AliasFreeConfig(img_resolution=32, z_dim=16, w_dim=16, channels=8)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Random ones, in a home of their own."""
    monkeypatch.setenv("STKIT_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    generator = AliasFree(SHAPE)
    generator.w_avg.copy_(generator.compute_w_avg(1000))
    config, shape = dataclasses.asdict(SHAPE), shape_values(SHAPE)
    header = Header("generator", AliasFree.architecture, config, shape=shape, **origin("plain", None, None))
    save_module(tmp_path / "tiny", generator, header)
    return find_weights(str(tmp_path / "tiny"))


@pytest.fixture
def photo(weights: Weights, tmp_path: Path) -> Path:
    """A picture that the generator can make."""
    run_stkit("sample", "--seeds", "3", "--trunc", "1", "--weights", weights.folder, "--out", tmp_path / "sample")
    generator = load_generator(weights)
    z = torch.randn(1, SHAPE.z_dim, generator=torch.Generator().manual_seed(3))
    image = generator.synthesize(generator.map(z))[0].clamp(-1, 1).add(1).mul(127.5).round().byte()
    Image.fromarray(image.permute(1, 2, 0).detach().numpy()).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_nothing_of_it_is_refused() -> None:
    (plugin,) = [plugin for plugin in load_plugins().plugins if plugin.name == "alias-free"]
    assert plugin.problems == ()


@pytest.mark.parametrize("resolution", [16, 64, 256])
def test_it_has_16_rows_at_any_resolution_and_neither_noise_nor_images_of_features(resolution: int) -> None:
    generator = AliasFree(dataclasses.replace(SHAPE, img_resolution=resolution))
    w_plus = generator.map(torch.randn(2, SHAPE.z_dim))
    assert w_plus.shape[1] == len(generator.style_layers()) == 16
    assert generator.synthesize(w_plus).shape == (2, 3, resolution, resolution)
    assert generator.noise_maps() == {}
    assert [layer.kind for layer in generator.style_layers()].count("image") == 1
    for number, style in enumerate(generator.styles(w_plus)):
        weight, bias = generator.modulation(number)
        torch.testing.assert_close(style, w_plus[:, number] @ weight.T + bias)
    torch.testing.assert_close(generator.freeze().synthesize(w_plus), generator.synthesize(w_plus).detach())


def test_a_photo_is_inverted_by_optimisation(weights: Weights, photo: Path) -> None:
    editor = stkit.load(str(weights.folder))
    inversion = editor.invert(photo, "optimize", {"steps": 60, "lpips": 0})
    assert inversion.latents.codes.shape == (1, 16, 16)
    mean = editor.generate(stkit.Latents(load_generator(weights).w_avg.expand(1, 16, 16), weights.space))
    start = editor.errors(mean, editor.generate(inversion.latents))["mse"]
    assert inversion.metrics["mse"] < 0.25 * float(start)


@pytest.mark.parametrize(("method", "attribute"), [("ganspace", "pc1"), ("ganspace", "act1"), ("sefa", "eig1")])
def test_edits_change_the_picture(weights: Weights, photo: Path, tmp_path: Path, method: str, attribute: str) -> None:
    optimize = ("--inverter", "optimize", "-o", "steps=5", "--weights", weights.folder)
    run_stkit("invert", photo, *optimize, "--out", tmp_path / "out")
    (latents,) = (tmp_path / "out").rglob("*.latents.safetensors")
    edit = ("--method", method, "--attribute", attribute, "--strength", 2)
    run_stkit("edit", latents, "--weights", weights.folder, *edit, "--out", tmp_path / "edited")
    (edited,) = (tmp_path / "edited").rglob("*.latents.safetensors")
    codes = [stkit.load_latents(path).codes for path in (latents, edited)]
    pictures = load_generator(weights).synthesize(torch.cat(codes))
    assert (pictures[0] - pictures[1]).abs().mean() > 1e-3


def test_checkpoints_of_the_other_project_are_imported(weights: Weights, tmp_path: Path) -> None:
    state = load_generator(weights).state_dict()
    theirs = {}
    for name, value in state.items():
        for ours, other in RENAMED.items():
            name = name.replace(ours, other)
        theirs[name] = value
    torch.save({"alias_free": {"size": 32, "width": 8}, "G": theirs}, tmp_path / "theirs.pt")
    assert "tiny-alias-free" in run_stkit("weights", "inspect", tmp_path / "theirs.pt")
    run_stkit("weights", "import", tmp_path / "theirs.pt", "--name", "theirs", "--domain", "plain")
    imported = load_generator(find_weights("theirs"))
    assert all(torch.equal(value, state[name]) for name, value in imported.state_dict().items())


def test_a_training_leaves_weights(weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(24):
        Image.new("RGB", (32, 32), (10 * number, 255 - 10 * number, 90)).save(tmp_path / "photos" / f"{number:02d}.png")
    out = tmp_path / "run"
    train = ("train", "alias-free", tmp_path / "photos", "--out", out, "--batch", 8, "--resolution", 32)
    settings = ("-o", "channels=8", "-o", "learning_rate=0.01", "--device", "cpu")
    said = run_stkit(*train, "--steps", 40, *settings)
    assert f"done; use it with --weights {out}" in said.replace("\n", "")
    (mse,) = re.findall(r'"mse": ([\d.]+)', (out / "log.jsonl").read_text())
    assert float(mse) < 0.1  # half the variance of the pictures, which is what the mean picture would leave
    run_stkit("sample", "--weights", out, "--out", tmp_path / "samples")
