"""The tab of archives: a ZIP archive of photos in, one of edited photos and the report out."""

from __future__ import annotations

import io
import secrets
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from stkit.plugin import QUALITIES, UsageError, safe_name
from stkit_web.desk import Desk, Seat, as_html, take
from stkit_web.errors import Cancelled, told
from stkit_web.events import CLOSER, PLAIN, Background
from stkit_web.pictures import Archive


def folder(desk: Desk, choices: Sequence[str]) -> None:
    """The tab."""
    with gr.Row():
        with gr.Column(scale=4, min_width=280):
            model = gr.Dropdown(list(choices), value=choices[0], label="Model", visible=len(choices) > 1)
            upload = Archive(file_types=[".zip"], label="ZIP archive of photos", elem_id="folder-upload")
            edits = gr.Textbox(
                label="Edits, in order",
                value="smile=1",
                info="names of sliders and how far, like: age=1.5 smile=-1",
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
    actions = _Actions(desk, status, table, result)
    start.click(told(actions.edit_all), [upload, model, edits, quality, everyone], [status, table, result], **CLOSER)
    cancel.click(told(actions.cancel), None, [status], queue=False, **PLAIN)


@dataclass(frozen=True, eq=False)
class _Actions:
    desk: Desk
    status: gr.HTML
    table: gr.Dataframe
    result: gr.DownloadButton

    def edit_all(
        self, path: str | None, weights: str, edits: str, quality: str, every: bool, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        from stkit import EditRequest, run

        if path is None:
            raise UsageError("there is nothing to work on; drop a ZIP archive of photos")
        seat = self.desk.seat(request, "folder")
        archive = self._place(seat, Path(path).name, take(path, self.desk, request))
        asked = EditRequest(
            archive,
            out=archive.parent / "out",
            weights=weights,
            edits=edits.replace(",", " ").split(),
            quality=quality,
            face="all" if every else "largest",
        )
        seat.cancelled = cancelled = threading.Event()
        job = Background(lambda tell: run(asked, lambda what, done, total: tell(done, total)), cancelled)
        while job.running():
            yield {self.status: job.bar("photos")}
        try:
            report = job.result()
        except Cancelled:
            yield {self.status: as_html(["Cancelled."])}
            return
        except Exception:
            yield {self.status: ""}
            raise
        yield self._finished(seat, archive, report)

    def cancel(self, request: gr.Request) -> str:
        self.desk.seat(request, "folder").cancelled.set()
        return as_html(["Cancelling ..."])

    def _place(self, seat: Seat, name: str, data: bytes) -> Path:
        """The archive in an empty folder of the seat's."""
        self.desk.drop_files(seat)
        path = seat.folder / secrets.token_hex(8) / safe_name(name)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        return path

    def _finished(self, seat: Seat, archive: Path, report: Any) -> dict[Any, Any]:
        inside = archive.parent
        rows = [[_nameless(row.photo, inside), row.status, _nameless(row.reason or "", inside)] for row in report.rows]
        data = _zip(inside / "out", inside)
        self.desk.drop_files(seat)
        out = self.desk.write(seat, f"{archive.stem}-edited.zip", data)
        done = sum(row[1] == "ok" for row in rows)
        return {
            self.status: as_html([f"{done} of {len(rows)} photos are done."]),
            self.table: rows,
            self.result: gr.update(value=out, interactive=True),
        }


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


__all__ = ["folder"]
