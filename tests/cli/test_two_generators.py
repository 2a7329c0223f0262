"""What is of `faces` and what is of `ffhq`, through the command line: each is refused with the other, both named."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from stkit.checkpoints.download import load_official
from stkit.latents.latents import load_latents, save_latents
from stkit.latents.tuning import Tuning, save_tuning
from stkit.tensors import tensors_fingerprint
from stkit.weights import Weights, find_weights, shipped_folder
from tests.cli.harness import Cli, error_line


def require_both(line: str, *weights: Weights) -> None:
    for one in weights:
        assert one.fingerprint[:12] in line, line


def sample(cli: Cli, name: str) -> Path:
    """Latents of one sample."""
    result = cli("sample", "--weights", name, "--seeds", "3", "--out", name)
    assert result.code == 0, result.err
    (path,) = Path(name).rglob("*.latents.safetensors")
    return path


def test_samples_have_the_generators_size(cli: Cli, ffhq: Weights) -> None:
    sample(cli, "ffhq")
    (picture,) = Path("ffhq").glob("*.png")
    with Image.open(picture) as image:
        assert image.width >= 1024
    line = error_line(cli("weights", "export", "ffhq", "--format", "rosinality"))
    assert "is for StyleGAN2 generators; export the mobile-stylegan generator as" in line


@pytest.mark.parametrize(("mine", "other"), [("faces", "ffhq"), ("ffhq", "faces")])
def test_latents_of_the_other_generator(cli: Cli, ffhq: Weights, mine: str, other: str) -> None:
    latents = sample(cli, mine)
    line = error_line(cli("edit", latents, "--method", "ganspace", "--attribute", "pc1", "--weights", other))
    require_both(line, find_weights(mine), find_weights(other))
    assert other in line and "choose the weights they were made with" in line


def test_directions_of_the_other_generator(cli: Cli, ffhq: Weights) -> None:
    latents = sample(cli, "ffhq")
    shutil.copy(shipped_folder() / "faces" / "direction-smile.safetensors", ffhq.folder / "direction-grin.safetensors")
    result = cli("edit", latents, "--method", "interfacegan", "--attribute", "grin", "--weights", "ffhq")
    assert result.code == 1
    require_both(error_line(result), find_weights("faces"), ffhq)


@pytest.mark.parametrize(("mine", "other"), [("faces", "ffhq"), ("ffhq", "faces")])
def test_tunings_of_the_other_generator(cli: Cli, ffhq: Weights, mine: str, other: str) -> None:
    path = sample(cli, mine)
    deltas = {"w_avg": torch.zeros(4).half()}
    header = find_weights(other).part_header("tuning", find_weights(other).header.architecture, {})
    tuning = Tuning(dataclasses.replace(header, fingerprint=tensors_fingerprint(deltas)), deltas)
    save_tuning(tuning, path.parent)
    save_latents(dataclasses.replace(load_latents(path), tuning=tuning), path)
    line = error_line(cli("edit", path, "--method", "ganspace", "--attribute", "pc1"))
    require_both(line, find_weights(mine), find_weights(other))


def test_latents_are_edited_with_the_weights_that_they_name(cli: Cli, ffhq: Weights, tiny_weights: Weights) -> None:
    """Whatever the default is: first the ffhq that ships, then one of other codes."""
    paths = [sample(cli, "ffhq"), sample(cli, "faces")]
    edit = ("--method", "sefa", "--attribute", "eig1")
    assert [cli("edit", path, *edit).code for path in paths] == [0, 0]
    shutil.rmtree(ffhq.folder)
    shutil.copytree(tiny_weights.folder, ffhq.folder)
    result = cli("edit", paths[1], *edit, "--strength", "2")
    assert result.code == 0, result.err
    mixed = cli("edit", *paths, *edit, "--out", "out")
    assert mixed.code != 0


def test_the_wheel_can_be_imported_under_any_name(cli: Cli, ffhq_wheel: Path) -> None:
    told = cli("weights", "inspect", ffhq_wheel)
    assert told.code == 0 and "MobileStyleGAN generator as OpenVINO IR" in told.out
    done = cli("weights", "import", ffhq_wheel, "--name", "student")
    assert done.code == 0, done.err
    assert "generator; 1024 px, faces, aligned by ffhq" in done.out
    header = find_weights("student").header
    assert header.fingerprint == load_official()["ffhq"].fingerprint and header.licence.startswith("non-commercial")
