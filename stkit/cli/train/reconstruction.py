"""`stkit train reconstruction`."""

from __future__ import annotations

from typing import Annotated

import typer

from stkit.cli.flags import takes
from stkit.cli.train.common import IMAGE_RUN, SHAPE, VOICE, BatchFlag, DataArgument, OutFlag, StepsFlag
from stkit.training.config import ReconstructionRecipe

FLAGS = {
    "data": DataArgument,
    "out": OutFlag,
    "steps": StepsFlag,
    "batch": BatchFlag,
    **SHAPE,
    "init": Annotated[str | None, typer.Option("--init", help="Weights whose two networks to start from.")],
    "learning_rate": Annotated[float, typer.Option("--learning-rate")],
    "generator_rate": Annotated[
        float | None,
        typer.Option("--generator-rate", min=0.01, help="The generator's, as a multiple of it: 5, with --init 1."),
    ],
    "grow_from": Annotated[
        int | None, typer.Option("--grow-from", min=8, help="Resolution to start at; it doubles up to --resolution.")
    ],
    "input_resolution": Annotated[
        int | None,
        typer.Option("--input-resolution", min=32, help="What the inverter sees; default the resolution, or --init's."),
    ],
    "lpips": Annotated[float, typer.Option("--lpips", help="Weight of LPIPS-Alex.")],
    "mean_share": Annotated[
        float, typer.Option("--mean-share", min=0, max=1, help="Of each batch, rendered from its mean w.")
    ],
    **IMAGE_RUN,
}


@takes(ReconstructionRecipe, FLAGS)
def run(recipe: ReconstructionRecipe) -> None:
    """Train a generator and its inverter together by reconstruction: the quickest start, also on a CPU."""
    from stkit.training.recipes import train_reconstruction

    train_reconstruction(recipe, VOICE)


__all__ = ["run"]
