"""The usual errors of a reconstruction are read once for a set of weights, and anew after they were measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stkit import quality
from stkit.quality import store_usual_errors, usual_errors, warn_if_unusual
from stkit.testing import make_tiny_weights
from stkit.weights import Header, load_header


def test_the_header_is_read_once_for_all_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights = make_tiny_weights(tmp_path / "tiny")
    reads: list[Path] = []

    def read(path: Path) -> Header:
        reads.append(path)
        return load_header(path)

    monkeypatch.setattr(quality, "load_header", read)
    for photo in ("a.jpg", "b.jpg"):
        warn_if_unusual(weights, 1.0, Path(photo))
    assert len(reads) == 1
    assert not caplog.records
    store_usual_errors(weights, torch.linspace(0.001, 0.002, 101))
    for photo, error in (("c.jpg", 0.0015), ("d.jpg", 1.0), ("e.jpg", 2.0)):
        warn_if_unusual(weights, error, Path(photo))
    assert len(reads) == 2
    assert [record.getMessage().split()[0] for record in caplog.records] == ["d.jpg", "e.jpg"]


def test_weights_without_an_inverter_have_no_usual_errors(tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path / "tiny")
    weights.path("inverter").unlink()
    assert usual_errors(weights) is None
