"""What the tab that edits one photo looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from stkit_web.pictures import Comparison, Picture, photo_upload
from stkit_web.work import Knob

_SHOWN = 12  # sliders of a method before those that have to be asked for
_TITLES = {
    "interfacegan": "Sliders",
    "label": "Gentler: holds the rest still",
    "reference": "Like in another photo",
    "ganspace": "Found by the computer",
    "sefa": "Found by the computer, by layers",
    "stylespace": "Single details",
}
_MEANINGS = {"yaw": "turns the head sideways", "pitch": "turns the head up or down"}


class EditParts:
    """The components of the tab, in the order in which they stand.

    `epoch` changes when the sliders have to, `moved` when the full picture has.
    """

    def __init__(self, tab: str, choices: Sequence[str]) -> None:
        """Build them in the block that is open, for the weights `choices`; sliders go into `sliders_box`."""
        with gr.Row(elem_classes="stkit-edit"):
            with gr.Column(scale=3, min_width=280, elem_classes="stkit-photo"):
                self._add_photo(tab)
                self._add_closer(tab)
                self.model = gr.Dropdown(
                    list(choices), value=choices[0], label="Model", visible=len(choices) > 1, elem_id=f"{tab}-model"
                )
            self.view_box = gr.Column(scale=5, min_width=320, visible=False, elem_classes="stkit-view")
            with self.view_box:
                self._add_view(tab)
                self._add_results(tab)
            self.sliders_box = gr.Column(scale=4, min_width=300, visible=False, elem_classes="stkit-sliders")
            with self.sliders_box:
                # No gr.State, whose change event may come twice: sliders drawn anew would lose a move made in between.
                self.epoch = gr.Number(0, precision=0, visible="hidden")
                self.moved = gr.Number(0, visible="hidden")

    @property
    def all(self) -> list[gr.components.Component]:
        """All that opening a photo changes."""
        return list(vars(self).values())

    @property
    def small(self) -> dict[str, Any]:
        """For all events of the tab: show that something is done on these alone.

        Whenever an event begins or ends, the browser copies all that is in components which have ever shown this, or
        were inputs: with the pictures and all sliders that took longer than a preview.
        """
        return {"show_progress_on": [self.upload, self.status]}

    def _add_photo(self, tab: str) -> None:
        """The photo and its faces."""
        self.upload = photo_upload(
            label="Photo",
            show_label=False,
            height=300,
            placeholder="Drop a photo here, or click to choose one.\nBelow: a file, the camera, the clipboard.",
            elem_id=f"{tab}-upload",
        )
        self.faces = Picture(interactive=False, show_label=False, visible=False, elem_id=f"{tab}-faces", buttons=[])
        self.which = gr.Radio([], label="Edit which one? Click it, or choose:", visible=False, elem_id=f"{tab}-which")
        self.example = gr.Button("No photo at hand? Try an example", size="sm", elem_id=f"{tab}-example")
        self.another = gr.Button("Another photo", size="sm", visible=False, elem_id=f"{tab}-another")

    def _add_closer(self, tab: str) -> None:
        """How to bring the model closer to the photo."""
        self.closer_box = gr.Column(visible=False, elem_classes="stkit-closer")
        with self.closer_box:
            self.likeness = Picture(interactive=False, show_label=False, elem_id=f"{tab}-likeness", buttons=[])
            self.quality = gr.Radio(
                [("balanced: quicker", "balanced"), ("best: closer, takes longest", "best")],
                value="balanced",
                label="Bring the model closer to the photo",
                info="Edits fit better then. The sliders can be used meanwhile.",
                elem_id=f"{tab}-quality",
            )
            with gr.Row():
                self.closer = gr.Button("Come closer", size="sm", min_width=80, elem_id=f"{tab}-closer")
                self.cancel = gr.Button("Cancel", elem_id=f"{tab}-cancel", **_off(80))
            self.progress = gr.HTML("", elem_id=f"{tab}-progress", elem_classes="stkit-progress")

    def _add_view(self, tab: str) -> None:
        """Before and after, and the history."""
        self.view = Comparison(
            label="Before | after",
            interactive=False,
            elem_id=f"{tab}-view",
            elem_classes="stkit-picture",
            slider_position=50,
            buttons=["fullscreen"],
        )
        self.status = gr.HTML("", elem_id=f"{tab}-status")
        with gr.Row():
            self.undo = gr.Button("Undo", elem_id=f"{tab}-undo", **_off(60))
            self.redo = gr.Button("Redo", elem_id=f"{tab}-redo", **_off(60))
            self.reset = gr.Button("Reset", elem_id=f"{tab}-reset", **_off(60))
        self.whole = gr.Checkbox(label="Show the whole photo", container=False, elem_id=f"{tab}-whole")

    def _add_results(self, tab: str) -> None:
        """What to take home."""
        self.photo = gr.DownloadButton(
            "Download the photo", variant="primary", interactive=False, elem_id=f"{tab}-photo"
        )
        with gr.Accordion("For the command line and Python", open=False):
            self.shell = gr.Code(
                language="shell",
                label="The same on the command line",
                interactive=False,
                wrap_lines=True,
                elem_id=f"{tab}-command",
            )
            self.python = gr.Code(
                language="python", label="The same in Python", interactive=False, elem_id=f"{tab}-python"
            )
            self.latents = gr.DownloadButton("Download the latents", elem_id=f"{tab}-latents", **_off(60))


def _off(width: int) -> dict[str, Any]:
    """A small button that cannot be pressed yet."""
    return {"size": "sm", "min_width": width, "interactive": False}


def slider_groups(
    tab: str, knobs: Mapping[str, Sequence[Knob]], edits: Mapping[str, float]
) -> tuple[list[Knob], list[gr.Slider]]:
    """A slider for each knob, standing at `edits`, in a group for each method."""
    flat: list[Knob] = []
    parts: list[gr.Slider] = []

    def add(own: Sequence[Knob]) -> None:
        for knob in own:
            flat.append(knob)
            parts.append(_slider(tab, knob, edits.get(knob.key, 0.0)))

    for number, (method, own) in enumerate(knobs.items()):
        title = f"{_TITLES[method]} ({method})" if method in _TITLES else method
        with gr.Accordion(title, open=number == 0, elem_classes="stkit-method"):
            add(own[:_SHOWN])
            if own[_SHOWN:]:
                with gr.Accordion(f"{len(own) - _SHOWN} more", open=False):
                    add(own[_SHOWN:])
    return flat, parts


def _slider(tab: str, knob: Knob, value: float) -> gr.Slider:
    found = knob.label.startswith(("pc", "act", "eig"))
    return gr.Slider(
        knob.low,
        knob.high,
        value=value,
        step=0.1,
        label=knob.label,
        info=knob.description if found else _MEANINGS.get(knob.label),
        elem_id=f"{tab}-knob-{knob.key}".replace(":", "-"),
        elem_classes="stkit-knob",
        buttons=["reset"],
    )


__all__ = ["EditParts", "slider_groups"]
