"""What happens in the tab that edits one photo. What an action gives is by component; the others stay as they are."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from stkit.plugin import LATENTS_SUFFIX, decode_photo, draw_subjects, edit_quality, encode_latents
from stkit_web import work as works
from stkit_web.desk import Desk, Seat, as_html, notes, take
from stkit_web.edit_parts import EditParts
from stkit_web.elsewhere import command, named, python
from stkit_web.errors import Cancelled
from stkit_web.events import Background
from stkit_web.work import Knob, Work

if TYPE_CHECKING:
    from stkit import Latents

    Shown = dict[Any, Any]

_PAUSE = 0.4  # seconds without a move before the full picture is made
_FACES = 512
_SHARE = 5  # a look at what comes closer is taken at most so often that this many times its own time lies between

_OFF, _ON, _HIDDEN, _SEEN = (
    lambda: gr.update(interactive=False),
    lambda: gr.update(interactive=True),
    lambda: gr.update(visible=False),
    lambda: gr.update(visible=True),
)


@dataclass(frozen=True, eq=False)
class Actions:
    """The actions in one tab; `sample` gives seeds for examples."""

    desk: Desk
    tab: str
    parts: EditParts
    sample: Callable[[], int]

    @property
    def made(self) -> list[Any]:
        """What changes with the full picture."""
        parts = self.parts
        files = [parts.photo, parts.latents, parts.shell, parts.python]
        return [parts.view, parts.status, *files, parts.undo, parts.redo, parts.reset, parts.likeness]

    def drop(self, path: str | None, weights: str, epoch: int, request: gr.Request) -> Shown:
        """A photo was dropped, pasted or shot."""
        if path is None:
            return {self.parts.status: gr.skip()}
        name = Path(path).name
        photo = decode_photo(take(path, self.desk, request), Path(name))
        return self._open(lambda: works.begin(self.desk.editor(weights), photo), epoch, request)

    def show_example(self, weights: str, epoch: int, request: gr.Request) -> Shown:
        """A photo that the generator makes up."""
        return self.show_sample(self.sample(), 0.7, weights, epoch, request)

    def show_sample(self, seed: int, truncation: float, weights: str, epoch: int, request: gr.Request) -> Shown:
        """The sample of that seed."""
        editor = self.desk.editor(weights)
        shown = self._open(lambda: works.draw(editor, int(seed), float(truncation)), epoch, request)
        return {**shown, self.parts.model: weights}

    def put_away(self, request: gr.Request) -> Shown:
        """No photo any more."""
        parts, seat = self.parts, self.desk.seat(request, self.tab)
        seat.cancelled.set()
        seat.work = None
        seat.version += 1
        self.desk.drop_files(seat)
        hidden = (parts.faces, parts.which, parts.another, parts.closer_box, parts.view_box, parts.sliders_box)
        return {
            parts.upload: gr.update(visible=True, value=None),
            parts.example: _SEEN(),
            **{part: _HIDDEN() for part in hidden},
        }

    def click(self, event: gr.SelectData, request: gr.Request) -> str:
        """A place in the picture of the faces was clicked."""
        return nearest(self.desk.work(request, self.tab), event.index)

    def pick(self, face: str, request: gr.Request) -> Shown:
        """Another face, or all."""
        seat, work = self.desk.seat(request, self.tab), self.desk.work(request, self.tab)
        if face == work.face:
            return {self.parts.status: gr.skip()}
        seat.cancelled.set()
        with notes() as said:
            works.choose(work, face)
            works.invert(work, "fast")
        seat.version += 1
        return self._made(seat, said)

    def zoom(self, whole: bool, request: gr.Request) -> Shown:
        """The whole photo, or the chosen part."""
        self.desk.work(request, self.tab).whole = whole
        return self._made(self.desk.seat(request, self.tab), [])

    def refer(self, path: str | None, request: gr.Request) -> tuple[str, Any]:
        """Another photo to take from, or none any more."""
        seat, work = self.desk.seat(request, self.tab), self.desk.work(request, self.tab)
        if path is None:
            work.references, work.reference = None, ""
            return "", gr.skip()
        name = Path(path).name
        photo = decode_photo(take(path, self.desk, request), Path(name))
        with notes() as said:
            work.references = work.editor.invert(photo).latents
        work.reference = name
        seat.version += 1
        return as_html([*said, f"Taking from {name}: move a slider of a method that needs it."]), None

    def moving(self, knob: Knob, slider: gr.Slider) -> Callable[..., Shown]:
        """What the slider's move does: the picture, small and at once."""
        parts = self.parts

        def move(strength: float, request: gr.Request) -> Shown:
            seat, work = self.desk.seat(request, self.tab), self.desk.work(request, self.tab)
            if strength and knob.needs_reference and work.references is None:
                waits = f"'{knob.label}' of {knob.method} waits for another photo to take from; drop one below"
                return {parts.status: as_html([waits]), slider: 0}
            seat.version += 1
            works.place(work, knob.key, strength)
            with notes() as said, self.desk.looking:
                view = works.preview(work)
            return {
                parts.view: view,
                parts.status: as_html([f"Preview: {_chain(work)}", *said]),
                parts.moved: seat.version,
            }

        return move

    def rest(self, request: gr.Request) -> Shown:
        """No slider has moved for a while: the full picture, and what to take home."""
        seat = self.desk.seat(request, self.tab)
        version = seat.version
        time.sleep(_PAUSE)
        if seat.version != version or seat.work is None:
            return {self.parts.status: gr.skip()}
        return self._made(seat, [])

    def stepping(self, knobs: Sequence[Knob], sliders: Sequence[gr.Slider], step: Callable[[Work], None]) -> Any:
        """What undo, redo or reset does: the picture, and where the sliders stand."""

        parts = self.parts

        def run(request: gr.Request) -> Shown:
            seat, work = self.desk.seat(request, self.tab), self.desk.work(request, self.tab)
            with self.desk.looking:
                works.settle(work, seat.settled)
                step(work)
                seat.settled = dict(work.edits)
                seat.version += 1
                version, view = seat.version, works.preview(work)
            places = {slider: work.edits.get(knob.key, 0.0) for knob, slider in zip(knobs, sliders, strict=True)}
            status = as_html([_chain(work)])
            return {parts.view: view, parts.status: status, parts.moved: version, **places}

        return run

    def wait(self) -> Shown:
        """Until it is this one's turn to come closer."""
        return {
            self.parts.progress: as_html(["Waiting for a turn ..."]),
            self.parts.closer: _OFF(),
            self.parts.cancel: _ON(),
        }

    def come_closer(self, quality: str, request: gr.Request) -> Iterator[Shown]:
        """Refine the codes, with a bar and looks at them; sliders go on working meanwhile."""
        parts, seat = self.parts, self.desk.seat(request, self.tab)
        over = {parts.closer: _ON(), parts.cancel: _OFF()}
        try:
            work = self.desk.work(request, self.tab)
            seat.cancelled = cancelled = threading.Event()
            looks = _Looks(work)
            job = Background(lambda tell: works.invert(work, quality, tell, looks), cancelled)
            while job.running():
                yield {parts.progress: job.bar(quality), **self._look(looks, quality)}
            job.result()
            seat.version += 1
            yield {parts.progress: as_html([f"Done: {quality}."]), **over, **self._made(seat, [])}
        except Cancelled:
            work.sketch = None
            shown = self._made(seat, []) if seat.work is work and work.latents is not None else {}
            yield {parts.progress: as_html(["Cancelled; nothing has changed."]), **over, **shown}
        except Exception:
            yield {parts.progress: "", **over}
            raise

    def cancel(self, request: gr.Request) -> str:
        """Do not come closer any more."""
        self.desk.seat(request, self.tab).cancelled.set()
        return as_html(["Cancelling ..."])

    def _look(self, looks: _Looks, quality: str) -> Shown:
        work = looks.work
        if not looks.new or work.sketch is None:
            return {}
        looks.new = False
        shown: Shown = {self.parts.likeness: works.likeness(work, work.sketch)}
        if work.edits:
            shown[self.parts.view] = works.preview(work)
            shown[self.parts.status] = as_html([f"Preview, {quality} so far: {works.words(work)}"])
        return shown

    def _open(self, begin: Callable[[], Work], epoch: int, request: gr.Request) -> Shown:
        parts, seat = self.parts, self.desk.seat(request, self.tab)
        seat.cancelled.set()
        with notes() as said:
            work = begin()
        seat.work, seat.settled = work, {}
        seat.version += 1
        noun, count = work.editor.domain.noun, len(work.subjects)
        sure = sum(not one.doubtful for one in work.subjects) or count
        names = [(f"{noun} {n}", str(n)) for n in range(1, count + 1)] + [(f"all {sure}", "all")] * (sure > 1)
        image = work.photo.image
        drawn = draw_subjects(image, work.subjects) if count > 1 else image
        faces = works.look(drawn, (0, 0, *drawn.size), _FACES)
        return {
            parts.upload: gr.update(visible=False, value=None),
            parts.example: _HIDDEN(),
            parts.faces: gr.update(value=faces, visible=True),
            parts.which: gr.update(choices=names, value="1", visible=len(names) > 1),
            **{part: _SEEN() for part in (parts.another, parts.view_box, parts.sliders_box)},
            parts.closer_box: gr.update(visible=work.sample is None),  # a sample could not be closer
            parts.quality: "best" if edit_quality(work.editor.weights) == "best" else "balanced",
            parts.whole: False,
            parts.progress: "",
            parts.epoch: epoch + 1,
            **self._made(seat, said),
        }

    def _made(self, seat: Seat, said: Sequence[str]) -> Shown:
        """The full picture and the files; what of it is not of now any more is left out."""
        parts, work, version = self.parts, seat.work, seat.version
        assert work is not None and work.latents is not None and work.scene is not None
        works.settle(work, seat.settled)
        seat.settled = dict(work.edits)
        on = bool(work.edits)
        with notes() as warned:
            files, latents, view = [], work.latents, works.view(work, work.photo.image)
            if on:
                edit = works.finish(work)
                end = edit.suffix if work.sample is None else f".crop{edit.suffix}"  # as `stkit edit` calls it
                name, latents = named(work, end), edit.latents
                files = [(name, edit.encode(Path(name)))]
                view = works.preview(work) if work.sketch else works.view(work, edit.image)
            codes = encode_latents(works.nameless(latents, work.photo))
            files.append((named(work, LATENTS_SUFFIX), codes))
        if seat.version != version or seat.work is not work:
            return {parts.status: gr.skip()}
        self.desk.drop_files(seat)
        *photo, kept = [self.desk.write(seat, name, data) for name, data in files]
        return {
            parts.view: view,
            parts.status: as_html([f"Full picture: {_chain(work)}" if on else _chain(work), *said, *warned]),
            parts.photo: gr.update(value=photo[0] if on else None, interactive=on),
            parts.latents: gr.update(value=kept, interactive=True),
            parts.shell: command(work) if on else "",
            parts.python: python(work) if on else "",
            parts.undo: gr.update(interactive=bool(work.past)),
            parts.redo: gr.update(interactive=bool(work.future)),
            parts.reset: gr.update(interactive=on),
            parts.likeness: gr.skip() if work.sketch or work.sample else works.likeness(work, work.scene),
        }


