"""The tab that edits one photo: faces, sliders, before and after, downloads."""

from __future__ import annotations

import html
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from stkit.plugin import decode_photo, draw_subjects, edit_quality, encode_latents
from stkit_web import work as works
from stkit_web.desk import Desk, Seat, as_html, notes, take
from stkit_web.errors import Cancelled, told
from stkit_web.pictures import Comparison, Picture, Upload
from stkit_web.work import Knob, Work

if TYPE_CHECKING:
    from stkit import Photo

_SHOWN = 12  # sliders of a method before those that have to be asked for
_PAUSE = 0.4  # seconds without a move before the full picture is made
_FACES = 512

PLAIN: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
FAST: dict[str, Any] = {**PLAIN, "concurrency_id": "look", "concurrency_limit": 1}
FULL: dict[str, Any] = {**PLAIN, "concurrency_id": "full", "concurrency_limit": 1}
OPEN: dict[str, Any] = {**PLAIN, "concurrency_id": "open", "concurrency_limit": 1, "show_progress": "full"}
CLOSER: dict[str, Any] = {**PLAIN, "concurrency_id": "closer", "concurrency_limit": 1}
"""How events wait: pictures of moving sliders for nothing but each other, inversions in the background for theirs."""


def build(
    desk: Desk, tab: str, choices: Sequence[str], sample: Callable[[], int]
) -> tuple[Callable[..., list[Any]], list[Any], list[Any]]:
    """The tab `tab` for the weights `choices`, the first of which is shown; `sample` gives seeds for examples.

    Gives what opens a sample in it: a function of seed, truncation, weights and a number, that number, and its outputs.
    """
    with gr.Row(elem_classes="stkit-edit"):
        with gr.Column(scale=3, min_width=280):
            model = gr.Dropdown(list(choices), value=choices[0], label="Model", visible=len(choices) > 1)
            upload = Upload(
                sources=["upload", "clipboard", "webcam"],
                type="filepath",
                label="Photo",
                height=240,
                placeholder="Drop a photo here, or click to choose one",
                elem_id=f"{tab}-upload",
                buttons=[],
            )
            faces = Picture(interactive=False, label="Photo", visible=False, elem_id=f"{tab}-faces", buttons=[])
            which = gr.Radio([], label="Edit which one?", visible=False, elem_id=f"{tab}-which")
            with gr.Row():
                example = gr.Button("Try an example", size="sm", elem_id=f"{tab}-example")
                another = gr.Button("Another photo", size="sm", visible=False, elem_id=f"{tab}-another")
            with gr.Group(visible=False) as closer_box:
                quality = gr.Radio(
                    [("balanced: codes refined", "balanced"), ("best: the model is tuned as well", "best")],
                    value="best",
                    label="Come closer to the photo, in the background",
                    elem_id=f"{tab}-quality",
                )
                with gr.Row():
                    closer = gr.Button("Come closer", size="sm", elem_id=f"{tab}-closer")
                    cancel = gr.Button("Cancel", size="sm", interactive=False, elem_id=f"{tab}-cancel")
                progress = gr.HTML("", elem_id=f"{tab}-progress")
        with gr.Column(scale=5, min_width=320):
            slider = Comparison(
                label="Before | after",
                interactive=False,
                elem_id=f"{tab}-view",
                slider_position=50,
                buttons=["fullscreen"],
            )
            with gr.Row():
                undo = gr.Button("Undo", size="sm", interactive=False, elem_id=f"{tab}-undo")
                redo = gr.Button("Redo", size="sm", interactive=False, elem_id=f"{tab}-redo")
                reset = gr.Button("Reset", size="sm", interactive=False, elem_id=f"{tab}-reset")
                whole = gr.Checkbox(label="Whole photo", container=False, elem_id=f"{tab}-whole")
            status = gr.HTML(as_html(["Drop a photo to begin."]), elem_id=f"{tab}-status")
            with gr.Row():
                photo_file = gr.DownloadButton(
                    "Download the photo", variant="primary", interactive=False, elem_id=f"{tab}-photo"
                )
                codes_file = gr.DownloadButton("Download the latents", interactive=False, elem_id=f"{tab}-latents")
            with gr.Accordion("The same on the command line and in Python", open=False):
                shell = gr.Code(
                    language="shell", label="Command", interactive=False, wrap_lines=True, elem_id=f"{tab}-command"
                )
                lines = gr.Code(language="python", label="Python", interactive=False, elem_id=f"{tab}-python")
        with gr.Column(scale=4, min_width=300):
            epoch = gr.State(0)
            with gr.Accordion("Another photo to take from", open=False, visible=False) as reference_box:
                reference = Upload(
                    sources=["upload", "clipboard", "webcam"],
                    type="filepath",
                    height=180,
                    label="Reference",
                    elem_id=f"{tab}-reference",
                    buttons=[],
                )
                reference_note = gr.HTML("")

            made = [slider, status, photo_file, codes_file, shell, lines, undo, redo, reset]
            opened = [upload, faces, which, another, example, closer_box, reference_box, whole, progress, epoch]

            @gr.render(inputs=[model, epoch], triggers=[epoch.change], show_progress="hidden", concurrency_limit=None)
            def sliders(weights: str, _: int, request: gr.Request) -> None:
                work = desk.seat(request, tab).work
                if work is None or work.latents is None:
                    return
                all_knobs = works.knobs(work.editor)
                flat: list[Knob] = []
                parts: list[gr.Slider] = []
                for number, (method, own) in enumerate(all_knobs.items()):
                    with gr.Accordion(f"{method} ({len(own)})", open=number == 0, elem_classes="stkit-method"):
                        for knob in own[:_SHOWN]:
                            parts.append(_slider(knob, work, tab))
                        if own[_SHOWN:]:
                            with gr.Accordion(f"{len(own) - _SHOWN} more", open=False):
                                for knob in own[_SHOWN:]:
                                    parts.append(_slider(knob, work, tab))
                    flat += own
                keys = [knob.key for knob in flat]
                moved = gr.on(
                    [part.input for part in parts],
                    told(partial(_move, desk, tab, flat)),
                    inputs=parts,
                    outputs=[slider, status],
                    trigger_mode="always_last",
                    **FAST,
                )
                moved.then(told(partial(_rest, desk, tab)), outputs=made, trigger_mode="always_last", **FULL)
                for button, what in ((undo, works.undo), (redo, works.redo), (reset, works.clear)):
                    button.click(
                        told(partial(_step, desk, tab, keys, what)), outputs=[slider, status, *parts], **FAST
                    ).then(told(partial(_rest, desk, tab)), outputs=made, **FULL)

    def fresh(weights: str, number: int, photo: Photo, request: gr.Request) -> list[Any]:
        seat = desk.seat(request, tab)
        seat.cancelled.set()
        with notes() as said:
            work = works.locate(desk.editor(weights), photo)
            works.choose(work, "1")
            works.invert(work, "fast")
        seat.work, seat.settled = work, {}
        seat.version += 1
        drawn = draw_subjects(photo.image, work.subjects)
        noun = work.editor.domain.noun
        sure = sum(not one.doubtful for one in work.subjects) or len(work.subjects)
        names = [(f"{noun} {n}", str(n)) for n in range(1, len(work.subjects) + 1)]
        names += [(f"all {sure}", "all")] if sure > 1 else []
        needs_reference = any(one.needs_reference for own in works.knobs(work.editor).values() for one in own)
        usual = edit_quality(work.editor.weights)
        hint = []
        if usual != "fast":
            hint = [f"This is a quick look. For the {noun} as it is, let it come closer ({usual}) before you download."]
        picture = works.look(drawn, (0, 0, *drawn.size), _FACES)
        shown = [
            gr.update(visible=False, value=None),
            gr.update(value=picture, visible=True, label=f"Click a {noun}" if len(names) > 1 else "Photo"),
            gr.update(choices=names, value="1", visible=len(names) > 1),
            gr.update(visible=True),
            gr.update(visible=False),
            gr.update(visible=True),
            gr.update(visible=needs_reference),
            gr.update(value=False),
            "",
            number + 1,
        ]
        return [*shown, *_made(desk, seat, [*said, *hint])]

    def dropped(path: str | None, weights: str, number: int, request: gr.Request) -> list[Any]:
        if path is None:
            return [gr.skip()] * (len(opened) + len(made))
        name = Path(path).name
        photo = decode_photo(take(path, desk, request), Path(name))
        return fresh(weights, number, photo, request)

    def exemplary(weights: str, number: int, request: gr.Request) -> list[Any]:
        return invented(sample(), 0.7, weights, number, request)

    def invented(seed: int, truncation: float, weights: str, number: int, request: gr.Request) -> list[Any]:
        editor = desk.editor(weights)
        made_up = works.picture(editor, editor.sample([int(seed)], float(truncation)), small=False)
        encoded = io.BytesIO()
        made_up.save(encoded, "PNG")
        return fresh(weights, number, decode_photo(encoded.getvalue(), Path(f"example-{int(seed)}.png")), request)

    def put_away(request: gr.Request) -> list[Any]:
        seat = desk.seat(request, tab)
        seat.cancelled.set()
        seat.work = None
        seat.version += 1
        desk.drop_files(seat)
        hidden = gr.update(visible=False)
        shown = [gr.update(visible=True, value=None), hidden, hidden, hidden, gr.update(visible=True), hidden, hidden]
        off = gr.update(interactive=False)
        nothing = [None, as_html(["Drop a photo to begin."]), off, off, "", "", off, off, off]
        return [*shown, gr.update(value=False), "", time.time(), *nothing]

    upload.input(
        told(dropped), inputs=[upload, model, epoch], outputs=[*opened, *made], show_progress_on=[status], **OPEN
    )
    example.click(told(exemplary), inputs=[model, epoch], outputs=[*opened, *made], show_progress_on=[status], **OPEN)
    another.click(told(put_away), outputs=[*opened, *made], **PLAIN)
    model.input(told(put_away), outputs=[*opened, *made], **PLAIN)

    def pick(face: str, request: gr.Request) -> list[Any]:
        seat = desk.seat(request, tab)
        work = desk.work(request, tab)
        if face == work.face:
            return [gr.skip()] * len(made)
        seat.cancelled.set()
        with notes() as said:
            works.choose(work, face)
            works.invert(work, "fast")
        seat.version += 1
        return _made(desk, seat, said)

    def clicked(event: gr.SelectData, request: gr.Request) -> str:
        return nearest(desk.work(request, tab), event.index)

    faces.select(told(clicked), outputs=[which], trigger_mode="always_last", **PLAIN)
    which.change(told(pick), inputs=[which], outputs=made, show_progress_on=[status], **OPEN)

    def zoom(all_of_it: bool, request: gr.Request) -> list[Any]:
        desk.work(request, tab).whole = all_of_it
        return _made(desk, desk.seat(request, tab), [])

    whole.input(told(zoom), inputs=[whole], outputs=made, **FULL)

    def refer(path: str | None, request: gr.Request) -> tuple[str, Any]:
        seat, work = desk.seat(request, tab), desk.work(request, tab)
        if path is None:
            work.references, work.reference = None, ""
            return "", gr.skip()
        name = Path(path).name
        photo = decode_photo(take(path, desk, request), Path(name))
        with notes() as said:
            work.references = work.editor.invert(photo).latents
        work.reference = name
        seat.version += 1
        return as_html([*said, f"Taking from {name}: move a slider of a method that needs it."]), None

    reference.input(told(refer), inputs=[reference], outputs=[reference_note, reference], **OPEN)
    closer.click(
        told(partial(_closer, desk, tab)), inputs=[quality], outputs=[progress, closer, cancel, *made], **CLOSER
    )
    cancel.click(told(partial(_cancel, desk, tab)), outputs=[progress], **PLAIN)

    def opened_sample(seed: int, psi: float, weights: str, number: int, request: gr.Request) -> list[Any]:
        return [weights, *invented(seed, psi, weights, number, request)]

    return opened_sample, [epoch], [model, *opened, *made]


