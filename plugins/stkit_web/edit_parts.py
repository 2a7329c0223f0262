"""What the tab that edits one photo looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import gradio as gr

from stkit_web.pictures import Comparison, Picture, Upload, photo_upload
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


@dataclass(frozen=True, eq=False)
class EditParts:
    """The components of the tab, in the order in which they stand. `epoch` changes when the sliders have to."""

    upload: Upload
    faces: Picture
    which: gr.Radio
    example: gr.Button
    another: gr.Button
    model: gr.Dropdown
    closer_box: gr.Group
    likeness: Picture
    quality: gr.Radio
    closer: gr.Button
    cancel: gr.Button
    progress: gr.HTML
    view_box: gr.Column
    view: Comparison
    status: gr.HTML
    undo: gr.Button
    redo: gr.Button
    reset: gr.Button
    whole: gr.Checkbox
    photo: gr.DownloadButton
    latents: gr.DownloadButton
    shell: gr.Code
    python: gr.Code
    sliders_box: gr.Column
    epoch: gr.Number

    @property
    def all(self) -> list[gr.components.Component]:
        """All that opening a photo changes."""
        return list(vars(self).values())


def photo_column(tab: str, choices: Sequence[str]) -> dict[str, gr.components.Component]:
    """The photo, its faces, and how to bring the model closer to it."""
    with gr.Column(scale=3, min_width=280, elem_classes="stkit-photo"):
        upload = photo_upload(
            label="Photo",
            show_label=False,
            height=300,
            placeholder="Drop a photo here, or click to choose one.\nBelow: a file, the camera, the clipboard.",
            elem_id=f"{tab}-upload",
        )
        faces = Picture(interactive=False, show_label=False, visible=False, elem_id=f"{tab}-faces", buttons=[])
        which = gr.Radio([], label="Edit which one? Click it, or choose:", visible=False, elem_id=f"{tab}-which")
        example = gr.Button("No photo at hand? Try an example", size="sm", elem_id=f"{tab}-example")
        another = gr.Button("Another photo", size="sm", visible=False, elem_id=f"{tab}-another")
        with gr.Column(visible=False, elem_classes="stkit-closer") as closer_box:
            likeness = Picture(interactive=False, show_label=False, elem_id=f"{tab}-likeness", buttons=[])
            quality = gr.Radio(
                [("balanced: quicker", "balanced"), ("best: closer, takes longest", "best")],
                value="balanced",
                label="Bring the model closer to the photo",
                info="Edits fit better then. The sliders can be used meanwhile.",
                elem_id=f"{tab}-quality",
            )
            with gr.Row():
                closer = gr.Button("Come closer", size="sm", min_width=80, elem_id=f"{tab}-closer")
                cancel = gr.Button("Cancel", size="sm", min_width=80, interactive=False, elem_id=f"{tab}-cancel")
            progress = gr.HTML("", elem_id=f"{tab}-progress", elem_classes="stkit-progress")
        model = gr.Dropdown(
            list(choices), value=choices[0], label="Model", visible=len(choices) > 1, elem_id=f"{tab}-model"
        )
    return dict(
        upload=upload,
        faces=faces,
        which=which,
        example=example,
        another=another,
        model=model,
        closer_box=closer_box,
        likeness=likeness,
        quality=quality,
        closer=closer,
        cancel=cancel,
        progress=progress,
    )


def view_column(tab: str) -> dict[str, gr.components.Component]:
    """Before and after, the history, and what to take home."""
    off = {"size": "sm", "min_width": 60, "interactive": False}
    with gr.Column(scale=5, min_width=320, visible=False, elem_classes="stkit-view") as view_box:
        view = Comparison(
            label="Before | after",
            interactive=False,
            elem_id=f"{tab}-view",
            elem_classes="stkit-picture",
            slider_position=50,
            buttons=["fullscreen"],
        )
        status = gr.HTML("", elem_id=f"{tab}-status")
        with gr.Row():
            undo = gr.Button("Undo", elem_id=f"{tab}-undo", **off)
            redo = gr.Button("Redo", elem_id=f"{tab}-redo", **off)
            reset = gr.Button("Reset", elem_id=f"{tab}-reset", **off)
        whole = gr.Checkbox(label="Show the whole photo", container=False, elem_id=f"{tab}-whole")
        photo = gr.DownloadButton("Download the photo", variant="primary", interactive=False, elem_id=f"{tab}-photo")
        with gr.Accordion("For the command line and Python", open=False):
            shell = gr.Code(
                language="shell",
                label="The same on the command line",
                interactive=False,
                wrap_lines=True,
                elem_id=f"{tab}-command",
            )
            python = gr.Code(language="python", label="The same in Python", interactive=False, elem_id=f"{tab}-python")
            latents = gr.DownloadButton("Download the latents", elem_id=f"{tab}-latents", **off)
    return dict(
        view_box=view_box,
        view=view,
        status=status,
        undo=undo,
        redo=redo,
        reset=reset,
        whole=whole,
        photo=photo,
        latents=latents,
        shell=shell,
        python=python,
    )


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


__all__ = ["EditParts", "photo_column", "slider_groups", "view_column"]
