"""`stkit rank-channels`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from stkit.plugin import FIT, LABELLED, LabelledRequest, UsageError, console, open_editor, progress_bar, takes


@dataclass(frozen=True)
class RankRequest(LabelledRequest):
    """Rank the style channels by how well they tell codes with the `attribute` from all of them."""

    attribute: str


FLAGS = {
    **LABELLED,
    "share": Annotated[
        float, typer.Option("--share", min=0.01, max=0.5, help="Of a score, the top share is the positive class.")
    ],
    "name": Annotated[str | None, typer.Option("--name", help="Of the attribute; the column's otherwise.")],
    **FIT,
    "seed": Annotated[int, typer.Option("--seed", help="Of the held-out rows, of --limit and of --samples.")],
}


@takes(RankRequest, FLAGS)
def run(request: RankRequest) -> None:
    """Rank the style channels for an attribute of labelled photos or samples, for `stkit edit --method stylespace`."""
    import torch

    from stkit.plugin import AttributeSpec, check_direction_name, labelled_rows, load_labels, own_folder, two_classes
    from stkit_stylespace.channels import KIND, channel_name, rank_channels, save_ranking, style_layers, styles_of

    spec = AttributeSpec.parse(request.attribute)
    name = request.name or spec.column
    check_direction_name(name)
    editor = open_editor(request.domain, request.weights, request.device)
    path = (request.out or own_folder(editor.weights)) / f"{KIND}-{name}.safetensors"
    if path.exists() and not request.replace:
        raise UsageError(f"{path} exists; choose another --name, or --replace it")
    table = load_labels(request.labels) if request.labels else None
    with progress_bar("inverting" if request.labels else "scoring samples") as on_progress:
        data, origin = labelled_rows(editor, request, table, [spec], on_progress)
    fitted = ~data.val
    classes = two_classes(data.values[:, 0].double().numpy(), fitted.numpy(), request.share)[fitted.numpy()]
    styles = styles_of(editor.weights, data.codes[fitted])
    positive = torch.from_numpy(classes == 1)
    ranking = rank_channels(styles, positive)
    positives = int(positive.sum())
    notes = {"attribute": spec.column, "positives": positives, "fitted": len(styles), **origin}
    save_ranking(path, name, ranking, editor.weights, notes)
    layers = style_layers(editor.weights)
    console.print(f"{positives} positive of {len(styles)} codes")
    for place, (channel, score, sign) in enumerate(
        zip(ranking.channels.tolist(), ranking.scores.tolist(), ranking.signs.tolist(), strict=True), 1
    ):
        console.print(f"{place:3d}. {channel_name(layers, channel):8s} score {score:.2f}, {'+' if sign > 0 else '-'}")
    console.print(f"saved as '{name}': {path}")


__all__ = ["RankRequest", "run"]