def _slider(knob: Knob, work: Work, tab: str) -> gr.Slider:
    return gr.Slider(
        knob.low,
        knob.high,
        value=work.edits.get(knob.key, 0.0),
        step=0.1,
        label=knob.label,
        info=knob.description if knob.label.startswith(("pc", "eig")) else None,
        elem_id=f"{tab}-knob-{knob.key}".replace(":", "-"),
        elem_classes="stkit-knob",
        buttons=["reset"],
    )


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


def _move(desk: Desk, tab: str, moved: Sequence[Knob], request: gr.Request, *strengths: Any) -> list[Any]:
    """A slider moved: the picture, small and at once."""
    seat, work = desk.seat(request, tab), desk.work(request, tab)
    seat.version += 1
    waiting = []
    for knob, strength in zip(moved, strengths, strict=True):
        if strength and knob.needs_reference and work.references is None:
            waiting.append(f"'{knob.label}' of {knob.method} waits for another photo to take from; drop one above")
        elif strength is not None:
            works.place(work, knob.key, strength)
    if waiting:
        gr.Info(waiting[-1], title="stkit")
    with notes() as said:
        return [works.preview(work), as_html([f"preview of {_chain(work)}", *said])]


def _rest(desk: Desk, tab: str, request: gr.Request) -> list[Any]:
    """No slider has moved for a while: the full picture, and what to take home."""
    seat = desk.seat(request, tab)
    version = seat.version
    time.sleep(_PAUSE)
    if seat.version != version or seat.work is None:
        return [gr.skip()] * 9
    return _made(desk, seat, [])


