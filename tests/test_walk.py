"""The walk of `stkit edit` from the command to the picture: what it calls in rooms above the one it is in.

Imports go down only (`tests/test_layers.py`), so it climbs where a contract leads to a plugin, and nowhere else.
"""

from __future__ import annotations

import functools
import inspect
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import stkit.cli
from stkit.plugins import load_plugins
from stkit.weights import Weights
from tests.test_layers import ALLOWED, room

ROOT = Path(__file__).parent.parent
MOST = 7

CLIMBS = {
    ("photo", "FacesDomain.locate"),
    ("editor", "FacesDomain.transform"),
    ("models", "StyleGAN2Architecture.config"),
    ("models", "StyleGAN2Architecture.build"),
    ("editor", "StyleTransformerInverter.invert"),
    ("editor", "InterFaceGAN.attributes"),
    ("editor", "InterFaceGAN.edit"),
}
"""(room, what it calls in a room above it) on the way to the picture."""

FOR_THE_REPORT = {("editor", "InterFaceGAN.files"), ("contracts", "InterFaceGAN.attributes")}
"""Beside the way: what the result was made with, and a method that looks its own attribute up."""


@functools.cache
def place(file: str) -> str | None:
    """The room of a file, None for libraries."""
    path = Path(file)
    for source in (ROOT, ROOT / "plugins"):
        if path.is_relative_to(source / "stkit") or (source != ROOT and path.is_relative_to(source)):
            return room(".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"))
    return None


@functools.cache
def below(name: str) -> set[str]:
    """The rooms below a room, directly or by others."""
    return ALLOWED[name].union(*(below(other) for other in ALLOWED[name]))


def name_of(frame: FrameType) -> str:
    owner = frame.f_locals.get("self")
    return f"{type(owner).__name__}.{frame.f_code.co_name}" if owner is not None else frame.f_code.co_name


def test_the_walk_of_edit_climbs_where_contracts_lead_to_plugins(
    equipped_weights: Weights, portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_plugins()
    climbs: set[tuple[str, str]] = set()
    calls = 0

    def trace(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        back = frame.f_back
        # Functions in functions go on with what the walk has passed; modules are imported, not called.
        if event != "call" or back is None or frame.f_code.co_flags & inspect.CO_NESTED or "<" in frame.f_code.co_name:
            return
        here, there = place(frame.f_code.co_filename), place(back.f_code.co_filename)
        if here is None or there is None or here == there or back.f_code.co_name == "<module>":
            return
        calls += 1
        if there in below(here):
            climbs.add((there, name_of(frame)))

    monkeypatch.setattr(sys, "argv", ["stkit", "edit", str(portrait), "--edit", "smile=2", "--weights",
                                      str(equipped_weights.folder), "--out", str(tmp_path / "out")])  # fmt: skip
    sys.setprofile(trace)
    try:
        with pytest.raises(SystemExit) as end:
            stkit.cli.main()
    finally:
        sys.setprofile(None)
    assert not end.value.code
    assert calls > 100
    assert climbs == CLIMBS | FOR_THE_REPORT
    assert len(CLIMBS) <= MOST
