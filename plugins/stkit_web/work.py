"""What a person works on: a photo, its subjects, their codes, the edits so far; and the pictures to show of it."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stkit.plugin import (
    EditContext,
    Place,
    StkitError,
    UsageError,
    ignore_latents,
    ignore_progress,
    image_grid,
    join_latents,
    refinements_of,
    to_tensor,
)

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from stkit import Edit, Editor, EditStep, Photo
    from stkit.plugin import Framed, Latents, Subject

Box = tuple[int, int, int, int]

LOOK, WHOLE = 640, 1280
"""Pixels of the longer side of a view: while a slider moves, and at rest."""


@dataclass(frozen=True)
class Knob:
    """A slider: an attribute of a method, `low` to `high` its safe range in units of strength."""

    method: str
    attribute: str | None
    description: str
    low: float
    high: float
    needs_reference: bool

    @property
    def key(self) -> str:
        """As `--edit` names it."""
        return f"{self.method}:{self.attribute}" if self.attribute else self.method

    @property
    def label(self) -> str:
        """As people read it."""
        return (self.attribute or self.method).replace("-", " ").replace("_", " ")


@dataclass(frozen=True, eq=False)
class Scene:
    """What all previews of the same unedited `latents` share: the view before, and where faces go in it.

    `small` [B, 3, S, S] are the unedited images at the preview size; `places` are those of the subjects in the view.
    """

    latents: Latents
    small: torch.Tensor
    box: Box
    before: Image.Image
    places: Sequence[Place]


@dataclass
class Work:
    """A photo with its located subjects; `framed` and what follows are those of the chosen ones.

    `latents` has an unedited row a subject, `before` [B, 3, R, R] are their full images once they were needed;
    `sketch` is of the latents so far while they are refined; `edits` maps keys of knobs to strengths in the order in
    which they were first moved. Of a `sample`, which has its seed and truncation, the codes are known: `photo` is its
    picture, and nothing is framed.
    """

    editor: Editor
    photo: Photo
    subjects: Sequence[Subject]
    knobs: Mapping[str, Sequence[Knob]]
    face: str = "1"
    quality: str = "fast"
    framed: Sequence[Framed] = ()
    latents: Latents | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    before: torch.Tensor | None = None
    scene: Scene | None = None
    sketch: Scene | None = None
    references: Latents | None = None
    reference: str = ""
    sample: tuple[int, float] | None = None
    whole: bool = False
    edits: dict[str, float] = field(default_factory=dict)
    past: list[dict[str, float]] = field(default_factory=list)
    future: list[dict[str, float]] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        """How large the photo is, which is most of the memory that this takes."""
        return self.photo.image.width * self.photo.image.height


def knobs(editor: Editor) -> dict[str, list[Knob]]:
    """The sliders of each method that can do something with the editor's weights; those that are looked up first."""
    found = {}
    methods = sorted(editor.registry.editing_methods.values(), key=lambda method: (-method.preference, method.name))
    for method in methods:
        try:
            attributes = method.attributes(EditContext(editor.weights, editor.device))
        except StkitError:  # these weights have nothing for it
            continue
        own = [
            Knob(method.name, one.name, one.description, *_ends(one.safe_range), method.needs_reference)
            for one in attributes
        ]
        if own:
            found[method.name] = own
    return found


def _ends(safe_range: tuple[float, float]) -> tuple[float, float]:
    low, high = safe_range
    return max(low, -3.0) if low > -np.inf else -3.0, min(high, 6.0) if high < np.inf else 3.0


def locate(editor: Editor, photo: Photo) -> Work:
    """Work on `photo`. Raises SubjectError when nothing is found."""
    subjects = editor.domain.locate(photo.image)
    if not subjects:
        editor.frame_all(photo)  # says so, in the words of the command line
    return Work(editor, photo, subjects, knobs(editor))


def begin(editor: Editor, photo: Photo) -> Work:
    """Work on the first subject of `photo`, inverted fast. Raises SubjectError."""
    work = locate(editor, photo)
    choose(work, "1")
    invert(work, "fast")
    return work


def draw(editor: Editor, seed: int, truncation: float) -> Work:
    """Work on a sample of the generator."""
    from stkit import Photo
    from stkit.plugin import Subject

    latents = editor.sample([seed], truncation)
    before = editor.generate(latents)
    photo = Photo(editor.picture(before[0]), Path(f"{editor.sample_name(str(seed), truncation)}.png"), sha256="")
    alone = Subject((0.0, 0.0, float(photo.image.width), float(photo.image.height)), np.zeros((0, 2)), 1.0)
    work = Work(editor, photo, [alone], knobs(editor), latents=latents, before=before, sample=(seed, truncation))
    work.scene = imagine(work, latents)
    return work


