"""`stkit morph`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stkit.cli.common import (
    DeviceFlag,
    DomainFlag,
    InverterFlag,
    OverwriteFlag,
    WeightsFlag,
    console,
    open_editor,
    progress_bar,
)
from stkit.cli.latents import editor_of, require_free
from stkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

COMMAND = "morph"


def run(
    sources: Annotated[list[Path], typer.Argument(help="Two or more photos or latent files, in order.")],
    frames: Annotated[int, typer.Option("--frames", min=2, help="How many pictures, ends included.")] = 30,
    rate: Annotated[float, typer.Option("--rate", min=0.1, max=100, help="Pictures a second.")] = 15,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A .gif or .mp4, a strip (.png), or a folder for PNG files; out/A-B.mp4 otherwise."),
    ] = None,
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    inverter: InverterFlag = None,
    device: DeviceFlag = "auto",
    overwrite: OverwriteFlag = False,
) -> None:
    """Go from one subject to the next along a straight line between their codes, as a GIF, a video or pictures."""
    import importlib.util

    from stkit.files import safe_name
    from stkit.jobs.animation import write_frames
    from stkit.jobs.sources import is_latents, open_latents
    from stkit.latents.latents import interpolate, join_latents

    if out is None:
        video = importlib.util.find_spec("av") is not None
        names = [source.name.split(".")[0] for source in sources]
        out = Path("out", safe_name("-".join(names)) + (".mp4" if video else ".gif"))
        if not video:
            console.print("writing a GIF; for MP4 run: pip install 'stkit[video]'")
    if len(sources) < 2:
        raise UsageError("a morph needs two photos or latent files; name another one")
    require_free(out, overwrite)
    files = {source: open_latents(source, domain, weights) for source in sources if is_latents(str(source))}
    if files:
        editor = editor_of(next(iter(files.values())), weights, device, domain)
    else:
        editor = open_editor(domain, weights, device)
    with progress_bar("inverting") as on_progress:
        photos = {
            source: editor.invert(source, inverter, on_progress=on_progress).latents
            for source in sources
            if source not in files
        }
    keys = [{**files, **photos}[source] for source in sources]
    codes = interpolate(join_latents(keys), frames)
    with progress_bar("frames") as progress:

        def images() -> Iterator[Image.Image]:
            for number in range(frames):
                yield editor.picture(editor.generate(codes.row(number))[0])
                progress(number + 1, frames)

        write_frames(images(), out, rate)
    console.print(str(out))


__all__ = ["COMMAND", "run"]
