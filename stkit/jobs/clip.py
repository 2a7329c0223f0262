"""The job of `stkit edit CLIP`: a video edited, with a description and a row in the report as photos have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stkit.editor.editor import Editor
from stkit.editor.steps import chain_label
from stkit.errors import OutputError, PhotoError
from stkit.files import file_sha256
from stkit.jobs.edit import edit_settings, inverter_name
from stkit.jobs.outputs import (
    description_bytes,
    discard,
    earlier_results,
    inversion_settings,
    read_description,
    with_end,
    write_results,
)
from stkit.jobs.report import Result, Row
from stkit.jobs.sources import Item
from stkit.jobs.video import VideoEdit, VideoReport, edit_video

_KEPT = (".mp4", ".mov", ".mkv", ".m4v")


@dataclass(frozen=True, eq=False)
class ClipJob:
    """Edits videos into folders below `out`: a `jobs.runner.Job`, whose clips are alone.

    An earlier result of the same clip with the same edits is kept; another is in the way, unless `overwrite`. `tell` is
    as in `edit_video`.
    """

    editor: Editor
    out: Path
    edit: VideoEdit
    batch_size: int = 8
    overwrite: bool = False
    tell: Callable[[str, int, int], None] | None = None
    settings: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        name = inverter_name(self.editor, self.edit.inverter) or "none"
        edit = self.edit
        settings = {
            **inversion_settings(self.editor, name, edit.options),
            **edit_settings(self.editor, edit.steps, edit.references, edit.seed),
            "blend": edit.blend,
            "smooth": edit.smooth,
        }
        settings |= {} if edit.mark else {"mark": False}
        object.__setattr__(self, "settings", settings)

    def path(self, item: Item) -> Path:
        """Where the edited clip goes."""
        suffix = item.path.suffix.lower()
        end = f".{chain_label(self.edit.steps)}{suffix if suffix in _KEPT else '.mkv'}"
        return with_end(item.base(self.out), end)

    def prepare(self, item: Item) -> Row | tuple[Item, str]:
        """Read the clip once for its sha256; the Row of an earlier result where it serves."""
        try:
            sha256 = file_sha256(item.path)
        except OSError as error:
            raise PhotoError(
                f"cannot read {item.path} as a video: {error.strerror}; copy or convert it again"
            ) from error
        path, description = self.path(item), with_end(self.path(item), ".json")
        if path.exists() and not self.overwrite:
            if read_description(description) is None:
                raise OutputError(f"{path} is there already; --overwrite replaces it")
            known = earlier_results(description, [path], sha256, self.settings)
            if known is not None:
                return self._row(item, "kept", sha256, VideoReport(**known["report"]))
        return item, sha256

    def compute(self, prepared: Sequence[tuple[Item, str]]) -> Sequence[tuple[str, VideoReport]]:
        """Edit the clips, each into its file."""
        done = []
        for item, sha256 in prepared:
            path = self.path(item)
            discard([with_end(path, ".json")])
            report = edit_video(self.editor, item.path, path, self.edit, self.batch_size, self.tell)
            done.append((sha256, report))
        return done

    def finish(self, item: Item, result: tuple[str, VideoReport]) -> Row:
        """Describe the clip, which is there."""
        sha256, report = result
        description = {
            "photo": str(item.path.absolute()),
            "sha256": sha256,
            "domain": self.editor.domain.name,
            "weights": self.editor.weights.name,
            "generator": self.editor.weights.fingerprint,
            "report": dataclasses.asdict(report),
            "settings": self.settings,
        }
        path = with_end(self.path(item), ".json")
        write_results({path: description_bytes(description)}, alone=False, overwrite=True)
        return self._row(item, "ok", sha256, report)

    def _row(self, item: Item, status: Any, sha256: str, report: VideoReport) -> Row:
        path, noun = self.path(item), self.editor.domain.noun
        summary = f"{report.edited} of {report.frames} frames edited, {report.without_subject} without a {noun}"
        result = Result((path, with_end(path, ".json")), dataclasses.asdict(report), summary)
        return Row(str(item.path), status, folder=str(path.parent), sha256=sha256, results=(result,))


__all__ = ["ClipJob"]
