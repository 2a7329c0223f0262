"""The tab that mixes two photos."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from stkit.plugin import UsageError, decode_photo, encode_gif, interpolate, join_latents, mix
from stkit_web import work as works
from stkit_web.desk import Desk, as_html, notes, take
from stkit_web.errors import told
from stkit_web.events import FAST, LAST, OPEN, PLAIN
from stkit_web.pictures import Picture, Upload, photo_upload

if TYPE_CHECKING:
    from stkit import Latents

_FRAMES = 24


def _upload(name: str) -> Upload:
    return photo_upload(label=f"{name} photo", height=200, elem_id=f"mix-{name.lower()}")


def _keys(desk: Desk, request: gr.Request) -> tuple[Latents, Latents]:
    codes = desk.seat(request, "mix").codes
    if len(codes) < 2:
        raise UsageError("mixing takes two photos; drop the other one too")
    return codes["0"], codes["1"]


def mixing(desk: Desk, choices: Sequence[str]) -> None:
    """Two photos, a slider between them, and the way from one to the other as a GIF."""
    with gr.Row():
        with gr.Column(scale=3, min_width=260):
            model = gr.Dropdown(list(choices), value=choices[0], label="Model", visible=len(choices) > 1)
            uploads = [_upload("First"), _upload("Second")]
        with gr.Column(scale=5, min_width=300):
            picture = Picture(interactive=False, label="Between the two", elem_id="mix-view", buttons=["fullscreen"])
            amount = gr.Slider(0, 1, value=0.5, step=0.05, label="From the first to the second", elem_id="mix-amount")
            status = gr.HTML(as_html(["Drop two photos: the slider goes from one to the other."]), elem_id="mix-status")
            with gr.Row():
                morph = gr.Button("Make a GIF", elem_id="mix-morph")
                gif = gr.DownloadButton("Download the GIF", interactive=False, elem_id="mix-gif")

    def give(which: int, path: str | None, weights: str, share: float, request: gr.Request) -> list[Any]:
        seat = desk.seat(request, "mix")
        if path is None:
            seat.codes.pop(str(which), None)
            return [gr.skip(), as_html(["Drop two photos."])]
        name = Path(path).name
        photo = decode_photo(take(path, desk, request), Path(name))
        with notes() as said:
            seat.codes[str(which)] = desk.editor(weights).invert(photo).latents
        if len(seat.codes) < 2:
            return [gr.skip(), as_html([*said, "Now the other photo."])]
        return [
            works.picture(desk.editor(weights), mix(*_keys(desk, request), share)),
            as_html([*said, "Move the slider."]),
        ]

    def first(path: str | None, weights: str, share: float, request: gr.Request) -> list[Any]:
        return give(0, path, weights, share, request)

    def second(path: str | None, weights: str, share: float, request: gr.Request) -> list[Any]:
        return give(1, path, weights, share, request)

    def move(weights: str, share: float, request: gr.Request) -> Any:
        with desk.looking:
            return works.picture(desk.editor(weights), mix(*_keys(desk, request), share))

    def animate(weights: str, request: gr.Request) -> list[Any]:
        seat, editor = desk.seat(request, "mix"), desk.editor(weights)
        codes = interpolate(join_latents(_keys(desk, request)), _FRAMES)
        data = encode_gif([works.picture(editor, codes.row(number)) for number in range(_FRAMES)], 1 / 12)
        desk.drop_files(seat)
        path = desk.write(seat, "morph.gif", data)
        url = "data:image/gif;base64," + base64.b64encode(data).decode()
        return [url, gr.update(value=path, interactive=True)]

    def other_model(request: gr.Request) -> list[Any]:
        desk.seat(request, "mix").codes.clear()
        return [None, None, None, as_html(["Drop two photos."])]

    for upload, function in zip(uploads, (first, second), strict=True):
        upload.input(
            told(function), [upload, model, amount], [picture, status], show_progress_on=[status], **OPEN, **LAST
        )
    amount.input(told(move), [model, amount], [picture], **FAST, **LAST)
    morph.click(told(animate), [model], [picture, gif], show_progress_on=[status], **OPEN)
    model.input(told(other_model), None, [*uploads, picture, status], **PLAIN, **LAST)


__all__ = ["mixing"]
