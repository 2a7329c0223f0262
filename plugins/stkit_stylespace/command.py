"""`stkit rank-channels`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stkit.plugin import (
    AlignedFlag,
    DeviceFlag,
    DomainFlag,
    InverterFlag,
    LimitFlag,
    ReplaceFlag,
    UsageError,
    WeightsFlag,
    console,
    open_editor,
    progress_bar,
)


def run(
    labels: Annotated[Path, typer.Option("--labels", help="A label file, as for `stkit fit-direction`.")],
    images: Annotated[Path, typer.Option("--images", help="The labelled photos: a folder or a zip.")],
    attribute: Annotated[str, typer.Option("--attribute", help="A column; for one of words the positive: sex=M.")],
    share: Annotated[
        float, typer.Option("--share", min=0.01, max=0.5, help="Of a score, the top share is the positive class.")
    ] = 0.25,
    name: Annotated[str | None, typer.Option("--name", help="Of the attribute; the column's otherwise.")] = None,
    aligned: AlignedFlag = False,
    limit: LimitFlag = None,
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    inverter: InverterFlag = None,
    out: Annotated[Path | None, typer.Option("--out", help="Another folder than that of your own directions.")] = None,
    replace: ReplaceFlag = False,
    device: DeviceFlag = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Of the held-out rows and of --limit.")] = 0,
) -> None:
    """Rank the style channels for an attribute of labelled photos, for `stkit edit --method stylespace`."""
    import torch

    from stkit.plugin import AttributeSpec, check_direction_name, labelled_photos, load_labels, own_folder, two_classes
    from stkit_stylespace.channels import KIND, channel_name, rank_channels, save_ranking, style_layers, styles_of

    spec = AttributeSpec.parse(attribute)
    name = name or spec.column
    check_direction_name(name)
    editor = open_editor(domain, weights, device)
    inverter = editor.registry.inverter_for(editor.weights, inverter).name
    path = (out or own_folder(editor.weights)) / f"{KIND}-{name}.safetensors"
    if path.exists() and not replace:
        raise UsageError(f"{path} exists; choose another --name, or --replace it")
    table = load_labels(labels)
    with progress_bar("inverting") as on_progress:
        data = labelled_photos(editor, table, images, [spec], inverter, aligned, limit, seed, on_progress, share)
    fitted = ~data.val
    classes = two_classes(data.values[:, 0].double().numpy(), fitted.numpy(), share)[fitted.numpy()]
    styles = styles_of(editor.weights, data.codes[fitted])
    positive = torch.from_numpy(classes == 1)
    ranking = rank_channels(styles, positive)
    notes = {
        "labels": labels.name,
        "images": images.name,
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


__all__ = ["run"]
