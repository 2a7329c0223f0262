"""The tab of random pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from stkit.plugin import image_grid
from stkit_web import work as works
from stkit_web.desk import Desk
from stkit_web.edit_tab import Opener
from stkit_web.errors import told
from stkit_web.events import OPEN, PLAIN
from stkit_web.pictures import Picture

_SAMPLES = 12
_COLUMNS = 4


def samples(desk: Desk, choices: Sequence[str], tabs: gr.Tabs, edit: Opener) -> None:
    """Random pictures of the generator, one of which can be edited in the first tab: `edit` opens it there."""
    with gr.Row():
        with gr.Column(scale=2, min_width=240):
            model = gr.Dropdown(list(choices), value=choices[0], label="Model", visible=len(choices) > 1)
            seed = gr.Number(0, precision=0, minimum=0, label="First number (seed)", elem_id="samples-seed")
            truncation = gr.Slider(
                0,
                1,
                value=0.7,
                step=0.05,
                label="Variety (truncation)",
                info="less gives more usual pictures",
                elem_id="samples-truncation",
            )
            draw = gr.Button("Show samples", variant="primary", elem_id="samples-draw")
            kept = gr.Number(0, precision=0, minimum=0, label="Number of the one to edit", elem_id="samples-kept")
            go = gr.Button("Edit that one", elem_id="samples-edit")
        with gr.Column(scale=6, min_width=300):
            grid = Picture(
                interactive=False, label="Click one to choose it", elem_id="samples-view", buttons=["fullscreen"]
            )

    def show(weights: str, start: int, psi: float) -> Any:
        editor = desk.editor(weights)
        seeds = range(int(start), int(start) + _SAMPLES)
        pictures = [works.picture(editor, editor.sample([one], float(psi))).resize((256, 256)) for one in seeds]
        return image_grid(pictures, _COLUMNS, [str(one) for one in seeds])

    def keep(start: int, event: gr.SelectData) -> int:
        column, row = event.index[0] // 260, event.index[1] // 280
        return int(start) + int(min(row, _SAMPLES // _COLUMNS - 1) * _COLUMNS + min(column, _COLUMNS - 1))

    draw.click(told(show), [model, seed, truncation], [grid], **OPEN)
    grid.select(told(keep), [seed], [kept], **PLAIN)
    go.click(lambda: gr.Tabs(selected="edit"), None, [tabs], **PLAIN).then(
        told(edit.open), [kept, truncation, model, *edit.inputs], **edit.event, **OPEN
    )


__all__ = ["samples"]
