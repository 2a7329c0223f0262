"""`stkit edit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stkit.cli.common import EditOutFlag
from stkit.cli.flags import takes
from stkit.cli.requests import MANY, SHARED, end, print_files, run_request
from stkit.cli.seeing import PreviewFlag, ShowFlag, print_preview, show_images
from stkit.errors import UsageError
from stkit.jobs.request import EditRequest

COMMAND = "edit"

FLAGS = {
    "source": Annotated[
        list[str],
        typer.Argument(help="A photo, a video, or latents that stkit wrote; or folders, patterns, archives, URLs."),
    ],
    "method": Annotated[str | None, typer.Option("--method", help="How to edit; see `stkit methods`.")],
    "attribute": Annotated[str | None, typer.Option("--attribute", help="What to change.")],
    "strength": Annotated[
        float | None, typer.Option("--strength", help="How far; 1, the default, is one standard deviation.")
    ],
    "edits": Annotated[
        list[str] | None,
        typer.Option("--edit", metavar="[METHOD:]ATTRIBUTE=STRENGTH", help="Instead of --method; repeat to chain."),
    ],
    "sweep": Annotated[
        str | None, typer.Option("--sweep", metavar="FIRST:LAST:COUNT", help="A strip of strengths, like -3:3:7.")
    ],
    "animate": Annotated[bool, typer.Option("--animate", help="With --sweep, a GIF too.")],
    "ref": Annotated[list[Path] | None, typer.Option("--ref", help="A reference photo; may be repeated.")],
    "layers": Annotated[str | None, typer.Option("--layers", help="Layers to edit, like 4-7; 0 is the coarsest.")],
    "blend": Annotated[str, typer.Option("--blend", help="auto, residual, replace or poisson.")],
    "mark": Annotated[bool, typer.Option("--mark/--no-mark", help="Say in the photo's metadata that it was edited.")],
    "crop_only": Annotated[bool, typer.Option("--crop-only", help="The aligned crop instead of the photo.")],
    **{name: SHARED[name] for name in ("face", "landmarks", "box", "domain", "weights", "inverter")},
    **{name: SHARED[name] for name in ("quality", "refine", "options")},
    "out": EditOutFlag,
    "overwrite": SHARED["overwrite"],
    "show": ShowFlag,
    "preview": PreviewFlag,
    "device": SHARED["device"],
    "seed": Annotated[int, typer.Option("--seed", help="For methods that draw random numbers.")],
    **{name: SHARED[name] for name in MANY},
    "smooth": Annotated[float, typer.Option("--smooth", min=0, help="For a video: smoothing over time, in seconds.")],
}


@takes(EditRequest, FLAGS, {"source": "sources"})
def run(request: EditRequest, show: bool = False, preview: bool = False) -> None:
    """Edit a photo, or its latents without inverting again; write the edited photo and the edited latents.

    Folders, patterns, ZIP archives and latents of many photos go through in batches, as with `stkit invert`; of a video
    every frame is edited.
    """
    from PIL import Image

    from stkit.jobs.sources import is_one_photo

    if (show or preview) and not is_one_photo(request.names):
        raise UsageError("--sweep, --show and --preview are for one photo; name it alone")
    report = run_request(request)
    if report.alone:
        (row,) = report.rows
        (result,) = row.results
        if preview:
            print_preview(result.view or Image.open(result.files[0]))
        print_files(row)
        if show:
            show_images(result.files[:1])
    end(report)


__all__ = ["COMMAND", "run"]
