"""The tab that edits one photo: what it looks like, joined with what happens in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from stkit_web import work as works
from stkit_web.desk import Desk
from stkit_web.edit_actions import Actions
from stkit_web.edit_parts import EditParts, slider_groups
from stkit_web.errors import told
from stkit_web.events import CLOSER, FAST, FULL, LAST, OPEN, PLAIN
from stkit_web.pictures import photo_upload


@dataclass(frozen=True, eq=False)
class Opener:
    """What opens a sample in the tab: `open` of a seed, a truncation and weights; what else the event gets."""

    open: Callable[..., dict[Any, Any]]
    inputs: list[Any]
    event: dict[str, Any]


def build(desk: Desk, tab: str, choices: Sequence[str], sample: Callable[[], int]) -> Opener:
    """The tab `tab` for the weights `choices`, the first of which is shown; `sample` gives seeds for examples."""
    parts = EditParts(tab, choices)
    actions = Actions(desk, tab, parts, sample)
    with parts.sliders_box:
        _sliders(actions)
        _reference(actions)
    _opening(actions)
    _choices(actions)
    return Opener(actions.show_sample, [parts.epoch], {"outputs": parts.all, **parts.small})


def _opening(actions: Actions) -> None:
    parts = actions.parts
    opening = {"outputs": parts.all, **parts.small, **OPEN}
    parts.upload.input(told(actions.drop), inputs=[parts.upload, parts.model, parts.epoch], **opening, **LAST)
    parts.example.click(told(actions.show_example), inputs=[parts.model, parts.epoch], **opening)
    parts.another.click(told(actions.put_away), outputs=parts.all, **parts.small, **PLAIN)
    parts.model.input(told(actions.put_away), outputs=parts.all, **parts.small, **PLAIN, **LAST)


def _choices(actions: Actions) -> None:
    parts, made = actions.parts, actions.made
    parts.faces.select(told(actions.click), outputs=[parts.which], **PLAIN, **LAST)
    parts.which.change(told(actions.pick), inputs=[parts.which], outputs=made, **parts.small, **OPEN)
    parts.moved.change(told(actions.rest), outputs=made, **parts.small, **FULL, **LAST)
    parts.whole.input(told(actions.zoom), inputs=[parts.whole], outputs=made, **parts.small, **FULL, **LAST)
    refining = [parts.progress, parts.closer, parts.cancel, *made]
    parts.closer.click(told(actions.wait), outputs=[parts.progress, parts.closer, parts.cancel], queue=False, **PLAIN)
    parts.closer.click(told(actions.come_closer), inputs=[parts.quality], outputs=refining, **parts.small, **CLOSER)
    parts.cancel.click(told(actions.cancel), outputs=[parts.progress], queue=False, **PLAIN)


def _sliders(actions: Actions) -> None:
    parts = actions.parts

    @gr.render(inputs=[parts.epoch], triggers=[parts.epoch.change], show_progress="hidden", concurrency_limit=None)
    def sliders(_: int, request: gr.Request) -> None:
        work = actions.desk.seat(request, actions.tab).work
        if work is None or work.latents is None:
            return
        knobs, moving = slider_groups(actions.tab, work.knobs, work.edits)
        for knob, slider in zip(knobs, moving, strict=True):
            shown = [parts.view, parts.status, parts.moved, slider]
            move = told(actions.moving(knob, slider))
            slider.input(move, [slider], shown, **parts.small, **FAST, **LAST)
        event = {"outputs": [parts.view, parts.status, parts.moved, *moving], **parts.small, **FAST}
        for button, step in ((parts.undo, works.undo), (parts.redo, works.redo), (parts.reset, works.clear)):
            button.click(told(actions.stepping(knobs, moving, step)), trigger_mode="multiple", **event)


def _reference(actions: Actions) -> None:
    with gr.Accordion("Another photo to take from", open=False, elem_id=f"{actions.tab}-other"):
        reference = photo_upload(
            height=180,
            label="The other photo",
            show_label=False,
            placeholder="Drop another photo here\nto take a smile, an age, ... from it",
            elem_id=f"{actions.tab}-reference",
        )
        note = gr.HTML("", elem_id=f"{actions.tab}-reference-note")
    reference.input(told(actions.refer), inputs=[reference], outputs=[note, reference], **OPEN, **LAST)


__all__ = ["Opener", "build"]
