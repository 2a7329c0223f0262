"""`stkit train generator`."""

from __future__ import annotations

from typing import Annotated

import typer

from stkit.cli.flags import takes
from stkit.cli.train.common import IMAGE_RUN, SHAPE, VOICE, BatchFlag, DataArgument, OutFlag, StepsFlag
from stkit.training.config import GeneratorRecipe

FLAGS = {
    "data": DataArgument,
    "out": OutFlag,
    "steps": StepsFlag,
    "batch": BatchFlag,
    **SHAPE,
    "init": Annotated[str | None, typer.Option("--init", help="Weights whose generator to start from.")],
    "learning_rate": Annotated[float, typer.Option("--learning-rate", help="Of both networks.")],
    "r1_gamma": Annotated[float | None, typer.Option("--r1-gamma", help="By default StyleGAN2-ADA's rule.")],
    "discriminator": Annotated[str, typer.Option("--discriminator", help="stylegan2 or projected.")],
    "warmup": Annotated[
        int, typer.Option("--warmup", min=0, help="Steps at the start in which the discriminator alone learns.")
    ],
    "keep": Annotated[
        float | None,
        typer.Option("--keep", min=0, help="Keep what --init's inverter reconstructs: the weight of MSE + LPIPS."),
    ],
    "ada": Annotated[bool, typer.Option("--ada/--no-ada", help="Adaptive discriminator augmentation.")],
    **IMAGE_RUN,
}


@takes(GeneratorRecipe, FLAGS)
def run(recipe: GeneratorRecipe) -> None:
    """Train a StyleGAN2 generator against a discriminator: StyleGAN2's own with ADA, or a projected one."""
    from stkit.training.recipes import train_generator

    train_generator(recipe, VOICE)


__all__ = ["run"]
