"""`stkit sample`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from stkit.cli.common import DeviceFlag, DomainFlag, OutFlag, WeightsFlag, console, open_editor, waiting
from stkit.errors import UsageError

COMMAND = "sample"


def run(
    seeds: Annotated[str, typer.Option("--seeds", help="Like 0-15 or 3,7,20-24.")] = "0-15",
    trunc: Annotated[float, typer.Option("--trunc", help="Truncation psi: 1 is none, 0 the mean image.")] = 0.7,
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    out: OutFlag = Path("out"),
    device: DeviceFlag = "auto",
) -> None:
    """Draw random images from the generator as one grid, with their latents."""
    numbers = parse_seeds(seeds)
    from stkit.jobs.outputs import LATENTS_SUFFIX
    from stkit.latents.latents import save_latents
    from stkit.photo.images import image_grid, save_image

    editor = open_editor(domain, weights, device)
    latents = editor.sample(numbers, trunc)
    with waiting("drawing"):
        images = [editor.picture(image) for image in editor.generate(latents)]
    grid = image_grid(images, columns=math.ceil(math.sqrt(len(images))), captions=[f"seed {n}" for n in numbers])
    base = out / editor.sample_name(seeds, trunc)
    grid_path, latents_path = base.with_name(base.name + ".png"), base.with_name(base.name + LATENTS_SUFFIX)
    save_image(grid, grid_path)
    save_latents(latents, latents_path)
    console.print(f"{grid_path}\n{latents_path}")


def parse_seeds(text: str) -> list[int]:
    """The seeds of a list like 3,7,20-24. Raises UsageError; at most 1024."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            raise UsageError(f"--seeds '{text}' are not like 0-15 or 3,7,20-24") from None
        if high >= 2**63:
            raise UsageError(f"--seeds '{text}': {high} is too large; give numbers below 2**63")
        if high < low or high - low >= 1024 or len(seeds) + high - low >= 1024:
            raise UsageError(f"--seeds '{text}': give 1 to 1024 seeds, the smaller number of a range first")
        seeds += range(low, high + 1)
    return seeds


__all__ = ["COMMAND", "parse_seeds", "run"]
