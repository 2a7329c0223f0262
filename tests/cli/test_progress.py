from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from stkit.cli import common
from stkit.cli.requests import _bars


def test_a_terminal_sees_what_is_being_done_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(common, "errors", Console(file=shown, force_terminal=True, width=110, color_system=None))
    with _bars() as tell:
        tell("loading the model", 0, 0)
        tell("refining (optimize:4)", 1, 4)
        tell("refining (optimize:4)", 4, 4)
    text = shown.getvalue()
    assert "refining (optimize:4)" in text and "100%" in text and "gone" in text and "0:00:00 left" in text
    assert "loading the model" not in text.splitlines()[-1]


def test_a_file_sees_nothing_of_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(common, "errors", Console(file=shown, width=110))
    with _bars() as tell, common.waiting("looking"):
        tell("photos", 1, 4)
    assert shown.getvalue().strip() == ""


def test_a_bar_is_there_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(common, "errors", Console(file=shown, force_terminal=True, width=110, color_system=None))
    with common.progress_bar("scoring samples") as move:
        time.sleep(0.5)  # it is drawn ten times a second
        assert "scoring samples" in shown.getvalue() and "gone" in shown.getvalue()
        move(3, 4)
    assert "75%" in shown.getvalue()
