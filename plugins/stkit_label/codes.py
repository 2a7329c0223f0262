"""What the classifier and the reference block are trained on: codes of photos, of the generator's samples, or both."""

from __future__ import annotations

import torch

from stkit.plugin import (
    CodesRecipe,
    LabelledCodes,
    UsageError,
    Voice,
    Weights,
    inverted_photos,
    labelled_samples,
    sample_codes,
)

Columns = list[tuple[str, str | None]]
"""Names of columns, with what counts as 1 in a column of words."""


def training_codes(
    recipe: CodesRecipe,
    weights: Weights,
    columns: Columns,
    scorer: str | None,
    device: torch.device,
    voice: Voice,
) -> LabelledCodes:
    """The codes of `recipe`: its images by their labels, then its samples by `scorer`, with `columns` of both.

    Without columns neither is needed. Raises UsageError when there is nothing to train on, LabelsError, PhotoError,
    UnknownNameError.
    """
    parts = []
    if recipe.images is not None:
        if columns and recipe.labels is None:
            raise UsageError("photos need --labels; or leave out --images, for --samples that a --scorer labels")
        parts.append(inverted_photos(recipe, recipe.images, weights, recipe.labels, columns, device, voice))
    if recipe.samples is not None:
        parts.append(_samples(recipe.samples, weights, columns, scorer, recipe, voice))
    if not parts:
        raise UsageError("there is nothing to train on; give --images, --samples or both")
    return LabelledCodes(
        tuple(name for part in parts for name in part.names),
        parts[0].attributes,
        torch.cat([part.codes for part in parts]),
        torch.cat([part.values for part in parts]),
        torch.cat([part.val for part in parts]),
    )


def _samples(
    count: int, weights: Weights, columns: Columns, scorer: str | None, recipe: CodesRecipe, voice: Voice
) -> LabelledCodes:
    import stkit

    if not columns:
        codes = sample_codes(weights, count)
        val = torch.arange(count) % 25 == 24
        return LabelledCodes(tuple(f"sample {i}" for i in range(count)), (), codes, torch.empty(count, 0), val)
    if scorer is None:
        raise UsageError("samples need a --scorer that labels them; see `stkit scorers`")
    if words := [name for name, positive in columns if positive]:
        raise UsageError(f"scores are numbers: name {words[0]} without =")
    with voice.bar("scoring samples") as on_progress:
        names = [name for name, _ in columns]
        return labelled_samples(stkit.load(weights, recipe.device), scorer, count, names, 0, on_progress)


__all__ = ["training_codes"]
