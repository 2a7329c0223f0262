"""Evaluations and labelled codes by an engine, here one in this process; tests/plugins/test_ray.py has a real one."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stkit.contracts.engines import Engine, Spread
from stkit.datasets import codes
from stkit.datasets.labels import AttributeSpec, load_labels
from stkit.editor.opening import open_editor
from stkit.errors import UsageError
from stkit.jobs import labelled
from stkit.jobs.evaluation.run import evaluate
from stkit.jobs.request import EvaluateRequest, LabelledRequest
from stkit.jobs.runner import run_batch
from stkit.jobs.sources import Item
from stkit.plugins import load_plugins

COUNT = 6


class Here(Engine):
    """Two workers, one after the other; the photo `deadly` is lost."""

    name = "here"
    description = "this process"

    def rows(self, items: Sequence[Item], make_job: Callable[[], Any], spread: Spread) -> Iterator[Any]:
        for half in (items[::2], items[1::2]):
            job = pickle.loads(pickle.dumps(make_job))()
            for row in run_batch(half, job, spread.together):
                lost = row.photo == "3.png"
                yield replace(row, status="failed", reason="no worker survived it", latents=None) if lost else row


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(load_plugins().engines, "here", Here())


@pytest.fixture
def photos(make_photos: Callable[[int], Path]) -> Path:
    return make_photos(COUNT)


def test_an_evaluation(plain_weights: str, photos: Path, tmp_path: Path) -> None:
    asked = EvaluateRequest(
        photos, tmp_path / "alone", weights=plain_weights, metrics="mse", edits="sefa:eig1=1", costs=False
    )
    (tmp_path / "fewer").mkdir()
    for i in (0, 1, 2, 4, 5):
        shutil.copy(photos / f"{i}.png", tmp_path / "fewer")
    alone = evaluate(replace(asked, data=tmp_path / "fewer"))
    spread = evaluate(replace(asked, out=tmp_path / "spread", engine="here"))
    assert spread["photos"] == COUNT - 1 and "3.png could not be measured: no worker survived it" in str(spread)
    for ours, theirs in zip(alone["systems"], spread["systems"], strict=True):
        assert ours["means"]["mse"]["mean"] == pytest.approx(theirs["means"]["mse"]["mean"], rel=1e-5)
    assert len(list((tmp_path / "spread" / "work").glob("*/values*.jsonl"))) >= 1


def test_codes_of_labelled_photos(
    plain_weights: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(labelled, "MIN_OF_A_CLASS", 1)
    (tmp_path / "labels.csv").write_text("file,red\n" + "".join(f"{i}.png,{i // 2 % 2}\n" for i in range(COUNT)))
    labels = tmp_path / "labels.csv"
    request = LabelledRequest(labels=labels, images=photos, weights=plain_weights, device="cpu")
    editor, specs = open_editor(None, plain_weights, "cpu"), [AttributeSpec("red", None)]
    spread, _ = labelled.labelled_rows(editor, replace(request, engine="here"), load_labels(labels), specs)
    assert "skipped 3.png: no worker survived it" in caplog.text
    cached = len(list(codes.cache_folder().rglob("*.safetensors")))
    assert cached and [Path(name).name for name in spread.names] == [f"{i}.png" for i in (0, 1, 2, 4, 5)]
    for path in codes.cache_folder().rglob("*.safetensors"):
        path.unlink()
    alone, _ = labelled.labelled_rows(editor, request, load_labels(labels), specs)
    kept = [i for i in range(COUNT) if i != 3]
    assert torch.allclose(alone.codes[kept], spread.codes, rtol=0, atol=1e-5)
    assert np.array_equal(alone.values[kept], spread.values)


def test_what_cannot_be_spread() -> None:
    with pytest.raises(UsageError, match="--engine is for photos"):
        LabelledRequest(samples=100, scorer="x", engine="here")
    with pytest.raises(UsageError, match="are for an --engine"):
        EvaluateRequest(Path("x"), workers=2)
