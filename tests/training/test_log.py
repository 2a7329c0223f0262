from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from stkit.training.log import RunLog, draw_curves


def test_each_value_gets_a_panel_and_curves_differ() -> None:
    lines = [{"step": i, "seconds": i, "loss": 1 / i, "rise": float(i)} for i in range(1, 20)]
    image = draw_curves([*lines, {"step": 20, "val_mse": 0.25}])
    assert image.width == 3 * 304 + 4
    pixels = np.asarray(image).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0]) > 100
    left, middle = blue[:, :300], blue[:, 308:604]
    assert left.sum() > 100 and middle.sum() > 100
    # A falling curve starts high, a rising one starts low.
    assert left[:, :60].argmax(0).max() < np.argmax(middle[:, :20].any(1))


def test_nothing_and_one_point_can_be_drawn() -> None:
    assert draw_curves([]).size == (308, draw_curves([]).height)
    assert draw_curves([{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 3.0}]).width == 308


def test_lines_past_the_checkpoint_go_and_the_plot_is_written(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step=step, loss=1.0 / step)
    log.plot()
    before = (tmp_path / "losses.png").read_bytes()
    again = RunLog(tmp_path, 2)
    again.write(step=3, loss=9.0)
    again.plot()
    steps = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}, {"step": 3, "loss": 9.0}]
    assert (tmp_path / "losses.png").read_bytes() != before


def test_tensorboard_gets_everything_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int | None) -> None:
            calls.append((folder, purge_step))

        def add_scalar(self, *values: Any) -> None:
            calls.append(values)

        def close(self) -> None:
            calls.append("closed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    found = importlib.util.find_spec("json")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    log = RunLog(tmp_path, 4)
    log.write(step=5, loss=0.5, images_per_second=2.0)
    log.close()
    expected = [(str(tmp_path / "tensorboard"), 5), ("loss", 0.5, 5), ("images_per_second", 2.0, 5), "closed"]
    assert calls == expected
