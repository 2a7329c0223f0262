"""The other tabs: mixing and morphing, samples, folders; and the functions for programs."""

from __future__ import annotations

import base64
import io
import secrets
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from stkit.plugin import (
    QUALITIES,
    UsageError,
    decode_photo,
    encode_gif,
    image_grid,
    interpolate,
    join_latents,
    mix,
    safe_name,
)
from stkit_web import work as works
from stkit_web.desk import Desk, as_html, notes, take
from stkit_web.edit_tab import CLOSER, FAST, OPEN, PLAIN, bar
from stkit_web.errors import Cancelled, told
from stkit_web.pictures import Archive, Picture, Upload

if TYPE_CHECKING:
    from stkit import Latents

_FRAMES = 24
_SAMPLES = 12
_COLUMNS = 4


def _upload(name: str) -> Upload:
    return Upload(
        sources=["upload", "clipboard", "webcam"],
        type="filepath",
        label=f"{name} photo",
        height=200,
        elem_id=f"mix-{name.lower()}",
        buttons=[],
    )


def mixing(desk: Desk, choices: Sequence[str]) -> None:
    """Two photos, a slider between them, and the way from one to the other as a GIF."""
    with gr.Row():
        with gr.Column(scale=3, min_width=260):
            model = gr.Dropdown(list(choices), value=choices[0], label="Model", visible=len(choices) > 1)
            uploads = [_upload("First"), _upload("Second")]
        with gr.Column(scale=5, min_width=300):
            picture = Picture(interactive=False, label="Between the two", elem_id="mix-view", buttons=["fullscreen"])
            amount = gr.Slider(0, 1, value=0.5, step=0.05, label="From the first to the second", elem_id="mix-amount")
            status = gr.HTML(as_html(["Drop two photos."]), elem_id="mix-status")
            with gr.Row():
                morph = gr.Button("Make a GIF", elem_id="mix-morph")
                gif = gr.DownloadButton("Download the GIF", interactive=False, elem_id="mix-gif")

    def keys(request: gr.Request) -> tuple[Latents, Latents]:
        codes = desk.seat(request, "mix").codes
        if len(codes) < 2:
            raise UsageError("mixing takes two photos; drop the other one too")
        return codes["0"], codes["1"]

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
        return [works.picture(desk.editor(weights), mix(*keys(request), share)), as_html([*said, "Move the slider."])]

    def first(path: str | None, weights: str, share: float, request: gr.Request) -> list[Any]:
        return give(0, path, weights, share, request)

    def second(path: str | None, weights: str, share: float, request: gr.Request) -> list[Any]:
        return give(1, path, weights, share, request)

    def move(weights: str, share: float, request: gr.Request) -> Any:
        return works.picture(desk.editor(weights), mix(*keys(request), share))

    def animate(weights: str, request: gr.Request) -> list[Any]:
        seat, editor = desk.seat(request, "mix"), desk.editor(weights)
        codes = interpolate(join_latents(keys(request)), _FRAMES)
        data = encode_gif([works.picture(editor, codes.row(number)) for number in range(_FRAMES)], 1 / 12)
        desk.drop_files(seat)
        path = desk.write(seat, "morph.gif", data)
        url = "data:image/gif;base64," + base64.b64encode(data).decode()
        return [url, gr.update(value=path, interactive=True)]

    def other_model(request: gr.Request) -> list[Any]:
        desk.seat(request, "mix").codes.clear()
        return [None, None, None, as_html(["Drop two photos."])]

    for upload, function in zip(uploads, (first, second), strict=True):
        upload.input(told(function), [upload, model, amount], [picture, status], show_progress_on=[status], **OPEN)
    amount.input(told(move), [model, amount], [picture], trigger_mode="always_last", **FAST)
    morph.click(told(animate), [model], [picture, gif], show_progress_on=[status], **OPEN)
    model.input(told(other_model), None, [*uploads, picture, status], **PLAIN)


