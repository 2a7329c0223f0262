"""The rows that a direction is fitted to, and what it is kept orthogonal to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stkit.plugin import (
    AttributeSpec,
    LabelledCodes,
    Labels,
    LatentSpace,
    UsageError,
    find_direction,
    labelled_photos,
    labelled_samples,
    progress_bar,
)

if TYPE_CHECKING:
    from stkit.plugin import Editor
    from stkit_interfacegan.fit_command import FitRequest


def labelled_rows(
    editor: Editor, request: FitRequest, table: Labels | None, specs: list[AttributeSpec]
) -> tuple[LabelledCodes, dict[str, Any]]:
    """Codes with the values of `specs`, of the photos of `table` or of scored samples, and where they are from."""
    seed, share = request.seed, request.share
    origin: dict[str, Any]
    if table is not None and request.images:
        inverter = editor.registry.inverter_for(editor.weights, request.inverter).name
        photos = table, request.images, specs, inverter, request.aligned, request.limit
        with progress_bar("inverting") as on_progress:
            data = labelled_photos(editor, *photos, seed, on_progress, share)
        origin = {"labels": table.path.name, "images": request.images.name, "inverter": inverter}
        origin["photos"] = len(data.names)
    else:
        assert request.samples is not None and request.scorer is not None
        if any(part.positive for part in specs):
            raise UsageError("scores are numbers: name them without =")
        names = [part.column for part in specs]
        with progress_bar("scoring samples") as on_progress:
            data = labelled_samples(editor, request.scorer, request.samples, names, seed, on_progress, share)
        origin = {"samples": request.samples, "scorer": request.scorer, "seed": seed}
    if specs[0].positive:
        origin["positive"] = specs[0].positive
    return data, origin


def what_to_keep(
    editor: Editor, specs: list[AttributeSpec], columns: list[str], space: LatentSpace
) -> tuple[list[AttributeSpec], dict[str, np.ndarray]]:
    """What to stay orthogonal to: columns of the labels where they have it, otherwise saved directions."""
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


__all__ = ["labelled_rows", "what_to_keep"]
