"""`stkit latents` and `stkit morph`."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from stkit.errors import LatentsError, UsageError
from stkit.latents.latents import (
    Latents,
    Provenance,
    average,
    interpolate,
    join_latents,
    load_latents,
    mix,
    save_latents,
)
from stkit.latents.tuning import tuning_between
from stkit.models.registry import load_generator
from stkit.options import LatentSpace, LayerRange
from stkit.testing import make_tiny_weights, random_latents
from stkit.weights import Weights
from tests.cli.harness import Cli, error_line


@pytest.fixture
def files(tmp_path: Path, tiny_weights: Weights) -> list[Path]:
    """Two files, of three rows and of one."""
    latents = [random_latents(tiny_weights, 3), random_latents(tiny_weights, 1, seed=1)]
    paths = [tmp_path / "three.latents.safetensors", tmp_path / "one.latents.safetensors"]
    for path, codes in zip(paths, latents, strict=True):
        save_latents(codes, path)
    return paths


def test_mix_moves_layers(tiny_weights: Weights) -> None:
    first, second = random_latents(tiny_weights, 3), random_latents(tiny_weights, 1, seed=1)
    mixed = mix(first, second, 1.0, LayerRange(1, 2))
    assert mixed.codes[:, 1:3].equal(second.codes[:, 1:3].expand(3, -1, -1))
    assert mixed.codes[:, 3:].equal(first.codes[:, 3:]) and mixed.codes[:, 0].equal(first.codes[:, 0])
    assert mixed.provenance[0].edits == ("earlier", "mix:1:layers1-2")
    assert torch.allclose(mix(first, second).codes, (first.codes + second.codes) / 2, atol=1e-6)
    with pytest.raises(UsageError, match="layers"):
        mix(first, second, 1.0, LayerRange(0, 99))
    with pytest.raises(LatentsError, match="2 codes do not mix with 3"):
        mix(first, random_latents(tiny_weights, 2))
    with pytest.raises(LatentsError, match="do not mix"):
        mix(first, random_latents(tiny_weights, 1, space=LatentSpace.W))


def test_style_offsets_come_along(tiny_weights: Weights) -> None:
    offsets = torch.arange(6.0).reshape(3, 2)
    latents = dataclasses.replace(random_latents(tiny_weights, 3), style_offsets=offsets)
    assert latents.row(1).style_offsets.equal(offsets[1:2])  # type: ignore[union-attr]
    assert average(latents).style_offsets.equal(offsets[1:2])  # type: ignore[union-attr]
    between = interpolate(latents, 5).style_offsets
    assert between is not None and between[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    with pytest.raises(LatentsError, match="StyleSpace"):
        mix(latents, random_latents(tiny_weights, 1))


def test_average_and_interpolation(tiny_weights: Weights) -> None:
    latents = random_latents(tiny_weights, 3)
    assert torch.allclose(average(latents).codes[0], latents.codes.mean(0))
    path = interpolate(latents, 7).codes
    assert torch.allclose(path[[0, 3, 6]], latents.codes, atol=1e-6)
    assert torch.allclose(path[1], latents.codes[0] + (latents.codes[1] - latents.codes[0]) / 3, atol=1e-6)
    with pytest.raises(UsageError, match="2 frames do not reach over 3 codes"):
        interpolate(latents, 2)
    with pytest.raises(LatentsError, match="no codes"):
        average(Latents(latents.codes[:0], latents.generator))
    joined = join_latents([latents, latents.row(1)])
    assert joined.codes[3].equal(latents.codes[1]) and joined.provenance[3] == latents.provenance[1]


def test_show(cli: Cli, files: list[Path]) -> None:
    result = cli("latents", "show", *files)
    assert result.code == 0, result.err
    assert "3 x 6 x 32 in w_plus" in result.out and "1 x 6 x 32" in result.out
    assert "photo2.jpg" in result.out and "earlier" in result.out


def test_quoted_patterns(cli: Cli, files: list[Path], tiny_weights: Weights, tmp_path: Path) -> None:
    pattern = tmp_path / "[ot]*.latents.safetensors"
    assert cli("latents", "show", pattern).out.count("in w_plus, generator") == 2
    made = cli("latents", "average", pattern, "--out", "mean.latents.safetensors", "--weights", tiny_weights.folder)
    assert made.code == 0, made.err
    mean = average(join_latents([load_latents(file) for file in sorted(files)]))
    assert load_latents(Path("mean.latents.safetensors")).codes.equal(mean.codes)


def test_mix_average_and_what_is_there_already(cli: Cli, files: list[Path], tiny_weights: Weights) -> None:
    common = ("--weights", tiny_weights.folder)
    assert cli("latents", "mix", *files, "--out", "m.latents.safetensors", "--amount", 1, *common).code == 0
    assert load_latents(Path("m.latents.safetensors")).codes[2].equal(load_latents(files[1]).codes[0])
    with Image.open("m.latents.png") as picture:
        assert picture.width > 3 * 16
    result = cli("latents", "average", *files, "--out", "m.latents.safetensors", *common)
    assert result.code == 2
    assert "--overwrite" in error_line(result)
    assert len(load_latents(Path("m.latents.safetensors"))) == 3
    assert cli("latents", "average", *files, "--out", "m.latents.safetensors", *common, "--overwrite").code == 0
    mean = (load_latents(files[0]).codes.sum(0) + load_latents(files[1]).codes[0]) / 4
    assert torch.allclose(load_latents(Path("m.latents.safetensors")).codes[0], mean, atol=1e-6)
    assert cli("latents", "average", *files, "--out", "m.png", *common).code == 2


def test_latents_remember_their_weights(cli: Cli, tiny_weights: Weights) -> None:
    assert cli("sample", "--weights", tiny_weights.folder, "--seeds", "1-2", "--out", "s").code == 0
    (latents,) = Path("s").glob("*.safetensors")
    rows = load_latents(latents).provenance
    assert [row.weights for row in rows] == [tiny_weights.name] * 2
    assert average(load_latents(latents)).provenance[0].weights == tiny_weights.name
    mixed = dataclasses.replace(load_latents(latents), provenance=(rows[0], Provenance(weights="other")))
    assert average(mixed).provenance[0].weights is None


def test_export(cli: Cli, files: list[Path], tiny_weights: Weights) -> None:
    assert cli("latents", "export", files[0], "--npz", "codes.npz").code == 0
    with np.load("codes.npz") as data:
        assert np.array_equal(data["codes"], load_latents(files[0]).codes.numpy())
        assert str(data["generator"]) == tiny_weights.fingerprint and str(data["space"]) == "w_plus"
        assert json.loads(str(data["provenance"][1]))["photo"] == "photo1.jpg"


def test_export_says_what_it_leaves_out(cli: Cli, tiny_weights: Weights) -> None:
    latents = random_latents(tiny_weights, 1)
    save_latents(dataclasses.replace(latents, base=latents.codes), "plain.latents.safetensors")
    assert cli("latents", "export", "plain.latents.safetensors", "--npz", "plain.npz").err == ""
    edited = dataclasses.replace(latents, style_offsets=torch.ones(1, 4))
    base = load_generator(tiny_weights)
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        next(tuned.parameters()).add_(1.0)
    save_latents(
        dataclasses.replace(edited, tuning=tuning_between(base, tuned, tiny_weights)), "both.latents.safetensors"
    )
    told = cli("latents", "export", "both.latents.safetensors", "--npz", "both.npz").err
    (line,) = set(told.splitlines())  # each call of `cli` adds a handler
    assert "without style offsets (StyleSpace) and the generator tuned for them (PTI)" in line


def test_latents_of_two_generators(cli: Cli, files: list[Path], tmp_path: Path) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=1)
    save_latents(random_latents(other, 1), tmp_path / "other.latents.safetensors")
    arguments = ("latents", "average", files[0], tmp_path / "other.latents.safetensors", "--out", "x.safetensors")
    result = cli(*arguments, "--weights", other.folder)
    assert result.code == 1
    assert "generators" in error_line(result)


def test_morphs(cli: Cli, files: list[Path], portrait: Path, tiny_weights: Weights) -> None:
    common = (*files, "--frames", 5, "--weights", tiny_weights.folder)
    assert cli("morph", *common, "--out", "m.gif", "--rate", 10).code == 0
    with Image.open("m.gif") as gif:
        assert gif.n_frames == 5 and gif.size == (16, 16)  # type: ignore[attr-defined]
        assert gif.info["duration"] == 100
    assert cli("morph", *common, "--out", "pictures").code == 0
    assert sorted(path.name for path in Path("pictures").iterdir()) == [f"{number:05}.png" for number in range(5)]
    assert cli("morph", *common, "--out", "strip.png").code == 0
    with Image.open("strip.png") as strip:
        assert strip.size == (5 * 20 + 4, 24)
    assert cli("morph", *common, portrait, "--out", "m.mp4", "--rate", 24).code == 0
    with av.open("m.mp4") as video:
        assert len(list(video.decode(video=0))) == 5
        assert video.streams.video[0].average_rate == 24
    again = cli("morph", *common, "--out", "m.gif")
    assert again.code == 2
    assert "--overwrite" in error_line(again)
    assert cli("morph", files[0], "--weights", tiny_weights.folder, "--out", "x.doc").code == 2


def test_a_morph_without_pyav_is_a_gif(
    cli: Cli, files: list[Path], tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "av" else find(name, *rest))
    result = cli("morph", *files, "--frames", 4, "--weights", tiny_weights.folder)
    assert result.code == 0, result.err
    assert "pip install 'stkit[video]'" in result.out
    assert Path("out/three-one.gif").is_file()
