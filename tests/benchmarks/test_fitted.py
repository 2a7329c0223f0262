"""The benchmark of directions: the shipped cars' red, on cars of the generator's own that its paint labels."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import pytest

import stkit
from benchmarks.directions import main
from stkit.latents.latents import Latents
from stkit.models.registry import sample_w
from stkit.photo.images import picture_part, to_image


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A zip of 400 cars, the first 376 for training, and their labels: the reddest third is red.

    A judge of 120 takes what happens to go with red for red.
    """
    editor = stkit.load("cars", "cpu")
    w = sample_w(editor.weights, 400, seed=1)
    codes = w[:, None].expand(-1, editor.weights.num_ws, -1)
    images = editor.generate(Latents(codes, editor.weights.fingerprint))
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
            rows.append(f"{i}.png,{'train' if i < 376 else 'val'},{'red' if red else 'other'}")
    (folder / "cars.csv").write_text("\n".join(rows))
    return folder / "cars.zip", folder / "cars.csv"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["directions", *map(str, arguments)])
    main()


def test_red_is_seen(
    cars: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, labels = cars
    run(monkeypatch, data, "--labels", labels, "--attributes", "colour=red", "--limit", "12", "--weights", "cars")
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│ red")]
    auc, lower, upper = (float(cell) for cell in row.split("│")[2:5])
    assert auc > 0.65
    assert lower < -0.3
    assert upper > 0.5


def test_what_cannot_be_measured(
    cars: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, labels = cars
    with pytest.raises(SystemExit):
        run(monkeypatch, data, "--labels", labels, "--attributes", "colour=green", "--weights", "cars")
    assert "green" in capsys.readouterr().err