def choose(work: Work, face: str) -> None:
    """Choose a subject by its number, or "all" that are surely there; nothing is inverted yet. Raises UsageError."""
    count = len(work.subjects)
    if face != "all" and not (face.isdecimal() and 1 <= int(face) <= count):
        noun = work.editor.domain.noun
        raise UsageError(f"there is no {noun} {face} in {work.photo.path}: found {count}, numbered from 1, or all")
    sure = [one for one in work.subjects if not one.doubtful] or work.subjects
    numbers = range(1, len(sure) + 1) if face == "all" else [int(face)]
    work.framed = [work.editor.frame(work.photo, work.subjects[n - 1], n, len(sure)) for n in numbers]
    work.face = face
    work.latents = work.before = work.scene = work.sketch = None


def invert(
    work: Work,
    quality: str,
    on_progress: Callable[[int, int], None] = ignore_progress,
    on_latents: Callable[[Callable[[], Latents]], None] = ignore_latents,
) -> None:
    """Invert the chosen subjects with `quality`; until it is done, `work` stays as it is."""
    refine = refinements_of(work.editor.registry, quality, (), work.editor.weights.resolution)
    framed = work.framed
    inverted = work.editor.invert_framed(framed, None, {}, refine, on_progress, on_latents)
    latents = join_latents([one.latents for one in inverted])
    scene = imagine(work, latents)
    if framed is work.framed:
        work.latents, work.before, work.scene, work.sketch = latents, None, scene, None
        work.metrics, work.quality = inverted[0].metrics, quality


def place(work: Work, key: str, strength: float) -> None:
    """Set one edit; those that are 0 are none, and the others keep their order."""
    value = round(float(strength), 3)
    if value:
        work.edits[key] = value
    else:
        work.edits.pop(key, None)


def settle(work: Work, last: Mapping[str, float]) -> None:
    """Note in the history that the edits were `last` before they became what they are."""
    if dict(last) != work.edits or list(last) != list(work.edits):
        work.past = [*work.past[-99:], dict(last)]
        work.future = []


def undo(work: Work) -> None:
    """One step back in the history."""
    if work.past:
        work.future.append(work.edits)
        work.edits = dict(work.past.pop())


def redo(work: Work) -> None:
    """One step forward again."""
    if work.future:
        work.past.append(work.edits)
        work.edits = dict(work.future.pop())


def clear(work: Work) -> None:
    """No edit at all, which can be undone."""
    if work.edits:
        work.past, work.future, work.edits = [*work.past, work.edits], [], {}


def texts(edits: Mapping[str, float]) -> list[str]:
    """The edits as `--edit` takes them."""
    return [f"{key}={strength:+g}" for key, strength in edits.items()]


def words(work: Work) -> str:
    """The edits as people read them: "smile +1, then age -2 (label)"."""
    first, *others = work.knobs.values()
    named = {one.key: one.label for one in first}
    named |= {one.key: f"{one.label} ({one.method})" for own in others for one in own}
    return ", then ".join(f"{named[key]} {strength:+g}" for key, strength in work.edits.items())


def steps(work: Work) -> list[EditStep]:
    """The edits to apply."""
    return [work.editor.parse_step(text, work.references) for text in texts(work.edits)]


def edited(work: Work, latents: Latents) -> Latents:
    """`latents`, which are unedited, after the edits. Raises UsageError, LatentsError."""
    todo = steps(work)
    return work.editor.apply(latents, todo, work.references) if todo else latents


def finish(work: Work) -> Edit:
    """The edit at full resolution, as the command line makes it."""
    from stkit import Edit

    assert work.latents is not None
    latents, before = edited(work, work.latents), work.before
    if before is None:
        before = work.before = work.editor.generate(work.latents)
    after = work.editor.generate(latents) if work.edits else before
    photo = work.photo if work.sample is None else None
    return Edit(latents, before, after, photo, work.editor.domain.output_crop, "auto", dict(work.metrics))


def imagine(work: Work, latents: Latents) -> Scene:
    """What previews with these unedited `latents` share."""
    box, crop = view_box(work), work.editor.domain.output_crop
    before = look(work.photo.image, box, LOOK)
    small = _small(work.editor, latents)
    scale = before.width / (box[2] - box[0])
    resolution = work.editor.weights.resolution
    places = []
    for one, old in zip(work.framed, small, strict=work.sample is None):
        shown = math.ceil(scale * resolution * float(np.hypot(*one.transform[:, 0])))
        side = min(shown, small.shape[-1])  # blending takes as long as there are pixels, so no more than are seen
        matrix = _scaled(one.transform, resolution / side, scale, box)
        places.append(Place.of(before, matrix, _fit(old, side), crop))
    return Scene(latents, small, box, before, places)


