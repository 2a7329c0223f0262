"""Codes of photos, with labels or without, for trainings of networks on codes."""

from __future__ import annotations

from pathlib import Path

import torch

from stkit.contracts.training import Voice
from stkit.datasets.codes import LabelledCodes, labelled_codes
from stkit.datasets.images import ImageFiles
from stkit.datasets.labels import AttributeSpec, Labels, load_labels
from stkit.errors import UsageError
from stkit.plugins import load_plugins
from stkit.training.config import CodesRecipe
from stkit.weights import Weights

Columns = list[tuple[str, str | None]]


def attribute_columns(text: str) -> Columns:
    """`age,sex=M` as columns with what counts as 1 in a column of words. Raises UsageError."""
    columns = [(spec.column, spec.positive) for spec in map(AttributeSpec.parse, text.split(","))]
    for name in (names := [name for name, _ in columns]):
        if names.count(name) > 1:
            raise UsageError(f"attribute '{name}' is given twice; keep one of them")
    return columns


def inverted_photos(
    recipe: CodesRecipe, weights: Weights, labels: Path | None, columns: Columns, device: torch.device, voice: Voice
) -> LabelledCodes:
    """Codes of the photos of `recipe` that `labels` lists (all by default), through the cache.

    Raises LabelsError, PhotoError, UsageError, UnknownNameError.
    """
    if labels is None:
        with ImageFiles(recipe.images) as files:
            table = Labels(recipe.images, files.names, {}, None)
    else:
        table = load_labels(labels)
    registry = load_plugins()
    domain = None if recipe.aligned else registry.domain(weights.domain)
    inverter = registry.inverter_for(weights, recipe.inverter)
    with voice.bar("inverting photos") as on_progress:
        codes = labelled_codes(weights, table, recipe.images, columns, inverter, device, on_progress, domain)
    held_out = int(codes.val.sum())
    voice.say(f"{len(codes.names) - held_out} photos to train, {held_out} to validate")
    return codes


__all__ = ["Columns", "attribute_columns", "inverted_photos"]
