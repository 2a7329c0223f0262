"""Moving pictures out: GIF by Pillow, MP4 by PyAV (the extra `video`), one strip, or a folder of PNG files."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stkit.errors import MissingPackageError, OutputError, UsageError, reason_of
from stkit.files import atomic_path
from stkit.jobs.colours import Colours, frame_of, tag_stream
from stkit.photo.hdr import BT709
from stkit.photo.images import image_grid, save_image

_VIDEOS = (".mp4", ".mov", ".mkv", ".m4v")
_PLAIN = Colours(BT709, BT709, BT709, 1, 8)


def import_av() -> Any:
    """PyAV. Raises MissingPackageError."""
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise MissingPackageError(f"video needs PyAV ({error}); run `pip install 'stkit[video]'`") from error


def write_frames(frames: Iterable[Image.Image], path: Path, rate: float) -> None:
    """Write RGB frames of one size: GIF, video (H.264), a strip (PNG, JPEG), or, without suffix, a folder of PNG files.

    `rate` is frames a second; GIF knows hundredths of a second. A file is complete or not there. Raises UsageError for
    another suffix, MissingPackageError for a video without PyAV, OutputError.
    """
    suffix = path.suffix.lower()
    if suffix == ".gif":
        _write_gif(frames, path, rate)
    elif suffix in _VIDEOS:
        _write_video(frames, path, rate)
    elif suffix in (".png", ".jpg", ".jpeg"):
        pictures = list(frames)
        save_image(image_grid(pictures, len(pictures)), path)
    elif not suffix:
        for number, frame in enumerate(frames):
            save_image(frame, path / f"{number:05}.png")
    else:
        raise UsageError(f"cannot write frames to '{path}'; end the name in .gif, .mp4 or .png, or name a folder")


def _write_gif(frames: Iterable[Image.Image], path: Path, rate: float) -> None:
    # One palette a frame: a common one shows bands in faces.
    pictures = [frame.convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames]
    duration = max(20, round(100 / rate) * 10)  # browsers slow down what is faster
    with atomic_path(path) as temporary:
        pictures[0].save(temporary, save_all=True, append_images=pictures[1:], duration=duration, loop=0)


def _write_video(frames: Iterable[Image.Image], path: Path, rate: float) -> None:
    av = import_av()
    with atomic_path(path) as temporary:
        try:
            with av.open(str(temporary), "w") as container:
                stream: Any = None
                for frame in frames:
                    if stream is None:
                        stream = add_video_stream(container, Fraction(rate).limit_denominator(1001), frame.size)
                        tag_stream(stream, _PLAIN)
                    container.mux(stream.encode(frame_of(np.asarray(frame), stream.pix_fmt, _PLAIN)))
                if stream is not None:
                    container.mux(stream.encode(None))
        except av.error.FFmpegError as error:
            raise OutputError(
                f"cannot write {path}: {reason_of(error)}; write a .gif or a folder of pictures"
            ) from error


def add_video_stream(container: Any, rate: Fraction, size: tuple[int, int]) -> Any:
    """An H.264 stream (MPEG-4 where PyAV has no encoder for it) that loses nothing the eye sees; `size` in pixels."""
    av = import_av()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    stream = container.add_stream(codec, rate=rate)
    stream.width, stream.height = size
    even = not (size[0] % 2 or size[1] % 2)
    stream.pix_fmt = "yuv420p" if even or codec != "libx264" else "yuv444p"
    if codec == "libx264":
        stream.options = {"crf": "16", "preset": "medium"}
    else:
        stream.bit_rate = 8_000_000
    return stream


__all__ = ["add_video_stream", "import_av", "write_frames"]
