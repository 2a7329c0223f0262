"""Colours of videos: tags are kept, and HDR is brought down to BT.709 and said, never washed out."""

from __future__ import annotations

import logging
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from stkit.editor.editor import Editor
from stkit.editor.steps import EditStep
from stkit.jobs.colours import HLG, PQ, colours_of, to_sdr
from stkit.jobs.video import VideoEdit, edit_video
from stkit.plugins import load_plugins
from stkit.weights import Weights


@pytest.mark.parametrize(("transfer", "white"), [(PQ, 0.5807), (HLG, 0.75)])
def test_graphics_white_is_nearly_white_and_grey_stays_grey(transfer: int, white: float) -> None:
    """BT.2408: 203 cd/m2 is at 58% of PQ and 75% of HLG; the curve above 70% of it takes it to 89%."""
    codes = np.rint(np.array([0, white / 2, white, 1]) * 65535).astype(np.uint16)
    shown = to_sdr(np.repeat(codes[None, :, None], 3, 2), transfer)
    assert np.ptp(shown.astype(int), axis=-1).max() <= 1
    assert shown[0, 0, 0] == 0 and shown[0, 2, 0] == pytest.approx(255 * 0.89 ** (1 / 2.4), abs=2)
    assert 20 < shown[0, 1, 0] < shown[0, 2, 0] < shown[0, 3, 0]


def make_clip(path: Path, portrait: Path, pix_fmt: str, matrix: int, primaries: int, transfer: int) -> None:
    picture = Image.open(portrait).convert("RGB").resize((160, 188))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *picture.size, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = (
            matrix, primaries, transfer, 1,
        )  # fmt: skip
        for _ in range(2):
            frame = av.VideoFrame.from_image(picture)
            output.mux(stream.encode(frame.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=1)))
        output.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("pix_fmt", "tags", "written", "said"),
    [
        ("yuv420p", (1, 1, 1), (1, 1, 1), ""),
        ("yuv420p", (5, 6, 6), (5, 6, 6), ""),
        ("yuv420p10le", (9, 9, 14), (9, 9, 14), "10 bits a channel; the edit is written with 8"),
        ("yuv420p10le", (9, 9, PQ), (1, 1, 1), "is HDR; the edit is written as SDR"),
        ("yuv420p10le", (9, 9, HLG), (1, 1, 1), "is HDR; the edit is written as SDR"),
    ],
)
def test_tags(
    pix_fmt: str, tags: tuple[int, int, int], written: tuple[int, int, int], said: str, tiny_weights: Weights,
    portrait: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, "stkit")
    make_clip(tmp_path / "a.mp4", portrait, pix_fmt, *tags)
    editor = Editor(tiny_weights, load_plugins(), torch.device("cpu"))
    edit_video(editor, tmp_path / "a.mp4", tmp_path / "b.mp4", VideoEdit([EditStep("ganspace", "pc1", 0.0)]))
    with av.open(str(tmp_path / "b.mp4")) as container:
        found = colours_of(container.streams.video[0])
    assert (found.matrix, found.primaries, found.transfer) == written
    assert (said in caplog.text) if said else ("written" not in caplog.text)
