"""Codes of labelled photos by an engine: workers invert, and the cache that fits read gets what they found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from stkit.datasets.codes import CodesCache, frame_pixels, invert_crops
from stkit.datasets.images import ImageFiles
from stkit.editor.editor import Editor
from stkit.editor.opening import open_editor
from stkit.errors import PhotoError
from stkit.jobs.report import Row
from stkit.jobs.request import LabelledRequest
from stkit.jobs.sources import Item
from stkit.jobs.spreading import spread_rows
from stkit.latents.latents import Latents

_TOGETHER = 16


class CachedCodesJob:
    """Inverts photos of a folder or archive as `invert_files` does; the codes are in `Row.latents`: a `runner.Job`."""

    def __init__(self, request: LabelledRequest, editor: Editor | None = None) -> None:
        assert request.images is not None  # a request of samples has nothing to spread
        self.editor = editor or open_editor(request.domain, request.weights, request.device)
        self.inverter = self.editor.registry.inverter_for(self.editor.weights, request.inverter)
        self.domain = None if request.aligned else self.editor.domain
        self.files = ImageFiles(request.images)

    def prepare(self, item: Item) -> tuple[str, Tensor]:
        """The sha256 of its bytes, and its pixels."""
        data = self.files.read(str(item.name))
        pixels = frame_pixels(self.editor.weights, data, str(item.name), self.domain)
        return hashlib.sha256(data).hexdigest(), pixels

    def compute(self, prepared: Sequence[tuple[str, Tensor]]) -> Sequence[tuple[str, Tensor]]:
        """The sha256 and the codes [num_ws, w_dim] of each."""
        crops = [pixels for _, pixels in prepared]
        codes = invert_crops(self.editor.weights, crops, self.inverter, self.editor.device)
        return [(key, row) for (key, _), row in zip(prepared, codes, strict=True)]

    def finish(self, item: Item, result: tuple[str, Tensor]) -> Row:
        """The row that has them."""
        key, codes = result
        return Row(str(item.path), "ok", sha256=key, latents=Latents(codes[None], self.editor.weights.space))


def fill_cache(
    editor: Editor, request: LabelledRequest, on_progress: Callable[[int, int], None]
) -> Callable[[Sequence[str]], dict[str, str]] | None:
    """What has photos of the request's images, by name, inverted by its engine into the cache; None without an engine.

    It gives why some of them cannot be inverted, by name. Raises UsageError for an engine or a cluster that is none.
    """
    make_job: Callable[[], Any] = partial(CachedCodesJob, request)
    spread = spread_rows(request, make_job, _TOGETHER)
    return None if spread is None else partial(_fill, editor, request, on_progress, spread)


def _fill(
    editor: Editor,
    request: LabelledRequest,
    on_progress: Callable[[int, int], None],
    spread: Callable[[Sequence[Item]], Iterator[Row]],
    names: Sequence[str],
) -> dict[str, str]:
    own = CachedCodesJob(request, editor)
    cache = CodesCache(editor.weights, own.inverter, own.domain)
    missing = {str(Path(name)): name for name in names if _key(own.files, name) not in cache}
    items = [Item(Path(path), PurePosixPath(name)) for path, name in missing.items()]
    failed = {}
    with cache:
        for done, row in enumerate(spread(items), 1):
            if row.latents is not None:
                cache.add(row.sha256, row.latents.codes[0])
            else:
                failed[missing[row.photo]] = row.reason
            on_progress(done, len(missing))
    return failed


def _key(files: ImageFiles, name: str) -> str:
    try:
        return hashlib.sha256(files.read(name)).hexdigest()
    except PhotoError:  # which a worker will say
        return ""


__all__ = ["CachedCodesJob", "fill_cache"]
