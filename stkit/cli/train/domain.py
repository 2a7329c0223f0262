"""`stkit train domain`: from a folder of photos to weights that `--weights NAME` finds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stkit.cli.common import console
from stkit.cli.flags import takes
from stkit.cli.train.common import IMAGE_RUN, SHAPE, VOICE, BatchFlag, LicenceFlag, ResolutionFlag, StepsFlag
from stkit.training.config import DomainRecipe

FLAGS = {
    "photos": Annotated[Path, typer.Argument(help="A folder or a zip of photos, as they are.")],
    "name": Annotated[str, typer.Option("--name", help="What the weights will be called.")],
    "domain": Annotated[str, typer.Option("--domain", help="Who aligns the photos; see `stkit domains`.")],
    "aligned": Annotated[bool, typer.Option("--aligned", help="The photos are aligned for the domain already.")],
    "resolution": ResolutionFlag,
    "steps": StepsFlag,
    "mapping_steps": Annotated[
        int, typer.Option("--mapping-steps", min=0, help="Steps after it that make samples look like the photos.")
    ],
    "sharpen": Annotated[
        int, typer.Option("--sharpen", min=0, help="Steps after those that make samples and reconstructions sharper.")
    ],
    "batch": BatchFlag,
    **{name: flag for name, flag in SHAPE.items() if name != "resolution"},
    "licence": LicenceFlag,
    **{name: flag for name, flag in IMAGE_RUN.items() if name not in ("domain", "licence")},
}


@takes(DomainRecipe, FLAGS)
def run(recipe: DomainRecipe) -> None:
    """Train everything for photos of your own: generator, inverter and what editing methods need without labels."""
    from stkit.training.pipeline import train_domain

    weights = train_domain(recipe, VOICE)
    if weights is not None:  # otherwise it was interrupted, and the loop has said how to go on
        console.print(f"done; use it with --weights {weights.name}, it is in {weights.folder}")


__all__ = ["run"]
