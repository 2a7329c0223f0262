"""`stkit fit-direction`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stkit.cli.common import (
    AlignedFlag,
    DeviceFlag,
    DomainFlag,
    InverterFlag,
    LimitFlag,
    ReplaceFlag,
    WeightsFlag,
    console,
    open_editor,
    progress_bar,
)
from stkit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from stkit.datasets.codes import LabelledCodes
    from stkit.editor.editor import Editor
    from stkit.jobs.labelled import AttributeSpec
    from stkit.options import LatentSpace
    from stkit_interfacegan.fitting import Fit

LabelsFlag = Annotated[
    Path | None, typer.Option("--labels", help="CSV or TSV with a column file, list_attr_celeba.txt, or dataset.json.")
]
ImagesFlag = Annotated[Path | None, typer.Option("--images", help="The labelled photos: a folder or a zip.")]


def run(
    attribute: Annotated[str, typer.Option("--attribute", help="A column; for one of words the positive: sex=M.")],
    labels: LabelsFlag = None,
    images: ImagesFlag = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=100, help="Instead of photos: this many of the generator's images.")
    ] = None,
    scorer: Annotated[str | None, typer.Option("--scorer", help="Labels the samples; see `stkit scorers`.")] = None,
    orthogonal_to: Annotated[
        str | None,
        typer.Option("--orthogonal-to", help="Columns or directions to leave unchanged: age,sex=M."),
    ] = None,
    space: Annotated[str, typer.Option("--space", help="w, or w_plus for a vector for each layer.")] = "w",
    layers: Annotated[
        str | None, typer.Option("--layers", help="Fit to, and edit, these layers only, like 0-7.")
    ] = None,
    share: Annotated[
        float, typer.Option("--share", min=0.01, max=0.5, help="Of a score, the top and bottom share are the classes.")
    ] = 0.25,
    name: Annotated[str | None, typer.Option("--name", help="Of the direction; the column's otherwise.")] = None,
    aligned: AlignedFlag = False,
    limit: LimitFlag = None,
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    inverter: InverterFlag = None,
    out: Annotated[Path | None, typer.Option("--out", help="Another folder than that of your own directions.")] = None,
    replace: ReplaceFlag = False,
    device: DeviceFlag = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Of the held-out rows, of --limit and of --samples.")] = 0,
) -> None:
    """Fit a direction to labelled photos, or to samples that a scorer labels, and save it for `stkit edit`."""
    with_photos = labels is not None and images is not None
    with_samples = samples is not None and scorer is not None
    if with_photos == with_samples or (labels is None) != (images is None) or (samples is None) != (scorer is None):
        raise UsageError("give --labels and --images, or --samples and --scorer")
    from stkit.datasets.labels import load_labels
    from stkit.jobs.labelled import AttributeSpec, labelled_photos, labelled_samples
    from stkit.latents.directions import KIND, check_name, own_folder, save_direction
    from stkit.options import LatentSpace, LayerRange
    from stkit_interfacegan.fitting import fit_direction

    if space not in tuple(map(str, LatentSpace)):
        raise UsageError(f"--space '{space}' is not w or w_plus")
    chosen_layers = LayerRange.parse(layers) if layers else None
    spec = AttributeSpec.parse(attribute)
    name = name or spec.column
    check_name(name)
    editor = open_editor(domain, weights, device)
    if chosen_layers:
        chosen_layers.indices(editor.weights.num_ws)
    path = (out or own_folder(editor.weights)) / f"{KIND}-{name}.safetensors"
    if path.exists() and not replace:
        raise UsageError(f"{path} exists; choose another --name, or --replace it")
    specs = [AttributeSpec.parse(part) for part in (orthogonal_to or "").split(",") if part.strip()]
    table = load_labels(labels) if labels else None
    if scorer:
        editor.registry.scorer(scorer)  # an unknown one is said now; its attributes it tells only when it scores
    columns, others = _others(editor, specs, table.names if table is not None else [], LatentSpace(space))
    data: LabelledCodes
    if table is not None and images:
        inverter = editor.registry.inverter_for(editor.weights, inverter).name
        with progress_bar("inverting") as on_progress:
            data = labelled_photos(
                editor, table, images, [spec, *columns], inverter, aligned, limit, seed, on_progress, share
            )
        origin = {"labels": table.path.name, "images": images.name, "inverter": inverter, "photos": len(data.names)}
    else:
        assert samples is not None and scorer is not None
        if any(part.positive for part in (spec, *columns)):
            raise UsageError("scores are numbers: name them without =")
        with progress_bar("scoring samples") as on_progress:
            chosen = [part.column for part in (spec, *columns)]
            data = labelled_samples(editor, scorer, samples, chosen, seed, on_progress, share)
        origin = {"samples": samples, "scorer": scorer, "seed": seed}
    if spec.positive:
        origin["positive"] = spec.positive
    fit = fit_direction(editor.weights, data, name, LatentSpace(space), chosen_layers, share, others, origin)
    save_direction(path, fit.direction, editor.weights)
    _tell(fit, path)
    if any((folder / path.name).exists() for folder in editor.weights.folders if folder != path.parent):
        console.print(
            f"it takes the place of the '{name}' that came with the weights (until `directions remove {name}`)"
        )


def _others(
    editor: Editor, specs: list[AttributeSpec], columns: list[str], space: LatentSpace
) -> tuple[list[AttributeSpec], dict[str, np.ndarray]]:
    """What to stay orthogonal to: columns of the labels where they have it, otherwise saved directions."""
    from stkit.latents.directions import find_direction

    from_labels, saved = [], {}
    for spec in specs:
        direction = None if spec.column in columns else find_direction(editor.weights, spec.column)
        if direction is None:
            from_labels.append(spec)  # a name that is neither is reported with the columns that there are
        elif direction.space is not space:
            raise UsageError(f"direction '{direction.name}' is in {direction.space}, and this fit in {space}")
        else:
            saved[spec.column] = direction.vector.double().numpy()
    return from_labels, saved


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


__all__ = ["run"]
