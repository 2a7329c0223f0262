"""Colours of videos: tags are kept, and HDR is brought down to BT.709 and said, never washed out."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from stkit.editor.editor import Editor
from stkit.editor.steps import EditStep
from stkit.errors import PhotoError
from stkit.jobs.colours import _codes_bt2020, colours_of
from stkit.jobs.video import VideoEdit, edit_video
from stkit.photo.hdr import HLG, PQ, to_sdr
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


WRITTEN_2020 = 9 if _codes_bt2020() else 1
needs_2020 = pytest.mark.skipif(WRITTEN_2020 == 1, reason="this PyAV makes no clip in BT.2020; 18 and later do")


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
        ("yuv420p10le", (9, 9, 14), (WRITTEN_2020, 9, 14), "10 bits a channel; the edit is written with 8"),
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


def edited(editor: Editor, path: Path) -> Path:
    """A clip after an edit that changes nothing."""
    out = path.with_stem("edited")
    edit_video(editor, path, out, VideoEdit([EditStep("ganspace", "pc1", 0.0)]))
    return out


@pytest.fixture
def editor(tiny_weights: Weights) -> Editor:
    return Editor(tiny_weights, load_plugins(), torch.device("cpu"))


def border(path: Path) -> np.ndarray:
    """The mean colour of a clip far from the face, as players show it."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return np.asarray(frame.to_ndarray(format="rgb24", interpolation=4 | 0x2000 | 0x40000)[:, :12].mean((0, 1)))


BLUE = (40, 110, 200)


def make_framed(
    path: Path, portrait: Path, codec: str, pix_fmt: str, matrix: int, span: int, **settings: object
) -> None:
    """A clip of a portrait with a blue border."""
    picture = Image.new("RGB", (208, 188), BLUE)
    picture.paste(Image.open(portrait).convert("RGB").resize((160, 188)), (24, 0))
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *picture.size, pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, span
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        output.metadata["title"] = "Holiday"
        for _ in range(2):
            frame = av.VideoFrame.from_image(picture)
            output.mux(stream.encode(frame.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=span)))
        output.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "matrix", "span"),
    [
        ("rgb.mkv", "ffv1", "bgr0", 0, 2),
        ("rgb.mov", "png", "rgb24", 0, 2),
        ("full.mov", "mjpeg", "yuvj420p", 5, 2),
        ("plain.mp4", "libx264", "yuv420p", 2, 0),
        ("bt709.mp4", "libx264", "yuv420p", 1, 1),
        ("bt601.mkv", "libx264", "yuv444p", 6, 1),
        ("smpte240.mkv", "libx264", "yuv420p", 7, 1),
        pytest.param("bt2020.mp4", "libx264", "yuv420p10le", 9, 1, marks=needs_2020),
    ],
)
def test_what_is_not_edited_keeps_its_colour(
    name: str, codec: str, pix_fmt: str, matrix: int, span: int, editor: Editor, portrait: Path, tmp_path: Path
) -> None:
    make_framed(tmp_path / name, portrait, codec, pix_fmt, matrix, span)
    out = edited(editor, tmp_path / name)
    np.testing.assert_allclose(border(out), border(tmp_path / name), atol=2.5)  # chroma's steps are 2
    np.testing.assert_allclose(border(out), BLUE, atol=4)
    with av.open(str(out)) as container:
        written = colours_of(container.streams.video[0])
        assert container.metadata.get("title") == "Holiday"
    assert written.matrix == (1 if matrix == 0 else matrix)  # YUV that calls itself RGB is shown in false colours


def test_bt2020_becomes_bt709_where_pyav_cannot_write_it(
    editor: Editor, portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_framed(tmp_path / "bt2020.mp4", portrait, "libx264", "yuv420p10le", 9, 1)
    monkeypatch.setattr("stkit.jobs.colours._codes_bt2020", lambda: False)
    out = edited(editor, tmp_path / "bt2020.mp4")
    np.testing.assert_allclose(border(out), border(tmp_path / "bt2020.mp4"), atol=2.5)
    with av.open(str(out)) as container:
        assert colours_of(container.streams.video[0]).matrix == 1


def test_pixels_that_are_not_square_stay_so(editor: Editor, portrait: Path, tmp_path: Path) -> None:
    make_framed(
        tmp_path / "a.mp4", portrait, "libx264", "yuv420p", 1, 1, sample_aspect_ratio=Fraction(4, 3)
    )  # fmt: skip
    with av.open(str(edited(editor, tmp_path / "a.mp4"))) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_colours_that_nobody_here_reads_are_refused(editor: Editor, portrait: Path, tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", portrait, "yuv420p", 8, 1, 1)
    with pytest.raises(PhotoError, match="colours of a.mp4 are coded in a way"):
        edited(editor, tmp_path / "a.mp4")
    assert not (tmp_path / "edited.mp4").exists()


def pq(light: np.ndarray) -> np.ndarray:
    """Codes of ST 2084 by its formula, uint16; `light` in units of graphics white."""
    power = (light * 203 / 10_000) ** (2610 / 16384)
    code = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    return np.rint(code * 65535).astype(np.uint16)


@pytest.mark.parametrize("primaries", [9, 12])
def test_a_colour_within_bt709_is_the_same_in_hdr(primaries: int) -> None:
    """BT.709 light .5, .3, .1 in BT.2020 (BT.2087) and in Display P3."""
    want = np.array([0.5, 0.3, 0.1])
    matrix = {9: [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]],
              12: [[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]]}[primaries]  # fmt: skip
    shown = to_sdr(pq(np.array(matrix) @ want)[None, None], PQ, primaries)
    np.testing.assert_allclose(shown[0, 0], 255 * want ** (1 / 2.4), atol=1.5)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "more", "said"),
    [
        ("a.mov", "png", "rgba", {}, "left out of the edited a.mov: transparency"),
        ("a.webm", "libvpx-vp9", "yuva420p", {}, "left out of the edited a.webm: transparency"),
        ("a.mp4", "libx264", "yuv420p", {"options": {"x264-params": "tff=1"}}, "a.mp4 is interlaced; the edit is"),
    ],
)
def test_what_a_clip_loses_is_said(
    name: str, codec: str, pix_fmt: str, more: dict[str, object], said: str, editor: Editor, portrait: Path,
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, "stkit")
    make_framed(tmp_path / name, portrait, codec, pix_fmt, 0 if pix_fmt == "rgba" else 1, 2, **more)
    edit_video(editor, tmp_path / name, tmp_path / "b.mkv", VideoEdit([EditStep("ganspace", "pc1", 0.0)]))
    assert said in caplog.text
