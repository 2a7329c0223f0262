"""`stkit name-component`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stkit.plugin import DomainFlag, ReplaceFlag, UsageError, WeightsFlag, console, open_weights


def run(
    component: Annotated[str, typer.Argument(help="pc1, pc2, ... or act1, act2, ...")],
    name: Annotated[str, typer.Argument(help="What it is to be called.")],
    layers: Annotated[str | None, typer.Option("--layers", help="Layers to edit by default, like 0-3.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="The other way round.")] = False,
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    out: Annotated[Path | None, typer.Option("--out", help="Another folder than that of your own weights.")] = None,
    replace: ReplaceFlag = False,
) -> None:
    """Name a component of ganspace by what it does: then `--method ganspace --attribute NAME`."""
    from stkit.plugin import LayerRange, check_direction_name, own_folder, save_direction
    from stkit_ganspace.named import KIND, name_component, parse_number

    check_direction_name(name)
    if parse_number(name):
        raise UsageError(f"'{name}' is the number of a component; give it a name")
    found = open_weights(domain, weights)
    path = (out or own_folder(found)) / f"{KIND}-{name}.safetensors"
    if path.exists() and not replace:
        raise UsageError(f"{path} exists; choose another name, or --replace it")
    chosen = LayerRange.parse(layers) if layers else None
    save_direction(path, name_component(found, component, name, chosen, flip), found)
    console.print(f"{path}\nuse it with --method ganspace --attribute {name}")


__all__ = ["run"]
