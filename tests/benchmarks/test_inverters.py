"""The benchmark of settings: two of them on a tiny generator, stopped runs go on, and what a setting changes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmarks.inverters import Setting, main, read_setting
from stkit.contracts.framing import AlignmentTemplate
from stkit.photo.images import to_image
from stkit.testing import make_tiny_weights


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(torch.rand(30, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1):
        to_image(image).save(folder / f"{i:02}.png")
    rows = [f"{i:02}.png,{'train' if i < 20 else 'val' if i < 25 else 'test'}" for i in range(30)]
    folder.with_suffix(".csv").write_text("\n".join(["file,split", *rows]))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    make_tiny_weights(folder, "plain", alignment=AlignmentTemplate("box"))
    return folder


def test_each_setting_has_its_row(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["inverters", photos, "--out", tmp_path, "--weights", weights, "--steps", 2, "--no-compile", "--batch", 4]
    command += ["--settings", "rate*3", "identity-0", "--photos", 3]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    monkeypatch.setenv("COLUMNS", "200")
    main()
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]
    assert "3 test photos" in printed
    assert [row[:2] for row in rows] == [
        ["rate*3", "8"],
        ["identity-0", "8"],
        ["its own (style-transformer)", "as shipped"],
    ]
    assert len({row[2] for row in rows}) == 3
    log = (tmp_path / "identity-0" / "log.jsonl").read_text()
    assert '"lpips"' in log and '"identity"' not in log


def test_a_setting_changes_one_thing(photos: Path, weights: Path, tmp_path: Path) -> None:
    from stkit.weights import find_weights

    setting: Setting = read_setting(photos, find_weights(str(weights)), 3, 4, 1e-3, compile=False)
    assert setting.judge is None and setting.embedder is not None

    def config(change: str):
        run = setting.run(change, tmp_path / change.replace("/", "-"), 2, resume=False)
        return {name: getattr(run.config, name) for name in ("learning_rate", "identity", "latent", "zoom")}

    plain = config("plain")
    assert plain == {"learning_rate": 1e-3, "identity": 0.1, "latent": 0.0, "zoom": True}
    for change, name, value in (
        ("rate/3", "learning_rate", 1e-3 / 3),
        ("identity-0", "identity", 0.0),
        ("latent-0.1", "latent", 0.1),
        ("no-zoom", "zoom", False),
    ):
        assert config(change) == {**plain, name: pytest.approx(value)}
