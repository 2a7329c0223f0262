"""`stkit edit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stkit.cli.common import (
    DeviceFlag,
    DomainFlag,
    InverterFlag,
    OptionFlag,
    OutFlag,
    WeightsFlag,
    console,
    open_editor,
)
from stkit.cli.invert import invert_photo, save_inversion

if TYPE_CHECKING:
    from PIL import Image

    from stkit.editor import Editor
    from stkit.latents import Latents

COMMAND = "edit"
_LATENTS_SUFFIX = ".latents.safetensors"


def run(
    source: Annotated[Path, typer.Argument(help="A photo, or latents that `stkit invert` or `stkit edit` wrote.")],
    method: Annotated[str, typer.Option("--method", help="How to edit; see `stkit methods`.")],
    attribute: Annotated[str | None, typer.Option("--attribute", help="What to change.")] = None,
    strength: Annotated[float, typer.Option("--strength", help="How far; 1 is one standard deviation.")] = 1.0,
    ref: Annotated[Path | None, typer.Option("--ref", help="A reference photo, for methods that take one.")] = None,
    layers: Annotated[str | None, typer.Option("--layers", help="Layers to edit, like 4-7; 0 is the coarsest.")] = None,
    domain: DomainFlag = "faces",
    weights: WeightsFlag = None,
    inverter: InverterFlag = "style-transformer",
    option: OptionFlag = None,
    out: OutFlag = Path("out"),
    device: DeviceFlag = "auto",
    seed: Annotated[int, typer.Option("--seed", help="For methods that draw random numbers.")] = 0,
) -> None:
    """Edit a photo, or its latents without inverting again; write the picture and the edited latents."""
    from stkit.images import save_image, side_by_side
    from stkit.latents import save_latents
    from stkit.options import LayerRange, parse_options

    chosen_layers = LayerRange.parse(layers) if layers else None
    editor = open_editor(domain, weights, device)
    options = parse_options(editor.registry.editing_method(method).Options, option or [])
    references = invert_photo(editor, ref, inverter, []).latents if ref else None
    base, pictures, latents = _open(editor, source, inverter, out)
    edit = editor.edit(
        latents,
        method,
        attribute,
        strength,
        chosen_layers,
        references,
        options.model_dump(exclude_unset=True),
        seed,
    )
    label = "-".join(filter(None, [method, attribute])) + f"{strength:+g}"
    if chosen_layers:
        label += f"-layers{chosen_layers}"
    pictures["edited"] = edit.image
    paths = [base.with_name(f"{base.name}.{label}{end}") for end in (".png", ".side-by-side.png", _LATENTS_SUFFIX)]
    save_image(edit.image, paths[0])
    save_image(side_by_side(list(pictures.values()), list(pictures)), paths[1])
    save_latents(edit.latents, paths[2])
    for path in paths:
        console.print(str(path))


def _open(editor: Editor, source: Path, inverter: str, out: Path) -> tuple[Path, dict[str, Image.Image], Latents]:
    """Where to write, the pictures to show beside the edit, and the latents of a photo or a latent file."""
    from stkit.errors import PhotoError, UsageError
    from stkit.latents import load_latents

    if not source.is_file() and source.suffix == ".safetensors":
        raise PhotoError(f"no file {source}; `stkit invert PHOTO` writes latents to out/PHOTO/")
    if source.suffix != ".safetensors":
        inversion = invert_photo(editor, source, inverter, [])
        latents_path = save_inversion(editor, inversion, out)[3]
        base = latents_path.with_name(latents_path.name.removesuffix(_LATENTS_SUFFIX))
        return base, {"photo": inversion.crop, "reconstruction": inversion.image}, inversion.latents
    latents = load_latents(source)
    if len(latents) != 1:
        raise UsageError(f"{source} holds {len(latents)} codes; give a file of one")
    before = editor.picture(editor.generate(latents)[0])
    name = source.name.removesuffix(_LATENTS_SUFFIX).removesuffix(".safetensors")
    return source.with_name(name), {"before": before}, latents


__all__ = ["COMMAND", "run"]
