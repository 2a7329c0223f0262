"""The benchmark of directions: the shipped cars' red, on cars of the generator's own that its paint labels."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import stkit
from benchmarks.directions import main
from stkit.latents.latents import Latents
from stkit.models.registry import sample_w
from stkit.photo.images import picture_part, to_image


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A zip of 96 cars, the first 72 for training, and their labels: the reddest third is red, by its pixels.

    Every third is moved towards red, every third away from it: else a judge of so few would take what happens to go
    with red for red.
    """
    editor = stkit.load("cars", "cpu")
    w = sample_w(editor.weights, 96, seed=1)
    codes = w[:, None].repeat(1, editor.weights.num_ws, 1)
    for first, strength in ((0, -1.4), (2, 1.4)):
        moved = Latents(codes[first::3], editor.weights.fingerprint)
        codes[first::3] = editor.apply(moved, [editor.parse_step(f"red={strength}")]).codes
    images = torch.cat([editor.generate(Latents(part, editor.weights.fingerprint)) for part in codes.split(8)])
    middle = picture_part(images, editor.domain.output_crop)
    redness = (middle[:, 0] - middle[:, 1:].mean(1)).mean((1, 2))
    threshold = redness.quantile(2 / 3)
    folder = tmp_path_factory.mktemp("cars")
    rows = ["file,split,colour"]
    with zipfile.ZipFile(folder / "cars.zip", "w") as archive:
        for i, (image, red) in enumerate(zip(images, redness > threshold, strict=True)):
            buffer = io.BytesIO()
            to_image(image).save(buffer, "PNG")
            archive.writestr(f"{i}.png", buffer.getvalue())
            rows.append(f"{i}.png,{'train' if i < 72 else 'val'},{'red' if red else 'other'}")
    (folder / "cars.csv").write_text("\n".join(rows))
    return folder / "cars.zip", folder / "cars.csv"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["directions", *map(str, arguments)])
    main()


def test_red_is_seen(
    cars: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, labels = cars
    run(monkeypatch, data, "--labels", labels, "--attributes", "colour=red", "--limit", "8", "--weights", "cars")
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│ red")]
    auc, lower, upper = (float(cell) for cell in row.split("│")[2:5])
    assert auc > 0.8
    assert lower < -0.1
    assert upper > 0.5


def test_what_cannot_be_measured(
    cars: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, labels = cars
    with pytest.raises(SystemExit):
        run(monkeypatch, data, "--labels", labels, "--attributes", "colour=green", "--weights", "cars")
    assert "green" in capsys.readouterr().err
