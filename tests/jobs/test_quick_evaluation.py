from __future__ import annotations

import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from stkit.datasets.images import ImageSet, load_image_set
from stkit.editor.editor import load
from stkit.errors import UsageError
from stkit.jobs.evaluation.quick import (
    evaluate_quickly,
    evaluate_reconstruction,
    mean_image,
    reconstruct,
    reconstruction_errors,
    reconstruction_grid,
)
from stkit.jobs.request import QuickRequest
from stkit.measure.usual import usual_errors
from stkit.photo.images import resize_batch
from stkit.weights import Weights, find_weights

CPU = torch.device("cpu")


def make_set(count: int = 18, resolution: int = 16, seed: int = 0) -> ImageSet:
    coarse = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) * 255
    images = nn.functional.interpolate(coarse, size=resolution, mode="bilinear").byte()
    return ImageSet(images, tuple(f"{i}.png" for i in range(count)))


def embed(images: Tensor) -> Tensor:
    return nn.functional.normalize(images.mean((2, 3)), dim=1)


def mse_at_256(a: Tensor, b: Tensor) -> Tensor:
    return (resize_batch(a.clamp(-1, 1), 256) - resize_batch(b, 256)).square().mean((1, 2, 3))


def test_errors_are_those_of_the_reconstructions_and_of_the_mean(tiny_weights: Weights) -> None:
    data = make_set()
    mean = mean_image(make_set(seed=1))
    result = evaluate_reconstruction(tiny_weights, data, mean, CPU, embed, worst=3)
    images = data.batch(torch.arange(len(data)), CPU)
    output = reconstruct(tiny_weights, images)
    errors = mse_at_256(output, images)
    assert result["images"] == 18
    assert result["reconstruction"]["mse"] == pytest.approx(errors.mean().item(), rel=1e-4)
    assert result["mean_image"]["mse"] == pytest.approx(
        mse_at_256(mean.expand_as(images), images).mean().item(), rel=1e-4
    )
    cosine = nn.functional.cosine_similarity(embed(output.clamp(-1, 1)), embed(images)).mean().item()
    assert result["reconstruction"]["identity"] == pytest.approx(cosine, abs=1e-4)  # in 8 bits
    assert 0 < result["mean_image"]["lpips"] != result["reconstruction"]["lpips"] > 0

    worst = errors.argsort(descending=True)[:3].tolist()
    assert [entry["file"] for entry in result["worst"]] == [data.names[i] for i in worst]
    assert result["worst"][0]["mse"] == pytest.approx(errors[worst[0]].item(), rel=1e-4)
    assert json.loads(json.dumps(result)) == result


def test_without_lpips_the_mse_is_shown_as_of_single_photos(
    tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_set(2)
    known = evaluate_reconstruction(tiny_weights, data, mean_image(data), CPU)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = evaluate_reconstruction(tiny_weights, data, mean_image(data), CPU)
    assert result["reconstruction"] == {"mse": known["reconstruction"]["mse"]}
    assert [set(entry) for entry in result["worst"]] == [{"file", "mse"}] * 2


def test_without_an_embedder_there_is_no_identity(tiny_weights: Weights) -> None:
    data = make_set(2)
    result = evaluate_reconstruction(tiny_weights, data, mean_image(data), CPU)
    assert result["reconstruction"].keys() == result["mean_image"].keys() == {"mse", "lpips"}
    assert len(result["worst"]) == 2


def test_mean_image_is_the_mean() -> None:
    data = make_set(300)
    expected = data.images.double().mean(0) / 127.5 - 1
    torch.testing.assert_close(mean_image(data), expected.float())


def test_grid_shows_random_photos_and_the_worst_over_their_reconstructions(tiny_weights: Weights) -> None:
    data = make_set()
    grid = np.asarray(reconstruction_grid(tiny_weights, data, ["3.png", "7.png"], CPU))
    assert grid.shape == (4 * 20 + 4, 2 * 20 + 4, 3)
    tiles = [
        [grid[4 + 20 * row : 20 + 20 * row, 4 + 20 * column : 20 + 20 * column] for column in range(2)]
        for row in range(4)
    ]
    photo = data.images.permute(0, 2, 3, 1).numpy()
    assert (tiles[2][0] == photo[3]).all() and (tiles[2][1] == photo[7]).all()
    assert any((tiles[0][0] == image).all() for image in photo) and (tiles[0][0] != tiles[0][1]).any()
    output = reconstruct(tiny_weights, data.batch(torch.tensor([7]), CPU))[0]
    expected = ((output + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).numpy()
    assert np.abs(tiles[3][1] - expected).max() <= 1


def test_grid_and_usual_errors_are_of_the_same_inversion(
    tiny_weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_set()
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name, pixels in zip(data.names, data.images, strict=True):
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(encoded := io.BytesIO(), "PNG")
            archive.writestr(name, encoded.getvalue())
    splits = [f"{name},{'train' if i < 8 else 'test'}" for i, name in enumerate(data.names)]
    (tmp_path / "photos.csv").write_text("\n".join(["file,split", *splits]))
    shutil.copytree(tiny_weights.folder, tmp_path / "tiny")
    editor = load(find_weights(str(tmp_path / "tiny")), "cpu")
    held_out = load_image_set(tmp_path / "photos.zip", 16, "test")
    expected = reconstruction_errors(editor, held_out)

    inverter = type(editor.registry.inverter_for(editor.weights))
    plain, seen = inverter.invert, []

    def invert(self: Any, crops: Tensor, *rest: Any) -> Any:
        seen.append(len(crops))
        return plain(self, crops, *rest)

    monkeypatch.setattr(inverter, "invert", invert)
    asked = QuickRequest(tmp_path / "photos.zip", weights=str(tmp_path / "tiny"), identity=False, device="cpu")
    report = evaluate_quickly(replace(asked, grid=tmp_path / "grid.png", calibrate=True))
    assert sum(seen) == report["images"] == 10
    usual = usual_errors(editor.weights)
    assert usual is not None and usual["images"] == 10
    assert usual["mse"]["p50"] == pytest.approx(expected["mse"].quantile(0.5).item(), abs=2e-5)
    assert usual["lpips"]["p99"] == pytest.approx(expected["lpips"].quantile(0.99).item(), abs=2e-5)
    worst = [row["file"] for row in report["worst"]]
    grid = np.asarray(reconstruction_grid(editor.weights, held_out, worst, CPU)).astype(int)
    with Image.open(tmp_path / "grid.png") as written:
        assert np.abs(np.asarray(written) - grid).max() <= 1


def test_images_of_another_size_are_refused(tiny_weights: Weights) -> None:
    data = make_set(2, resolution=32)
    with pytest.raises(UsageError, match="the images have 32 px, but weights 'tiny' make 16 px"):
        evaluate_reconstruction(tiny_weights, data, mean_image(data), CPU)
    with pytest.raises(UsageError, match="the images have 32 px"):
        reconstruction_grid(tiny_weights, data, ["0.png"], CPU)
