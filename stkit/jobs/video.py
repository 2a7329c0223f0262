"""Videos: every frame's face edited and put back; landmarks and codes smoothed over time, the sound copied.

The clip is read three times: to locate, to invert, and to write. Of a frame nothing is kept in memory but its landmarks
and its codes. Frames without a face go through unedited.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from stkit.contracts.domains import Subject
from stkit.editor.editor import Editor
from stkit.editor.steps import EditStep
from stkit.errors import OutputError, PhotoError, SubjectError, UsageError, reason_of
from stkit.files import atomic_path, require_file
from stkit.jobs.animation import add_video_stream, import_av
from stkit.jobs.colours import Colours, colours_of, frame_of, picture_of, require_known, tag_stream
from stkit.latents.latents import Latents, Provenance
from stkit.photo.alignment import frame_photo
from stkit.photo.images import to_tensor
from stkit.photo.metadata import SOURCE_TYPE, creator, mark_video
from stkit.photo.paste import Blend, paste_back

_EDITED_TOGETHER = 64  # frames
_KEPT_STREAMS = ("video", "audio")
_KEPT_TAGS = ("title", "artist", "album", "comment", "description", "copyright", "genre", "date", "creation_time")

logger = logging.getLogger("stkit")

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and how many frames of how many are done (0 when nobody knows)."""


@dataclass(frozen=True)
class VideoEdit:
    """How to edit a video; `smooth` is the standard deviation of the smoothing over time, in seconds.

    With `mark` the file says that it was edited: in XMP, in Matroska by tags of the same names.
    """

    steps: Sequence[EditStep]
    references: Latents | None = None
    seed: int = 0
    blend: Blend = "auto"
    smooth: float = 0.08
    inverter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    mark: bool = True


@dataclass(frozen=True)
class VideoReport:
    """What became of a video: frames in all, those edited, those that went through because no face was found."""

    frames: int
    edited: int
    without_subject: int


def edit_video(
    editor: Editor, source: Path, out: Path, edit: VideoEdit, batch_size: int = 8, progress: Progress | None = None
) -> VideoReport:
    """Edit the video at `source` into `out` (.mp4, .mov, .mkv): same frames, times and sound, H.264.

    In each frame the subject that continues the last frame's is taken, the largest one at the start. Needs PyAV.
    Raises MissingPackageError, PhotoError for what is no video, SubjectError when no frame shows a subject, OutputError
    when `out` cannot be written, UsageError.
    """
    tell = progress or (lambda step, done, total: None)
    inverter = editor.registry.inverter_for(editor.weights, edit.inverter)
    if inverter.tunes:
        raise UsageError(
            f"{inverter.name} tunes a generator for each batch, which no video keeps; choose another inverter"
        )
    edit = replace(edit, inverter=inverter.name)
    with _opened(source) as container:
        colours = colours_of(container.streams.video[0])
        lost = sorted({stream.type for stream in container.streams if stream.type not in _KEPT_STREAMS})
        lost += ["transparency"] if _is_transparent(container.streams.video[0]) else []
        interlaced = any(frame.interlaced_frame for frame in itertools.islice(_frames(container, source), 1))
    require_known(colours, source.name)
    if lost:
        logger.info("left out of the edited %s: %s", source.name, " and ".join(lost))
    if colours.hdr:
        logger.warning("%s is HDR; the edit is written as SDR, in 8 bits of BT.709", source.name)
    elif colours.bits > 8:
        logger.info("%s has %d bits a channel; the edit is written with 8", source.name, colours.bits)
    if interlaced:
        logger.warning(
            "%s is interlaced; the edit is written as whole frames, which show combs where something moves; "
            "deinterlace it first (ffmpeg -i %s -vf bwdif OUT.mp4)",
            source.name,
            source.name,
        )
    tracked = _track(_locate(editor, source, tell))
    segments = _segments(tracked)
    if not segments:
        raise SubjectError(f"no {editor.domain.noun} found in any of the {len(tracked)} frames of {source}")
    sigma = edit.smooth * _rate(source)
    transforms = _transforms(editor, tracked, segments, sigma)
    codes = _invert(editor, source, transforms, edit, batch_size, tell)
    for segment in segments:
        rows = list(segment)
        smoothed = _smooth(np.stack([codes[row].numpy() for row in rows]), sigma)
        codes.update(zip(rows, torch.from_numpy(smoothed), strict=True))
    edited = _edit(editor, codes, edit)

    def draw(index: int, image: Image.Image) -> Image.Image:
        if index in transforms:
            before, after = editor.before_after(edited[index])
            image = paste_back(image, transforms[index], before[0], after[0], editor.domain.output_crop, edit.blend)
        tell("writing", index + 1, len(tracked))
        return image

    _write(source, out, draw, edit.mark)
    return VideoReport(len(tracked), len(transforms), len(tracked) - len(transforms))


