"""`stkit train mapping`."""

from __future__ import annotations

from typing import Annotated

import typer

from stkit.cli.flags import takes
from stkit.cli.train.common import IMAGE_RUN, VOICE, BatchFlag, DataArgument, OutFlag, StepsFlag
from stkit.training.config import MappingRecipe

FLAGS = {
    "data": DataArgument,
    "out": OutFlag,
    "init": Annotated[str, typer.Option("--init", help="Weights whose mapping network to replace.")],
    "steps": StepsFlag,
    "batch": BatchFlag,
    "mapping_layers": Annotated[
        int, typer.Option("--mapping-layers", help="Layers of the new mapping network, 3 to 8.")
    ],
    **{name: flag for name, flag in IMAGE_RUN.items() if name not in ("domain", "licence", "compile")},
}


@takes(MappingRecipe, FLAGS)
def run(recipe: MappingRecipe) -> None:
    """Make samples look like photos: a new mapping network, which gives codes like those of the photos."""
    from stkit.training.recipes import train_mapping

    train_mapping(recipe, VOICE)


__all__ = ["run"]
