"""The usual errors of a reconstruction are read once for a set of weights, and anew after they were measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stkit.measure import usual
from stkit.measure.usual import store_usual_errors, usual_errors, warn_if_unusual
from stkit.plugins import load_plugins
from stkit.testing import make_tiny_weights
from stkit.weights import Header, load_header


def test_the_header_is_read_once_for_all_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights, domain = make_tiny_weights(tmp_path / "tiny"), load_plugins().domain("faces")
    reads: list[Path] = []

    def read(path: Path) -> Header:
        reads.append(path)
        return load_header(path)

    monkeypatch.setattr(usual, "load_header", read)
    for photo in ("a.jpg", "b.jpg"):
        warn_if_unusual(weights, {"mse": 1.0, "lpips": 1.0}, Path(photo), domain)
    assert len(reads) == 1
    assert not caplog.records
    store_usual_errors(weights, {"mse": torch.linspace(0.001, 0.002, 101), "lpips": torch.linspace(0.1, 0.2, 101)})
    for photo, metrics in (
        ("c.jpg", {"mse": 1.0, "lpips": 0.15}),
        ("d.jpg", {"mse": 0.0015, "lpips": 0.3}),
        ("e.jpg", {"mse": 1.0}),
        ("f.jpg", {"mse": 0.0015}),
    ):
        warn_if_unusual(weights, metrics, Path(photo), domain)
    assert len(reads) == 2
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "d.jpg is reconstructed badly: LPIPS 0.300",
        "e.jpg is reconstructed badly: MSE 1.000",
    ]


def test_weights_without_an_inverter_have_no_usual_errors(tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path / "tiny")
    weights.path("inverter").unlink()
    assert usual_errors(weights) is None


def test_the_warning_says_how_to_see_what_was_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = make_tiny_weights(tmp_path / "tiny")
    store_usual_errors(weights, {"mse": torch.linspace(0.001, 0.002, 101)})
    for name in ("faces", "cars"):
        warn_if_unusual(weights, {"mse": 1.0}, Path("a.jpg"), load_plugins().domain(name))
    assert ["(see `stkit faces a.jpg`)" in record.getMessage() for record in caplog.records] == [True, False]
