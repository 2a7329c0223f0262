"""`stkit fit-direction`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stkit.plugin import (
    FIT,
    LABELLED,
    LabelledRequest,
    UsageError,
    console,
    open_editor,
    takes,
)

if TYPE_CHECKING:
    from stkit.plugin import LayerRange
    from stkit_interfacegan.fitting import Fit


@dataclass(frozen=True)
class FitRequest(LabelledRequest):
    """Fit a direction for `attribute`, in `layers`, orthogonal to others."""

    attribute: str
    orthogonal_to: str = ""
    space: Literal["w", "w_plus"] = "w"
    layers: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.space not in ("w", "w_plus"):
            raise UsageError(f"--space '{self.space}' is not w or w_plus")


FLAGS = {
    **LABELLED,
    "orthogonal_to": Annotated[
        str, typer.Option("--orthogonal-to", help="Columns or directions to leave unchanged: age,sex=M.")
    ],
    "space": Annotated[str, typer.Option("--space", help="w, or w_plus for a vector for each layer.")],
    "layers": Annotated[str | None, typer.Option("--layers", help="Fit to, and edit, these layers only, like 0-7.")],
    "share": Annotated[
        float, typer.Option("--share", min=0.01, max=0.5, help="Of a score, the top and bottom share are the classes.")
    ],
    "name": Annotated[str | None, typer.Option("--name", help="Of the direction; the column's otherwise.")],
    **FIT,
    "seed": Annotated[int, typer.Option("--seed", help="Of the held-out rows, of --limit and of --samples.")],
}


@takes(FitRequest, FLAGS)
def run(request: FitRequest) -> None:
    """Fit a direction to labelled photos, or to samples that a scorer labels, and save it for `stkit edit`."""
    from stkit.plugin import (
        DIRECTION_KIND,
        AttributeSpec,
        LatentSpace,
        check_direction_name,
        labelled_rows,
        load_labels,
        own_folder,
        progress_bar,
        save_direction,
    )
    from stkit_interfacegan.fitting import fit_direction
    from stkit_interfacegan.rows import what_to_keep

    spec = AttributeSpec.parse(request.attribute)
    name, space = request.name or spec.column, LatentSpace(request.space)
    check_direction_name(name)
    editor = open_editor(request.domain, request.weights, request.device)
    weights = editor.weights
    layers = _layers(request, weights.num_ws)
    path = (request.out or own_folder(weights)) / f"{DIRECTION_KIND}-{name}.safetensors"
    if path.exists() and not request.replace:
        raise UsageError(f"{path} exists; choose another --name, or --replace it")
    table = load_labels(request.labels) if request.labels else None
    asked = [AttributeSpec.parse(part) for part in request.orthogonal_to.split(",") if part.strip()]
    for scorer in request.scorer.split(",") if request.scorer else ():
        editor.registry.scorer(scorer.strip())  # an unknown one is said now; its scores it tells only when it scores
    columns, kept = what_to_keep(editor, asked, table.names if table else [], space)
    with progress_bar("inverting" if request.labels else "scoring samples") as on_progress:
        data, origin = labelled_rows(editor, request, table, [spec, *columns], on_progress)
    fit = fit_direction(weights, data, name, space, layers, request.share, kept, origin)
    save_direction(path, fit.direction, weights)
    _tell(fit, path)
    if any((folder / path.name).exists() for folder in weights.folders if folder != path.parent):
        console.print(
            f"it takes the place of the '{name}' that came with the weights (until `directions remove {name}`)"
        )


def _layers(request: FitRequest, num_ws: int) -> LayerRange | None:
    from stkit.plugin import LayerRange

    layers = LayerRange.parse(request.layers) if request.layers else None
    if layers:
        layers.indices(num_ws)
    return layers


def _tell(fit: Fit, path: Path) -> None:
    direction = fit.direction
    console.print(f"{fit.positives} positive and {fit.negatives} negative rows fitted, {direction.space}")
    console.print(f"held-out accuracy {fit.plain}; always guessing the larger class {100 * fit.plain.chance:.1f}%")
    console.print(f"mean accuracy of the two classes {100 * fit.plain.balanced:.1f}%; guessing 50%")
    if fit.cosines:
        cosines = ", ".join(f"{name} {cosine:+.2f}" for name, cosine in fit.cosines.items())
        console.print(f"cosines before the projection: {cosines}")
        console.print(f"after it: {fit.projected}")
    low, high = direction.safe_range
    console.print(f"strength 1 is {direction.unit:.3f} in {direction.space}; safe strengths {low:g} to {high:g}")
    console.print(f"saved as '{direction.name}': {path}")


__all__ = ["FitRequest", "run"]
