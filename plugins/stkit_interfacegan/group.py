"""`stkit directions`: list, show, export, import, remove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stkit.plugin import (
    DomainFlag,
    ReplaceFlag,
    StkitError,
    UnknownNameError,
    UsageError,
    WeightsFlag,
    console,
    open_weights,
    print_facts,
    print_table,
)

if TYPE_CHECKING:
    from stkit.plugin import Direction, LayerRange, Weights

Name = Annotated[str, typer.Argument(help="The direction.")]


def build_group() -> typer.Typer:
    """The command group."""
    group = typer.Typer(name="directions", help="Show, export, import and remove directions of interfacegan.")
    commands: dict[str, Callable[..., None]] = {
        "list": list_all,
        "show": show,
        "export": export,
        "import": import_,
        "remove": remove,
    }
    for name, command in commands.items():
        group.command(name)(command)
    return group


def list_all(domain: DomainFlag = None, weights: WeightsFlag = None) -> None:
    """The directions of the weights, your own and shipped ones."""
    from stkit.plugin import DIRECTION_KIND, find_direction, find_direction_files, own_folder

    found = open_weights(domain, weights)
    rows = []
    files = find_direction_files(found, DIRECTION_KIND)
    for name, path in files.items():
        place = "your own" if path.parent == own_folder(found) else "with the weights"
        try:
            direction = find_direction(found, name)
            assert direction is not None
            low, high = direction.safe_range
            cells = (str(direction.space), f"{low:g} to {high:g}", direction.description)
        except StkitError as error:
            cells = ("", "", f"cannot be used: {error}")
        rows.append((name, *cells, place))
    if files:
        print_table(("direction", "space", "safe strengths", "what it is", "where"), rows)
    else:
        console.print(f"weights '{found.name}' have no directions; make one with `stkit fit-direction`")


def show(name: Name, domain: DomainFlag = None, weights: WeightsFlag = None) -> None:
    """One direction: where it comes from, its unit, its held-out accuracy."""
    from stkit.plugin import DIRECTION_KIND, find_direction_files

    found = open_weights(domain, weights)
    direction = _find(found, name)
    low, high = direction.safe_range
    facts = {
        "direction": name,
        "what it is": direction.description,
        "file": find_direction_files(found, DIRECTION_KIND)[name],
        "generator": direction.generator,
        "space": direction.space,
        "shape": " x ".join(map(str, direction.vector.shape)),
        "layers": direction.layers or "all",
        "strength 1": f"{direction.unit:.4f}",
        "safe strengths": f"{low:g} to {high:g}",
        **direction.notes,
    }
    print_facts({key: _text(value) or "nothing" for key, value in facts.items()})


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def export(
    name: Name,
    path: Annotated[Path, typer.Argument(help="FILE.npy (as InterFaceGAN's), .pt (as e4e's) or .safetensors (whole).")],
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    replace: ReplaceFlag = False,
) -> None:
    """Write a direction to a file that other tools read."""
    from stkit.plugin import save_direction, write_direction

    if path.suffix not in (".npy", ".pt", ".safetensors"):
        raise UsageError(f"cannot export to '{path}'; end the name in .npy, .pt or .safetensors")
    if path.exists() and not replace:
        raise UsageError(f"{path} exists; choose another name, or --replace it")
    found = open_weights(domain, weights)
    direction = _find(found, name)
    if path.suffix == ".safetensors":
        save_direction(path, direction, found)
    else:
        write_direction(direction.vector, path)
        console.print(f"a unit vector; strength 1 is {direction.unit:.4f} of it")
    console.print(str(path))


def import_(
    path: Annotated[Path, typer.Argument(help="A .npy, .npz, .pt or .safetensors file with a direction.")],
    name: Annotated[str | None, typer.Option("--name", help="Of the direction; the file's otherwise.")] = None,
    component: Annotated[
        int | None, typer.Option("--component", min=1, help="Which one, from 1, of a file that holds several.")
    ] = None,
    layers: Annotated[str | None, typer.Option("--layers", help="Layers to edit by default, like 0-7.")] = None,
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    replace: ReplaceFlag = False,
) -> None:
    """Take over a direction of InterFaceGAN, STIT, e4e, GANSpace or SeFa, or one that stkit exported."""
    import dataclasses

    from stkit.plugin import DIRECTION_KIND, LayerRange, is_foreign, load_direction, own_folder, save_direction

    found = open_weights(domain, weights)
    if not path.is_file():
        raise UsageError(f"there is no file {path}; check the path")
    if path.suffix == ".safetensors" and not is_foreign(path):
        if component or layers:
            raise UsageError(f"{path} is whole; --component and --layers are for files of other projects")
        direction = load_direction(path)
        direction = dataclasses.replace(direction, name=name or direction.name)
        direction.require_fit(found)
    else:
        direction = _foreign(path, name, component, LayerRange.parse(layers) if layers else None, found)
    target = own_folder(found) / f"{DIRECTION_KIND}-{direction.name}.safetensors"
    if target.exists() and not replace:
        raise UsageError(f"{target} exists; choose another --name, or --replace it")
    save_direction(target, direction, found)
    low, high = direction.safe_range
    console.print(f"strength 1 is {direction.unit:.4f} in {direction.space}; safe strengths {low:g} to {high:g}")
    console.print(f"saved as '{direction.name}': {target}")


def remove(name: Name, domain: DomainFlag = None, weights: WeightsFlag = None) -> None:
    """Delete one of your own directions; those that came with the weights stay."""
    from stkit.plugin import DIRECTION_KIND, check_direction_name, find_direction_files, own_folder

    check_direction_name(name)
    found = open_weights(domain, weights)
    path = own_folder(found) / f"{DIRECTION_KIND}-{name}.safetensors"
    if not path.is_file():
        if name in find_direction_files(found, DIRECTION_KIND):
            raise UsageError(f"direction '{name}' came with the weights; only your own can be removed")
        raise UnknownNameError("direction", name, find_direction_files(found, DIRECTION_KIND))
    path.unlink()
    console.print(f"removed {path}")


def _find(weights: Weights, name: str) -> Direction:
    from stkit.plugin import DIRECTION_KIND, find_direction, find_direction_files

    direction = find_direction(weights, name)
    if direction is None:
        raise UnknownNameError("direction", name, find_direction_files(weights, DIRECTION_KIND))
    return direction


def _foreign(
    path: Path, name: str | None, component: int | None, layers: LayerRange | None, weights: Weights
) -> Direction:
    """A direction of another project, measured on the generator's own samples."""
    from stkit.plugin import Direction, LatentSpace, calibrate, coordinates, read_directions, require_shape, sample_w

    read = read_directions(path, name)
    if component is None and len(read) > 1:
        raise UsageError(f"{path} holds {len(read)} directions; choose one with --component")
    if component is not None and component > len(read):
        raise UsageError(f"{path} holds {len(read)} directions; there is no --component {component}")
    vector = read.vectors[(component or 1) - 1].float()
    if vector.ndim == 1 and len(vector) == weights.num_ws * weights.w_dim:  # fitted to flattened codes of w_plus
        vector = vector.unflatten(0, (weights.num_ws, weights.w_dim))
    name = name or (path.stem if component is None else f"{path.stem}-{component}")
    require_shape(name, vector, weights)
    if layers:
        layers.indices(weights.num_ws)
    unit, safe_range = calibrate(coordinates(sample_w(weights, 10_000), vector))
    return Direction(
        name=name,
        description=f"imported from {path.name}",
        vector=vector,
        space=LatentSpace.W if vector.ndim == 1 else LatentSpace.W_PLUS,
        generator=weights.space,
        unit=unit,
        safe_range=safe_range,
        layers=layers,
        notes={"imported from": path.name, "format": read.format, "component": component or 1},
    )


__all__ = ["build_group", "export", "import_", "list_all", "remove", "show"]
