"""The same edit outside the page: its command line, its Python, and what its files are called."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stkit.plugin import LATENTS_SUFFIX, chain_label
from stkit_web.work import steps, texts

if TYPE_CHECKING:
    from stkit_web.work import Work


def command(work: Work) -> str:
    """The command line that gives the same bytes; two for a sample, which the first one draws."""
    name = _source(work)
    flags = [part for text in texts(work.edits) for part in ("--edit", text)]
    if work.reference:
        flags += ["--ref", _plain(work.reference)]
    if work.sample is None:
        chosen = ["--weights", work.editor.weights.name, "--face", work.face, "--quality", work.quality]
        return shlex.join(["stkit", "edit", _plain(name), *chosen, *flags])
    seed, truncation = work.sample
    drawn = ["--weights", work.editor.weights.name, "--seeds", str(seed), "--trunc", f"{truncation:g}", "--out", "."]
    return f"{shlex.join(['stkit', 'sample', *drawn])}\n{shlex.join(['stkit', 'edit', name, *flags])}"


def python(work: Work) -> str:
    """The lines of Python that give the same bytes."""
    name, weights = _source(work), work.editor.weights.name
    request: dict[str, Any] = {"edits": texts(work.edits), **({"ref": [work.reference]} if work.reference else {})}
    drawn = ""
    if work.sample is None:
        request = {"weights": weights, "face": work.face, "quality": work.quality, **request}
    else:
        seed, truncation = work.sample
        drawn = (
            f"latents = stkit.load({weights!r}).sample([{seed}], {truncation})\nstkit.save_latents(latents, {name!r})\n"
        )
    lines = "".join(f"    {key}={value!r},\n" for key, value in request.items())
    return f"import stkit\n\n{drawn}stkit.run(stkit.EditRequest(\n    {name!r},\n{lines}))\n"


def named(work: Work, end: str) -> str:
    """What a file of the edit is called."""
    label = chain_label(steps(work)) if work.edits else "unedited"
    return f"{Path(work.photo.path.name).stem}.{label}{end}"


def _source(work: Work) -> str:
    """What is edited: the photo, or the codes that `stkit sample` writes beside its picture."""
    name = work.photo.path.name
    return name if work.sample is None else Path(name).stem + LATENTS_SUFFIX


def _plain(name: str) -> str:
    """No flag, whatever the photo is called."""
    return f"./{name}" if name.startswith("-") else name


__all__ = ["command", "named", "python"]