class _Looks:
    """Takes a look at the latents so far, now and then, in the thread that refines them."""

    def __init__(self, work: Work) -> None:
        self.work, self.framed = work, work.framed
        self.new = False
        self._next = 0.0

    def __call__(self, so_far: Callable[[], Latents]) -> None:
        start = time.monotonic()
        known = self.work.latents
        if start < self._next or known is None:
            return
        latents = dataclasses.replace(so_far().to("cpu"), provenance=known.provenance)
        sketch = works.imagine(self.work, latents)
        if self.work.framed is self.framed:
            self.work.sketch, self.new = sketch, True
        end = time.monotonic()
        self._next = end + max(1.0, _SHARE * (end - start))


def nearest(work: Work, place: Sequence[float]) -> str:
    """The number of the subject nearest to a place in the picture of the faces."""
    width, height = work.photo.image.size
    scale = max(1.0, max(width, height) / _FACES)
    x, y = place[0] * scale, place[1] * scale

    def distance(number: int) -> tuple[float, float]:
        left, top, right, bottom = work.subjects[number].box
        outside = max(left - x, 0, x - right) ** 2 + max(top - y, 0, y - bottom) ** 2
        return outside, (x - (left + right) / 2) ** 2 + (y - (top + bottom) / 2) ** 2

    return str(1 + min(range(len(work.subjects)), key=distance))


def _chain(work: Work) -> str:
    quality = "" if work.quality == "fast" else f" ({work.quality})"
    return f"{works.words(work)}{quality}" if work.edits else f"Move a slider{quality}."


__all__ = ["Actions", "nearest"]
