"""Videos: a short real clip, edited; frames, times and sound stay."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from stkit.contracts.domains import Subject
from stkit.editor.editor import Editor
from stkit.editor.steps import EditStep
from stkit.errors import MissingPackageError, PhotoError, SubjectError
from stkit.jobs.video import VideoEdit, _segments, _smooth, edit_video
from stkit.plugins import load_plugins
from stkit.weights import Weights

RATE = Fraction(24000, 1001)
BLANK = (3, 4)


@pytest.fixture
def editor(tiny_weights: Weights) -> Editor:
    return Editor(tiny_weights, load_plugins(), torch.device("cpu"))


def make_clip(path: Path, portrait: Path, frames: int = 7, rotation: int = 0) -> Path:
    """A face that moves, two frames without it, and a sound; `rotation` as phones note it."""
    with Image.open(portrait) as image:
        photo = image.convert("RGB").resize((220, 258))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE)
        video.width, video.height = photo.size if rotation % 180 == 0 else photo.size[::-1]
        video.pix_fmt, video.options = "yuv420p", {"crf": "10"}
        if rotation:
            video.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=44100)
        for number in range(frames):
            moved = photo.transform(photo.size, Image.Transform.AFFINE, (1, 0, 2 * number, 0, 1, number))
            frame = Image.new("RGB", photo.size, "navy") if number in BLANK else moved
            container.mux(video.encode(av.VideoFrame.from_image(frame.rotate(-rotation, expand=True))))
        container.mux(video.encode(None))
        tone = np.sin(np.arange(12000) * 0.06).astype(np.float32)[None]
        audio = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        audio.sample_rate, audio.pts = 44100, 0
        container.mux(sound.encode(audio))
        container.mux(sound.encode(None))
    return path


def frames_of(path: Path) -> tuple[list[Fraction], list[np.ndarray], Fraction]:
    container: Any
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(video=0))
        times = [frame.pts * frame.time_base for frame in frames]
        return times, [frame.to_ndarray(format="rgb24").astype(float) for frame in frames], stream.average_rate


def sound_of(path: Path) -> bytes:
    with av.open(str(path)) as container:
        return b"".join(bytes(packet) for packet in container.demux(audio=0))


def test_a_clip_keeps_frames_times_and_sound(editor: Editor, portrait: Path, tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "clip.mp4", portrait), tmp_path / "edited" / "clip.mp4"
    told = []
    edit = VideoEdit([EditStep("ganspace", "pc1", 20.0)])
    report = edit_video(editor, clip, out, edit, 4, lambda step, done, total: told.append(step))
    assert (report.frames, report.edited, report.without_subject) == (7, 5, 2)
    assert told == ["locating"] * 7 + ["inverting"] * 2 + ["writing"] * 7
    times, pictures, rate = frames_of(clip)
    new_times, new_pictures, new_rate = frames_of(out)
    assert new_times == times and new_rate == rate == RATE
    assert sound_of(out) == sound_of(clip)
    for number, (old, new) in enumerate(zip(pictures, new_pictures, strict=True)):
        change = np.abs(old - new)
        if number in BLANK:
            assert change.max() <= 4  # a codec's rounding
        else:
            assert change[60:130, 80:140].mean() > 5  # the face
            assert change[-40:].mean() < 3


def test_a_turned_clip_comes_out_upright(editor: Editor, portrait: Path, tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "phone.mp4", portrait, 2, rotation=90), tmp_path / "upright.mp4"
    report = edit_video(editor, clip, out, VideoEdit([EditStep("ganspace", "pc1", 0.0)]))
    assert report.edited == 2
    assert frames_of(clip)[1][0].shape == (220, 258, 3)
    with Image.open(portrait) as image:
        photo = np.asarray(image.convert("RGB").resize((220, 258)), float)
    assert np.abs(frames_of(out)[1][0] - photo).mean() < 6


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_clip_says_that_it_was_edited(editor: Editor, portrait: Path, tmp_path: Path, suffix: str) -> None:
    clip, marked, plain = make_clip(tmp_path / "a.mp4", portrait, 2), tmp_path / f"b{suffix}", tmp_path / f"c{suffix}"
    for out in (marked, plain):
        edit_video(editor, clip, out, VideoEdit([EditStep("ganspace", "pc1", 0.0)], mark=out is marked))
    claim = b"compositeWithTrainedAlgorithmicMedia"
    assert claim in marked.read_bytes() and claim not in plain.read_bytes()
    assert b"CreatorTool" in marked.read_bytes() or b"CREATORTOOL" in marked.read_bytes()
    assert len(frames_of(marked)[0]) == 2 and sound_of(marked) == sound_of(clip)
    if suffix != ".mkv":
        data, place = marked.read_bytes(), 0
        while place < len(data):  # boxes fill the file exactly
            place += struct.unpack_from(">I", data, place)[0] or len(data)
        assert place == len(data)


def test_what_cannot_be_edited(editor: Editor, portrait: Path, tmp_path: Path) -> None:
    edit = VideoEdit([EditStep("ganspace", "pc1")])
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(PhotoError, match=r"text\.mp4 as a video"):
        edit_video(editor, tmp_path / "text.mp4", tmp_path / "out.mp4", edit)
    with av.open(str(tmp_path / "blank.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        container.mux(video.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 64), "navy"))))
        container.mux(video.encode(None))
    with pytest.raises(SubjectError, match="no face found in any of the 1 frames"):
        edit_video(editor, tmp_path / "blank.mp4", tmp_path / "out.mp4", edit)
    assert not (tmp_path / "out.mp4").exists()


def test_without_pyav(editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'stkit\[video\]'"):
        edit_video(editor, tmp_path / "x.mp4", tmp_path / "out.mp4", VideoEdit([]))


def test_smoothing_takes_jitter_and_keeps_motion() -> None:
    line = np.arange(60, dtype=float)[:, None] * [1.0, -2.0]
    assert np.allclose(_smooth(line, 2.0)[6:-6], line[6:-6])
    noise = np.random.default_rng(0).normal(size=(400, 3))
    assert _smooth(noise, 2.0).std() < 0.5 * noise.std()
    assert _smooth(noise, 0.0) is noise


def test_cuts_and_gaps_end_a_segment() -> None:
    def at(x: float) -> Subject:
        return Subject((x, 0.0, x + 100.0, 100.0), np.zeros((68, 2)), 1.0)

    assert _segments([at(0), at(5), None, at(5), at(300), at(302)]) == [range(0, 2), range(3, 4), range(4, 6)]
    assert _segments([None, None]) == []
