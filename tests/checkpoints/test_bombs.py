"""Kilobytes that ask for hours or terabytes end in one line, in about a second."""

from __future__ import annotations

from pathlib import Path

from tests.bombs import PICKLES, as_pickle, measured


def test_pickles_that_grow_when_read(tmp_path: Path) -> None:
    paths = []
    for name, body in PICKLES.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(as_pickle(body()))
    for name, took in measured("stkit.checkpoints.recognise:open_checkpoint", paths).items():
        assert took["error"] == "StkitError", (name, took)
        assert "\n" not in took["text"] and len(took["text"]) < 700, (name, took)
        assert took["seconds"] < 5 and took["MB"] < 1000, (name, took)
