"""What can be asked for: photos, folders, ZIP archives, latents or a video to invert or to edit, and how.

One photo is a folder of one. `stkit.run` does what is asked, and `stkit invert` and `stkit edit` make these of their
flags: fields and flags are called alike and mean the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stkit.errors import UsageError
from stkit.options import comma_list, edit_strength
from stkit.remote import as_path

if TYPE_CHECKING:
    from stkit.editor.steps import EditStep


@dataclass(frozen=True, kw_only=True)
class Spreading:
    """How photos are spread over processes and machines by an `engine`; see `stkit.contracts.engines.Spread`."""

    engine: str | None = None
    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        if self.engine is None and (self.address or self.workers or self.gpus_per_worker):
            raise UsageError("--address, --workers and --gpus-per-worker are for an --engine; give --engine ray")


@dataclass(frozen=True)
class Request(Spreading):
    """What inverting and editing share.

    `sources` are photos, folders, patterns like "*.jpg", archives, lists of photos, URLs, or latent files.
    `weights` (name or folder) are by default those of `domain`, and `domain` is by default what the weights are
    for, else faces. `options` are the inverter's, or the editing method's in an `EditRequest`. `refine` names
    refinements ("optimize:100") in the place of those of `quality`, which is by default "fast", or for edits what
    the weights' inverter needs (`stkit.editor.refinement.edit_quality`). `face` is "largest", "all", a number, or
    for one photo a place "x,y"; `landmarks` (a JSON file) and `box` ("x,y,w,h") say in one photo where the subject
    is. What is there already with other content is kept unless `overwrite`. Of many photos `batch_size` go through
    together, and `sheet` puts them on contact sheets. An `engine` spreads them over processes and machines: see
    `stkit.contracts.engines.Spread` for `address`, `workers` and `gpus_per_worker`.
    """

    sources: str | Path | Sequence[str | Path]
    out: Path | None = None
    domain: str | None = None
    weights: str | None = None
    inverter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    quality: str | None = None
    refine: Sequence[str] = ()
    face: str = "largest"
    landmarks: Path | None = None
    box: str | None = None
    overwrite: bool = False
    device: str = "auto"
    batch_size: int = 8
    sheet: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sources", tuple(self.names))
        object.__setattr__(self, "face", str(self.face))
        if self.face.isdecimal() and int(self.face) == 0:
            raise UsageError(f"--face {self.face}: subjects are numbered from 1")
        for name in ("out", "landmarks"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_path(getattr(self, name)))
        if not self.sources:
            raise UsageError("there is nothing to work on; name a photo or a folder")
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size} is none; give 1 or more")

    @property
    def names(self) -> list[str]:
        """The sources as text."""
        sources = [self.sources] if isinstance(self.sources, (str, Path)) else self.sources
        return [os.fspath(source) for source in sources]


@dataclass(frozen=True)
class InvertRequest(Request):
    """Invert the subjects of photos into OUT/PHOTO/ (out/PHOTO/ by default).

    `latents` says how the codes of a folder are kept: "each" photo's in a file, or all in "one". With `format`
    "parquet" codes and measures alone are kept, a thousand photos in a file (`stkit.latents.table`).
    """

    latents: Literal["each", "one"] = "each"
    format: Literal["folder", "parquet"] = "folder"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format not in ("folder", "parquet"):
            raise UsageError(f"format '{self.format}' is not folder or parquet")
        if self.format == "parquet" and (self.sheet or self.latents == "one"):
            raise UsageError("--format parquet has codes alone; leave out --sheet and --latents")
        if self.latents not in ("each", "one"):
            raise UsageError(f"latents '{self.latents}' is not each or one")


@dataclass(frozen=True)
class EditRequest(Request):
    """Edit photos, latents that stand for their photos, or a video.

    Either one `method` with its `attribute`, `strength` (1 by default) and `options`, or `edits` in order, like
    "age=+1.5" and "ganspace:pc3=-2". `ref` are reference photos or latent files, `layers` is like "4-7". One photo may
    be edited by the strengths of a `sweep`, "FIRST:LAST:COUNT", on a strip, with `animate` as a GIF too. `blend`,
    "auto", "residual", "replace" or "poisson", says how an edit gets into its photo; `crop_only` leaves it out. With
    `mark` the file's metadata say that it was edited. `smooth` is of a video, over time, in seconds. Results go to
    OUT/PHOTO/, out/PHOTO/ by default; those of one photo's latents to OUT, by default to where the latents are.
    """

    method: str | None = None
    attribute: str | None = None
    strength: float | None = None
    edits: Sequence[str | EditStep] = ()
    sweep: str | None = None
    animate: bool = False
    ref: Sequence[str | Path] = ()
    layers: str | None = None
    blend: str = "auto"
    crop_only: bool = False
    mark: bool = True
    seed: int = 0
    smooth: float = 0.08


@dataclass(frozen=True, kw_only=True)
class LabelledRequest(Spreading):
    """What fits to labelled codes share; see `stkit.jobs.labelled.labelled_rows` and `two_classes`.

    The codes are those of labelled photos (`labels`, `images`), or of `samples` of the generator, which one `scorer`
    labels, or several with commas between. `name` is what the result is called, by default like its attribute; it lies
    in `out`, by default the folder of the user's own directions, and takes the place of another with `replace`.
    """

    labels: Path | None = None
    images: Path | None = None
    samples: int | None = None
    scorer: str | None = None
    name: str | None = None
    share: float = 0.25
    aligned: bool = False
    limit: int | None = None
    domain: str | None = None
    weights: str | None = None
    inverter: str | None = None
    out: Path | None = None
    replace: bool = False
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        photos, samples = (self.labels, self.images), (self.samples, self.scorer)
        if sorted(sum(part is not None for part in pair) for pair in (photos, samples)) != [0, 2]:
            raise UsageError("give --labels and --images, or --samples and --scorer")
        if self.engine and self.samples is not None:
            raise UsageError("--engine is for photos; samples are made on this machine")


@dataclass(frozen=True)
class EvaluateRequest(Spreading):
    """Compare inverters, and edits of what they give, on photos that no training saw, in a report.

    `data` is a folder or an archive of aligned images with a CSV of splits (`labels`, by default the one beside it).
    Every one of `weights` (names or folders, by default those of `domain`) is measured with every one of `inverters`
    (registered names, or like "optimize:100", "psp+optimize:50+pti" or a quality like "best"; by default the encoders
    that the weights have), by `metrics`, registered ones, or "all". `edits` are like "age=2": each goes to both sides,
    at half and at full strength. All four are lists, or texts with commas. `options` are like {"optimize.steps": 50},
    of inverters and metrics by name. `limit` measures so many photos, chosen by `seed`; without `costs` no time and
    memory are measured.
    The report, and what it was made of, is in `out`; started again, the same request goes on where it was.
    """

    data: Path
    out: Path = Path("report")
    domain: str | None = None
    weights: Sequence[str] = ()
    inverters: Sequence[str] = ()
    edits: Sequence[str] = ()
    metrics: Sequence[str] = ("all",)
    options: Mapping[str, Any] = field(default_factory=dict)
    split: str = "test"
    labels: Path | None = None
    limit: int | None = None
    seed: int = 0
    costs: bool = True
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("weights", "inverters", "edits", "metrics"):
            given = getattr(self, name)
            texts = [given] if isinstance(given, str) else given
            object.__setattr__(self, name, tuple(part for text in texts for part in comma_list(text)))
        for text in self.edits:
            edit_strength(text, "--edits")


@dataclass(frozen=True)
class QuickRequest:
    """Measure reconstructions of held-out images, beside the mean training image in their place.

    `data` is a folder or an archive of aligned images with a CSV of splits (`labels`, by default the one beside it);
    without a CSV every 25th image is held out, as in training. `metrics` are registered ones to compute as well, and
    `options` those of the only one. `identity` adds the cosine of identity embeddings, `frechet` the distances of
    that many samples. `grid` is a picture to write, and `calibrate` notes the usual errors in the weights.
    """

    data: Path
    domain: str | None = None
    weights: str | None = None
    split: str = "test"
    labels: Path | None = None
    metrics: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: bool = True
    frechet: int = 0
    grid: Path | None = None
    calibrate: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.options and len(self.metrics) != 1:
            raise UsageError("options are those of one metric; name just one")


__all__ = ["EditRequest", "EvaluateRequest", "InvertRequest", "LabelledRequest", "QuickRequest", "Request", "Spreading"]