def samples(
    desk: Desk, choices: Sequence[str], tabs: gr.Tabs, edit: tuple[Callable[..., Any], list[Any], list[Any]]
) -> None:
    """Random pictures of the generator, one of which can be edited in the first tab: `edit` opens it there."""
    with gr.Row():
        with gr.Column(scale=2, min_width=240):
            model = gr.Dropdown(list(choices), value=choices[0], label="Model", visible=len(choices) > 1)
            seed = gr.Number(0, precision=0, minimum=0, label="First seed", elem_id="samples-seed")
            truncation = gr.Slider(
                0, 1, value=0.7, step=0.05, label="Truncation", info="less is more usual", elem_id="samples-truncation"
            )
            draw = gr.Button("Show samples", variant="primary", elem_id="samples-draw")
            kept = gr.Number(0, precision=0, minimum=0, label="Keep seed", elem_id="samples-kept")
            go = gr.Button("Edit this one", elem_id="samples-edit")
        with gr.Column(scale=6, min_width=300):
            grid = Picture(
                interactive=False, label="Click one to keep it", elem_id="samples-view", buttons=["fullscreen"]
            )

    def show(weights: str, start: int, psi: float) -> Any:
        editor = desk.editor(weights)
        seeds = range(int(start), int(start) + _SAMPLES)
        pictures = [works.picture(editor, editor.sample([one], float(psi))).resize((256, 256)) for one in seeds]
        return image_grid(pictures, _COLUMNS, [str(one) for one in seeds])

    def keep(start: int, event: gr.SelectData) -> int:
        column, row = event.index[0] // 260, event.index[1] // 280
        return int(start) + int(min(row, _SAMPLES // _COLUMNS - 1) * _COLUMNS + min(column, _COLUMNS - 1))

    opening, inputs, outputs = edit
    draw.click(told(show), [model, seed, truncation], [grid], **OPEN)
    grid.select(told(keep), [seed], [kept], **PLAIN)
    go.click(lambda: gr.Tabs(selected="edit"), None, [tabs], **PLAIN).then(
        told(opening), [kept, truncation, model, *inputs], outputs, **OPEN
    )


def folder(desk: Desk, choices: Sequence[str]) -> None:
    """A ZIP archive of photos in, a ZIP archive of edited photos and the report out."""
    with gr.Row():
        with gr.Column(scale=4, min_width=280):
            model = gr.Dropdown(list(choices), value=choices[0], label="Model", visible=len(choices) > 1)
            upload = Archive(file_types=[".zip"], label="ZIP archive of photos", elem_id="folder-upload")
            edits = gr.Textbox(
                label="Edits, in order",
                value="smile=1",
                info="as with --edit: age=1.5 smile=-1",
                elem_id="folder-edits",
            )
            quality = gr.Radio(list(QUALITIES), value="fast", label="Quality", elem_id="folder-quality")
            everyone = gr.Checkbox(label="Every face of each photo", elem_id="folder-all")
            with gr.Row():
                start = gr.Button("Edit them", variant="primary", elem_id="folder-start")
                cancel = gr.Button("Cancel", elem_id="folder-cancel")
        with gr.Column(scale=5, min_width=300):
            status = gr.HTML("", elem_id="folder-status")
            table = gr.Dataframe(headers=["photo", "status", "reason"], interactive=False, elem_id="folder-report")
            result = gr.DownloadButton("Download the results", interactive=False, elem_id="folder-result")

    def run_all(
        path: str | None, weights: str, wanted: str, how: str, every: bool, request: gr.Request
    ) -> Iterator[list[Any]]:
        from stkit import EditRequest, run

        if path is None:
            raise UsageError("there is nothing to work on; drop a ZIP archive of photos")
        seat = desk.seat(request, "folder")
        desk.drop_files(seat)
        inside = seat.folder / secrets.token_hex(8)
        inside.mkdir(parents=True)
        archive = inside / safe_name(Path(path).name)
        archive.write_bytes(take(path, desk, request))
        seat.cancelled = cancelled = threading.Event()
        state: dict[str, Any] = {"done": 0, "total": 0}
        outcome: list[Any] = []
        asked = EditRequest(
            archive,
            out=inside / "out",
            weights=weights,
            edits=wanted.replace(",", " ").split(),
            quality=how,
            face="all" if every else "largest",
        )

        def tell(what: str, done: int, total: int) -> None:
            if cancelled.is_set():
                raise Cancelled
            state.update(done=done, total=total)

        def compute() -> None:
            try:
                outcome.append(run(asked, tell))
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=compute, daemon=True)
        thread.start()
        while thread.is_alive():
            yield [bar("photos", **state), gr.skip(), gr.skip()]
            thread.join(0.5)
        if isinstance(outcome[0], Cancelled):
            yield [as_html(["Cancelled."]), gr.skip(), gr.skip()]
            return
        if isinstance(outcome[0], BaseException):
            yield ["", gr.skip(), gr.skip()]
            raise outcome[0]
        report = outcome[0]
        rows = [[_nameless(row.photo, inside), row.status, _nameless(row.reason or "", inside)] for row in report.rows]
        data = _zip(inside / "out", inside)
        desk.drop_files(seat)
        out = desk.write(seat, f"{archive.stem}-edited.zip", data)
        done = sum(row[1] == "ok" for row in rows)
        yield [as_html([f"{done} of {len(rows)} photos are done."]), rows, gr.update(value=out, interactive=True)]

    def stop(request: gr.Request) -> str:
        desk.seat(request, "folder").cancelled.set()
        return as_html(["Cancelling ..."])

    start.click(told(run_all), [upload, model, edits, quality, everyone], [status, table, result], **CLOSER)
    cancel.click(told(stop), None, [status], **PLAIN)


def _nameless(text: str, folder: Path) -> str:
    return text.replace(f"{folder}/", "")


def _zip(out: Path, folder: Path) -> bytes:
    """What was made, without latents, which say where photos lie on this computer."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for path in sorted(out.rglob("*")):
            if path.is_file() and path.suffix != ".safetensors" and not path.name.startswith("."):
                data = path.read_bytes()
                if path.suffix in (".json", ".csv"):
                    data = data.replace(f"{folder}/".encode(), b"")
                archive.writestr(path.relative_to(out).as_posix(), data)
    return written.getvalue()


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
    hidden[0].click(told(edit), [photo, edits, weights, face, quality], [result], api_name="edit", **public)
    hidden[1].click(told(list_sliders), [weights], [sliders], api_name="sliders", **public)


__all__ = ["folder", "mixing", "program", "samples"]
