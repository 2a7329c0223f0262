"""Trainings of networks on codes of photos or samples, with labels or without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from stkit.contracts.training import SILENT, Voice
from stkit.datasets.codes import LabelledCodes, labelled_codes
from stkit.datasets.images import ImageFiles
from stkit.datasets.labels import AttributeSpec, Labels, load_labels
from stkit.devices import resolve_device
from stkit.errors import UsageError
from stkit.plugins import load_plugins
from stkit.training.config import CodesRecipe
from stkit.training.runs import copy_beside, loop_of, require_one_process, require_room
from stkit.weights import Header, Weights

Columns = list[tuple[str, str | None]]


def attribute_columns(text: str) -> Columns:
    """`age,sex=M` as columns with what counts as 1 in a column of words. Raises UsageError."""
    columns = [(spec.column, spec.positive) for spec in map(AttributeSpec.parse, text.split(","))]
    for name in (names := [name for name, _ in columns]):
        if names.count(name) > 1:
            raise UsageError(f"attribute '{name}' is given twice; keep one of them")
    return columns


def inverted_photos(
    recipe: CodesRecipe,
    images: Path,
    weights: Weights,
    labels: Path | None,
    columns: Columns,
    device: torch.device,
    voice: Voice,
) -> LabelledCodes:
    """Codes of the photos in `images` that `labels` lists (all by default), through the cache.

    Raises LabelsError, PhotoError, UsageError, UnknownNameError.
    """
    if labels is None:
        files = ImageFiles(images)
        table = Labels(images, files.names, {}, None)
    else:
        table = load_labels(labels)
    registry = load_plugins()
    domain = None if recipe.aligned else registry.domain(weights.domain)
    inverter = registry.inverter_for(weights, recipe.inverter)
    with voice.bar("inverting photos") as on_progress:
        codes = labelled_codes(weights, table, images, columns, inverter, device, on_progress, domain)
    held_out = int(codes.val.sum())
    voice.say(f"{len(codes.names) - held_out} photos to train, {held_out} to validate")
    return codes


class CodesRun(Protocol):
    """A training of one more part of weights, on codes."""

    def train(self) -> int:
        """Train to the last step; returns the number of steps done."""

    def held_out(self) -> Mapping[str, Mapping[str, Any]]:
        """For each attribute, figures on the photos that are held out."""

    def describe(self, figures: Mapping[str, Any]) -> str:
        """The figures of one attribute as people read them."""

    def export(self, folder: Path, weights: Weights, notes: Mapping[str, Any]) -> Header:
        """Write the part to `folder`, as belonging to the generator of `weights`. Raises WeightsError, OutputError."""


def train_on_codes(
    kind: str,
    recipe: CodesRecipe,
    weights: Weights,
    gather: Callable[[torch.device], LabelledCodes],
    begin: Callable[[LabelledCodes, torch.device], CodesRun],
    notes: Mapping[str, Any],
    voice: Voice = SILENT,
) -> bool:
    """Train the part `kind` of `weights` on the codes that `gather` gives; whether weights are in `recipe.out`.

    `notes` are written into the header, beside what every such training notes. Raises
    LabelsError, PhotoError, UsageError, UnknownNameError, WeightsError, OutputError.
    """
    require_one_process(kind)
    device = resolve_device(recipe.device)
    require_room(recipe.out, kind, weights)
    loop_of(recipe)  # refuses before the codes are made, which takes minutes
    codes = gather(device)
    run = begin(codes, device)
    if run.train() != recipe.steps:
        return False
    figures = run.held_out()
    for name, values in figures.items():
        voice.say(f"{name}: {run.describe(values)}")
    shared = {
        **({"data": recipe.images.name} if recipe.images else {}),
        **({"samples": recipe.samples} if recipe.samples else {}),
        "photos": int((~codes.val).sum()),
        "steps": recipe.steps,
        "inverter": recipe.inverter or weights.own_inverter(),
        "held_out": figures,
    }
    run.export(recipe.out, weights, {**shared, **notes})
    copy_beside(weights, recipe.out, kind)
    voice.say(f"done; use it with --weights {recipe.out}")
    return True


__all__ = ["CodesRun", "Columns", "attribute_columns", "inverted_photos", "train_on_codes"]