def _is_transparent(stream: Any) -> bool:
    """Whether a stream says so; of WebM's the decoder does not know."""
    known = stream.codec_context.format
    parts = known.components if known else ()
    return stream.metadata.get("alpha_mode") == "1" or any(part.is_alpha for part in parts)


def _locate(editor: Editor, source: Path, tell: Progress) -> Iterator[list[Subject]]:
    """The subjects of each frame, found in threads."""
    workers = min(os.cpu_count() or 1, 8)
    waiting: deque[Future[list[Subject]]] = deque()
    done = 0
    with ThreadPoolExecutor(workers) as pool, _opened(source) as container:
        stream = container.streams.video[0]
        colours = colours_of(stream)
        frames = (_upright(frame, colours) for frame in _frames(container, source))
        while True:
            for image in itertools.islice(frames, 2 * workers - len(waiting)):
                waiting.append(pool.submit(editor.domain.locate_quickly, image))
            if not waiting:
                return
            yield waiting.popleft().result()
            done += 1
            tell("locating", done, stream.frames)


def _track(located: Iterator[list[Subject]]) -> list[Subject | None]:
    """One subject a frame: the one that overlaps most with the last frame's, the largest where there is no such."""
    tracked: list[Subject | None] = []
    last: Subject | None = None
    for subjects in located:
        subject = None
        if subjects:
            follower = max(subjects, key=lambda one: _overlap(one, last))
            subject = follower if _overlap(follower, last) > 0 else subjects[0]
        tracked.append(subject)
        last = subject or last
    return tracked


def _overlap(subject: Subject, last: Subject | None) -> float:
    """Intersection over union of the boxes."""
    if last is None:
        return 0.0
    (a, b, c, d), (e, f, g, h) = subject.box, last.box
    shared = max(0.0, min(c, g) - max(a, e)) * max(0.0, min(d, h) - max(b, f))
    return shared / max(subject.area + last.area - shared, 1e-9)


def _segments(tracked: Sequence[Subject | None]) -> list[range]:
    """Runs of frames that show one subject; a cut or a frame without it ends a run."""
    segments: list[range] = []
    for index, subject in enumerate(tracked):
        if subject is None:
            continue
        last = segments[-1] if segments else None
        if last is not None and last.stop == index and _overlap(subject, tracked[index - 1]) > 0.3:
            segments[-1] = range(last.start, index + 1)
        else:
            segments.append(range(index, index + 1))
    return segments