def _step(desk: Desk, tab: str, keys: Sequence[str], what: Callable[[Work], None], request: gr.Request) -> list[Any]:
    """Undo, redo or reset: the picture, and where the sliders stand."""
    seat, work = desk.seat(request, tab), desk.work(request, tab)
    works.settle(work, seat.settled)
    what(work)
    seat.settled = dict(work.edits)
    seat.version += 1
    return [works.preview(work), as_html([_chain(work)]), *(work.edits.get(key, 0.0) for key in keys)]


def _made(desk: Desk, seat: Seat, said: Sequence[str]) -> list[Any]:
    """The full picture and the files; what of it is not of now any more is left out."""
    work = seat.work
    assert work is not None
    version = seat.version
    works.settle(work, seat.settled)
    seat.settled = dict(work.edits)
    with notes() as warned:
        edit = works.finish(work)
        name = Path(works.name(work, edit.suffix))
        shown = works.view(work, edit.image)
        photo = edit.encode(name)
    if seat.version != version or seat.work is not work:
        return [gr.skip()] * 9
    desk.drop_files(seat)
    on = bool(work.edits)
    photo_path = desk.write(seat, name.name, photo)
    latents_path = desk.write(
        seat, works.name(work, ".latents.safetensors"), encode_latents(works.nameless(edit.latents, work.photo))
    )
    return [
        shown,
        as_html([f"full resolution of {_chain(work)}" if on else _chain(work), *said, *warned]),
        gr.update(value=photo_path, interactive=on),
        gr.update(value=latents_path, interactive=True),
        works.command(work) if on else "",
        works.python(work) if on else "",
        gr.update(interactive=bool(work.past)),
        gr.update(interactive=bool(work.future)),
        gr.update(interactive=on),
    ]


