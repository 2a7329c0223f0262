"""`stkit rank-channels`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from stkit.plugin import FIT, LabelledRequest, UsageError, console, open_editor, progress_bar, takes


@dataclass(frozen=True)
class RankRequest(LabelledRequest):
    """Rank the style channels by how well they tell the photos of `images` with the attribute from those without."""

    labels: Path
    images: Path
    attribute: str


FLAGS = {
    "labels": Annotated[Path, typer.Option("--labels", help="A label file, as for `stkit fit-direction`.")],
    "images": Annotated[Path, typer.Option("--images", help="The labelled photos: a folder or a zip.")],
    "attribute": Annotated[str, typer.Option("--attribute", help="A column; for one of words the positive: sex=M.")],
    "share": Annotated[
        float, typer.Option("--share", min=0.01, max=0.5, help="Of a score, the top share is the positive class.")
    ],
    "name": Annotated[str | None, typer.Option("--name", help="Of the attribute; the column's otherwise.")],
    **FIT,
    "seed": Annotated[int, typer.Option("--seed", help="Of the held-out rows and of --limit.")],
}


@takes(RankRequest, FLAGS)
def run(request: RankRequest) -> None:
    """Rank the style channels for an attribute of labelled photos, for `stkit edit --method stylespace`."""
    import torch

    from stkit.plugin import AttributeSpec, check_direction_name, labelled_photos, load_labels, own_folder, two_classes
    from stkit_stylespace.channels import KIND, channel_name, rank_channels, save_ranking, style_layers, styles_of

    spec = AttributeSpec.parse(request.attribute)
    name = request.name or spec.column
    check_direction_name(name)
    editor = open_editor(request.domain, request.weights, request.device)
    inverter = editor.registry.inverter_for(editor.weights, request.inverter).name
    path = (request.out or own_folder(editor.weights)) / f"{KIND}-{name}.safetensors"
    if path.exists() and not request.replace:
        raise UsageError(f"{path} exists; choose another --name, or --replace it")
    table = load_labels(request.labels)
    with progress_bar("inverting") as on_progress:
        photos = table, request.images, [spec], inverter, request.aligned, request.limit
        data = labelled_photos(editor, *photos, request.seed, on_progress, request.share)
    fitted = ~data.val
    classes = two_classes(data.values[:, 0].double().numpy(), fitted.numpy(), request.share)[fitted.numpy()]
    styles = styles_of(editor.weights, data.codes[fitted])
    positive = torch.from_numpy(classes == 1)
    ranking = rank_channels(styles, positive)
    notes = {
        "labels": request.labels.name,
        "images": request.images.name,
        "attribute": spec.column,
        "positive": spec.positive,
        "positives": int(positive.sum()),
        "photos": len(styles),
        "inverter": inverter,
    }
    save_ranking(path, name, ranking, editor.weights, notes)
    layers = style_layers(editor.weights)
    console.print(f"{notes['positives']} positive of {notes['photos']} photos")
    for place, (channel, score, sign) in enumerate(
        zip(ranking.channels.tolist(), ranking.scores.tolist(), ranking.signs.tolist(), strict=True), 1
    ):
        console.print(f"{place:3d}. {channel_name(layers, channel):8s} score {score:.2f}, {'+' if sign > 0 else '-'}")
    console.print(f"saved as '{name}': {path}")


__all__ = ["RankRequest", "run"]