def _transforms(
    editor: Editor, tracked: Sequence[Subject | None], segments: Sequence[range], sigma: float
) -> dict[int, np.ndarray]:
    """Crop-to-frame matrix [2, 3] by frame, of landmarks smoothed over time."""
    transforms = {}
    for segment in segments:
        subjects = [subject for subject in (tracked[index] for index in segment) if subject is not None]
        landmarks = _smooth(np.stack([subject.landmarks for subject in subjects]), sigma)
        for index, subject, points in zip(segment, subjects, landmarks, strict=True):
            steady = Subject(subject.box, points, subject.score)
            matrix = editor.domain.transform(steady, editor.weights.alignment, editor.weights.resolution)
            transforms[index] = matrix
    return transforms


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian means of `values` [T, ...] over the first axis; near the ends of those that are there."""
    if sigma <= 0 or len(values) == 1:
        return values
    reach = int(np.ceil(3 * sigma))
    result = np.empty_like(values)
    for index in range(len(values)):
        window = slice(max(0, index - reach), index + reach + 1)
        near = values[window]
        weights = np.exp(-0.5 * ((np.arange(window.start, window.start + len(near)) - index) / sigma) ** 2)
        result[index] = np.tensordot(weights / weights.sum(), near, 1)
    return result


def _invert(
    editor: Editor,
    source: Path,
    transforms: Mapping[int, np.ndarray],
    edit: VideoEdit,
    batch_size: int,
    tell: Progress,
) -> dict[int, torch.Tensor]:
    """Codes by frame."""
    codes: dict[int, torch.Tensor] = {}
    with _opened(source) as container:
        colours = colours_of(container.streams.video[0])
        frames = ((index, frame) for index, frame in enumerate(_frames(container, source)) if index in transforms)
        while batch := list(itertools.islice(frames, batch_size)):
            size, output_crop = editor.weights.resolution, editor.domain.output_crop
            crops = [
                frame_photo(_upright(frame, colours), transforms[index], size, output_crop) for index, frame in batch
            ]
            latents = editor.invert_crops(torch.cat([to_tensor(crop) for crop in crops]), edit.inverter, edit.options)
            codes.update(zip((index for index, _ in batch), latents.codes.cpu(), strict=True))
            tell("inverting", len(codes), len(transforms))
    return codes


def _edit(editor: Editor, codes: Mapping[int, torch.Tensor], edit: VideoEdit) -> dict[int, Latents]:
    """Edited codes by frame."""
    edited = {}
    indices = sorted(codes)
    for start in range(0, len(indices), _EDITED_TOGETHER):
        chunk = indices[start : start + _EDITED_TOGETHER]
        rows = (Provenance(inverter=edit.inverter),) * len(chunk)
        latents = Latents(torch.stack([codes[index] for index in chunk]), editor.weights.space, provenance=rows)
        latents = editor.apply(latents, edit.steps, edit.references, edit.seed)
        edited.update({index: latents.row(row) for row, index in enumerate(chunk)})
    return edited


def _write(source: Path, out: Path, draw: Callable[[int, Image.Image], Image.Image], mark: bool) -> None:
    """The video with its frames as `draw` makes them of their number and picture. Raises OutputError."""
    av = import_av()
    with _opened(source) as container:
        first = next(_frames(container, source))
    with atomic_path(out) as temporary, _opened(source) as container:
        try:
            with av.open(str(temporary), "w") as output:
                output.metadata.update({k: v for k, v in container.metadata.items() if k.lower() in _KEPT_TAGS})
                if mark and out.suffix.lower() == ".mkv":
                    output.metadata.update(CreatorTool=creator(), DigitalSourceType=SOURCE_TYPE)
                _transcode(container, output, first, draw)
            if mark and out.suffix.lower() != ".mkv":
                mark_video(temporary)
        except av.error.FFmpegError as error:
            raise OutputError(f"cannot write {out}: {reason_of(error)}; try a name that ends in .mkv") from error


def _transcode(container: Any, output: Any, first: Any, draw: Callable[[int, Image.Image], Image.Image]) -> None:
    """Copy the sound's packets and encode the frames, each at its own time."""
    video = container.streams.video[0]
    colours = colours_of(video)
    matrix, span = (colours.matrix, colours.range) if colours.hdr else (int(first.colorspace), int(first.color_range))
    written = replace(colours, matrix=matrix, range=span).written()
    stream = add_video_stream(output, video.average_rate, _upright(first, colours).size)
    stream.codec_context.time_base = video.time_base
    if aspect := video.sample_aspect_ratio:
        stream.codec_context.sample_aspect_ratio = 1 / aspect if _quarter_turns(first) % 2 else aspect
    tag_stream(stream, written)
    sounds = {sound.index: output.add_stream_from_template(sound) for sound in container.streams.audio}
    for sound in container.streams.audio:
        sounds[sound.index].metadata.update(sound.metadata)
    index = 0
    for packet in container.demux(video, *container.streams.audio):
        if packet.stream.index in sounds:
            if packet.dts is not None:
                packet.stream = sounds[packet.stream.index]
                output.mux(packet)
            continue
        for frame in packet.decode():
            image = draw(index, _upright(frame, colours))
            output.mux(stream.encode(_like(image, frame, stream.pix_fmt, written)))
            index += 1
    output.mux(stream.encode(None))


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[Any]:
    av = import_av()
    try:
        require_file(source)
        container = av.open(str(source))
    except (av.error.FFmpegError, OSError) as error:
        raise PhotoError(f"cannot read {source} as a video: {reason_of(error)}; copy or convert it again") from error
    with container:
        if not container.streams.video:
            raise PhotoError(f"{source} has no video in it; name another file")
        yield container


def _frames(container: Any, source: Path) -> Iterator[Any]:
    count = 0
    try:
        for frame in container.decode(video=0):
            yield frame
            count += 1
    except import_av().error.FFmpegError as error:
        raise PhotoError(
            f"{source} is damaged after frame {count} ({reason_of(error)}); copy or convert it again"
        ) from error


def _upright(frame: Any, colours: Colours) -> Image.Image:
    """A frame as an RGB picture, turned as players turn it; HDR brought down to what a picture can show."""
    image = Image.fromarray(picture_of(frame, colours))
    turns = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    turn = turns[_quarter_turns(frame)]
    return image if turn is None else image.transpose(turn)


def _quarter_turns(frame: Any) -> int:
    """Counterclockwise, as players turn it."""
    return round(frame.rotation / 90) % 4


def _like(image: Image.Image, frame: Any, pix_fmt: str, written: Colours) -> Any:
    """`image` as a frame with the time of `frame`, in the colours that are written."""
    new = frame_of(np.asarray(image), pix_fmt, written)
    new.pts, new.time_base = frame.pts, frame.time_base
    return new


def _rate(source: Path) -> float:
    with _opened(source) as container:
        return float(container.streams.video[0].average_rate or 25)


__all__ = ["VideoEdit", "VideoReport", "edit_video"]