def preview(work: Work) -> tuple[Image.Image, Image.Image]:
    """The view before and after, from the smaller images: quick. While codes are refined, those so far are shown."""
    scene = _scene(work)
    image = scene.before
    if work.edits:
        after = _small(work.editor, edited(work, scene.latents))
        if work.sample is not None:
            return scene.before, work.editor.picture(after[0]).resize(image.size)
        for place, new in zip(scene.places, after, strict=True):
            image = place.paste(image, _fit(new, len(place.old)))
    return scene.before, image


def _scene(work: Work) -> Scene:
    kept = work.sketch or work.scene
    assert kept is not None
    if kept.box == view_box(work):
        return kept
    scene = imagine(work, kept.latents)
    if kept is work.sketch:
        work.sketch = scene
    elif kept is work.scene:
        work.scene = scene
    return scene


def likeness(work: Work, scene: Scene) -> Image.Image:
    """The photo's crops, each beside the model's picture of it: how close the inversion is."""
    side, pictures = 256, []
    for one, made in zip(work.framed[:2], scene.small, strict=False):
        for image in (to_tensor(one.crop)[0], made):
            part = work.editor.picture(image)
            pictures.append(part.resize((side, round(side * part.height / part.width))))
    return image_grid(pictures, 2, ["your photo", "as the model sees it"] * (len(pictures) // 2))


def view(work: Work, image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """The view before and after, of the photo and of `image`, which is the photo edited."""
    box = view_box(work)
    return look(work.photo.image, box, WHOLE), look(image, box, WHOLE)


def view_box(work: Work) -> Box:
    """The part of the photo that is shown: around the chosen subjects, or all of it."""
    width, height = work.photo.image.size
    if work.whole or work.sample is not None:
        return 0, 0, width, height
    size = work.editor.weights.resolution
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5
    points = np.concatenate([corners @ one.transform[:, :2].T + one.transform[:, 2] for one in work.framed])
    low, high = points.min(0), points.max(0)
    margin = 0.1 * (high - low).max()
    left, top = np.clip(np.floor(low - margin), 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(high + margin), (left + 1, top + 1), (width, height)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def look(image: Image.Image, box: Box, side: int) -> Image.Image:
    """The part `box` of `image`, at most `side` pixels long."""
    from PIL import Image

    scale = min(1.0, side / max(box[2] - box[0], box[3] - box[1]))
    size = max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale))
    return image.resize(size, Image.Resampling.BILINEAR, box, reducing_gap=2.0)


def nameless(latents: Latents, photo: Photo) -> Latents:
    """The same codes, whose photo is known by its name alone and not by where this computer keeps it."""
    rows = tuple(
        dataclasses.replace(row, photo=photo.path.name if row.photo_sha256 == photo.sha256 else None)
        for row in latents.provenance
    )
    return dataclasses.replace(latents, provenance=rows)


def data_url(image: Image.Image) -> str:
    """A picture as a page holds it: no file on this computer."""
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()


def picture(editor: Editor, latents: Latents) -> Image.Image:
    """The generated picture of the first row, at the preview size."""
    return editor.picture(_small(editor, latents)[0])


def _small(editor: Editor, latents: Latents) -> torch.Tensor:
    return editor.generate(latents, editor.preview_size)


def _fit(image: torch.Tensor, side: int) -> torch.Tensor:
    import torch.nn.functional as F

    if image.shape[-1] == side:
        return image
    return F.interpolate(image[None], (side, side), mode="bilinear", antialias=True)[0]


def _scaled(transform: np.ndarray, ratio: float, scale: float, box: Box) -> np.ndarray:
    """From pixels of the smaller image to those of the view; `transform` is from full ones to the photo's."""
    linear = transform[:, :2]
    shift = transform[:, 2] + linear @ np.full(2, (ratio - 1) / 2) - np.array(box[:2]) + 0.5
    return np.hstack([linear * ratio * scale, (shift * scale - 0.5)[:, None]])


__all__ = [
    "LOOK",
    "WHOLE",
    "Box",
    "Knob",
    "Scene",
    "Work",
    "begin",
    "choose",
    "clear",
    "data_url",
    "draw",
    "edited",
    "finish",
    "imagine",
    "invert",
    "knobs",
    "likeness",
    "locate",
    "look",
    "nameless",
    "picture",
    "place",
    "preview",
    "redo",
    "settle",
    "steps",
    "texts",
    "undo",
    "view",
    "view_box",
    "words",
]
