"""What `gradio_client` can call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from stkit.plugin import UsageError, decode_photo
from stkit_web import work as works
from stkit_web.desk import Desk, take
from stkit_web.errors import told
from stkit_web.events import OPEN
from stkit_web.pictures import Archive


def program(desk: Desk, choices: Sequence[str]) -> None:
    """What `gradio_client` can call: `/edit` and `/sliders`."""
    with gr.Column(visible=False):
        photo = Archive(label="photo")
        edits = gr.JSON(label="edits")
        weights = gr.Textbox(choices[0], label="weights")
        face = gr.Textbox("1", label="face")
        quality = gr.Textbox("fast", label="quality")
        result = gr.File(label="edited photo")
        sliders = gr.JSON(label="sliders")
        hidden = [gr.Button(), gr.Button()]

    def edit(path: str | None, wanted: Any, name: str, which: str, how: str, request: gr.Request) -> str:
        """Edit a photo. `edits` are like ["smile=1", "ganspace:pc3=-2"], in order; gives the photo with them in it."""
        if path is None or not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
            raise UsageError('give a photo and edits like ["smile=1", "age=-2"]')
        seat = desk.seat(request, "program")
        desk.drop_files(seat)
        file = Path(path).name
        source = decode_photo(take(path, desk, request), Path(file))
        editor = desk.editor(name)
        work = works.locate(editor, source)
        works.choose(work, which)
        for text in wanted:
            editor.parse_step(text)  # says what is wrong before an inversion takes its time
        works.invert(work, how)
        assert work.latents is not None
        done = editor.edit(work.latents, edits=wanted, photo=source)
        end = f"{Path(file).stem}.edited{done.suffix}"
        return str(desk.write(seat, end, done.encode(Path(end))))

    def list_sliders(name: str) -> dict[str, Any]:
        """What can be edited with these weights: by method, each attribute with its safe range."""
        known = works.knobs(desk.editor(name))
        return {method: {one.key: [one.low, one.high] for one in own} for method, own in known.items()}

    public = {**OPEN, "api_visibility": "public"}
    hidden[0].click(
        told(edit, program=True), [photo, edits, weights, face, quality], [result], api_name="edit", **public
    )
    hidden[1].click(told(list_sliders, program=True), [weights], [sliders], api_name="sliders", **public)


__all__ = ["program"]