def _chain(work: Work) -> str:
    if not work.edits:
        return f"Inverted with quality {work.quality}. Move a slider."
    return f"{work.quality}: " + ", then ".join(works.texts(work.edits))


def _closer(desk: Desk, tab: str, quality: str, request: gr.Request) -> Iterator[list[Any]]:
    """Refine the codes, with a bar; sliders go on working meanwhile."""
    seat, work = desk.seat(request, tab), desk.work(request, tab)
    seat.cancelled = cancelled = threading.Event()
    state = {"done": 0, "total": 0}
    failures: list[BaseException] = []

    def tell(done: int, total: int) -> None:
        if cancelled.is_set():
            raise Cancelled
        state.update(done=done, total=total)

    def compute() -> None:
        try:
            works.invert(work, quality, tell)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    off, on = gr.update(interactive=False), gr.update(interactive=True)
    while thread.is_alive():
        yield [bar(quality, **state), off, on, *[gr.skip()] * 9]
        thread.join(0.5)
    if failures and not isinstance(failures[0], Cancelled):
        yield ["", on, off, *[gr.skip()] * 9]
        raise failures[0]
    if failures or seat.work is not work or cancelled.is_set():
        yield [as_html(["Cancelled; nothing has changed."]), on, off, *[gr.skip()] * 9]
        return
    seat.version += 1
    yield [as_html([f"Done: inverted with quality {quality}."]), on, off, *_made(desk, seat, [])]


def bar(quality: str, done: int, total: int) -> str:
    """How far it is, for people who look and for those who listen."""
    if not total:
        return f'<p role="status">{html.escape(quality)}: starting</p><progress></progress>'
    text = f"{html.escape(quality)}: {done} of {total} steps"
    return f'<p role="status">{text}</p><progress value="{done}" max="{total}">{text}</progress>'


def _cancel(desk: Desk, tab: str, request: gr.Request) -> str:
    desk.seat(request, tab).cancelled.set()
    return as_html(["Cancelling ..."])


__all__ = ["CLOSER", "FAST", "FULL", "OPEN", "PLAIN", "bar", "build", "nearest"]
