"""Tables and pictures of what benchmarks.editing measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.judges import JUDGED, UNITS
from stkit.contracts.editing import EditingMethod
from stkit.datasets.images import ImageSet
from stkit.latents.latents import Latents
from stkit.photo.images import image_grid, to_image

COSTS = ("identity", "distance", "lpips")
"""What an edit changes beside its attribute: cosine and distance of dlib's descriptors, and LPIPS."""


FIDELITY = {"lpips": "LPIPS-Alex at 256 px", "lpips_512": "LPIPS-Alex at 512 px", "distance": "descriptors' distance"}
"""How near the unedited faces are to their photos."""


@dataclass(frozen=True, eq=False)
class Faces:
    """Faces as the generator shows them: codes, images [N, 3, R, R], and the judges' scores [N, 4] of the images.

    `latents` has parts of one generator each: a face that it is tuned to stands alone.
    """

    photos: ImageSet
    latents: tuple[Latents, ...]
    images: Tensor
    scores: np.ndarray


@dataclass(frozen=True)
class Job:
    """One edit of all faces."""

    method: EditingMethod
    attribute: str
    strength: float


def print_report(report: dict[str, Any], console: Console) -> None:
    """Print the report of `benchmarks.editing.run`: the judges, then a table for each method."""
    deviations = report["judges"]["deviations"]
    console.print(
        f"{report['faces']} held-out faces, weights {report['weights']}, generator {report['generator'][:12]}"
    )
    console.print(_judges(report["judges"]))
    console.print(_fidelity(report["fidelity"]))
    for name, edits in groupby(report["edits"], key=lambda edit: edit["method"]):
        rows = list(edits)
        console.print(_references(name, rows) if rows[0]["share"] is not None else _strengths(name, rows, deviations))
    for note in report["notes"]:
        console.print(f"not measured: {note}", highlight=False, markup=False)


def is_monotonic(edits: Sequence[dict[str, Any]]) -> bool:
    """Whether the judge's mean rises with the strength all the way, strength 0 (no change) included.

    `edits` are those of one method and one attribute of JUDGED.
    """
    means = {0.0: 0.0, **{edit["strength"]: edit["shift"][edit["attribute"]] for edit in edits}}
    return all(means[low] < means[high] for low, high in pairwise(sorted(means)))


def draw_grid(
    faces: Faces, partners: Sequence[int], jobs: Sequence[Job], pictures: Sequence[Sequence[Image.Image]]
) -> Image.Image:
    """A row for each method, attribute and face: photo, reconstruction, then reference or nothing, then the edits."""
    rows: dict[tuple[str, str, int], list[tuple[Image.Image, str]]] = {}
    for job, edited in zip(jobs, pictures, strict=True):
        for face, picture in enumerate(edited):
            key = (job.method.name, job.attribute, face)
            if key not in rows:
                photo = to_image(faces.photos.batch(torch.tensor([face]), torch.device("cpu"))[0])
                rows[key] = [
                    (photo.resize(picture.size, Image.Resampling.LANCZOS), job.method.name),
                    (to_image(faces.images[face]), "inverted"),
                ]
                if job.method.needs_reference:
                    rows[key].append((to_image(faces.images[partners[face]]), "reference"))
            rows[key].append((picture, f"{job.attribute} {job.strength:+g}"))
    columns = max(len(row) for row in rows.values())
    blank = (Image.new("RGB", (1, 1), (255, 255, 255)), "")
    cells = [cell for row in rows.values() for cell in [*row, *[blank] * (columns - len(row))]]
    return image_grid([picture for picture, _ in cells], columns, [caption for _, caption in cells])


def _judges(judges: dict[str, Any]) -> Table:
    if not judges["on_photos"]:  # no labels to agree with
        table = Table("judge", "deviation over the photos")
        for name, value in judges["deviations"].items():
            table.add_row(name, f"{value:.2f} {UNITS[name]}")
        return table
    table = Table("judge", "agreement with the labels", "on photos", "on reconstructions", "deviation over the photos")
    agreement = {"age_mae": "age", "age_r": "age", "sex_accuracy": "sex", "smile_r": "smile", "yaw_r": "yaw"}
    words = {"mae": "mean absolute error", "r": "correlation", "accuracy": "accuracy"}
    for key, name in agreement.items():
        deviation = f"{judges['deviations'][name]:.2f} {UNITS[name]}"
        values = [f"{judges[where][key]:.2f}" for where in ("on_photos", "on_reconstructions")]
        table.add_row(name, words[key.split("_")[1]], *values, deviation)
    return table


def _fidelity(fidelity: dict[str, list[float]]) -> Table:
    table = Table("unedited, to the photo", "mean", "median", "95% below", "largest")
    for name, words in FIDELITY.items():
        values = fidelity[name]
        figures = (np.mean(values), np.median(values), np.quantile(values, 0.95), max(values))
        table.add_row(words, *(f"{figure:.4f}" for figure in figures))
    return table


def _strengths(method: str, edits: Sequence[dict[str, Any]], deviations: dict[str, float]) -> Table:
    title = f"{method}: mean change of the judges, in standard deviations"
    table = Table("attribute", "strength", *JUDGED, "in units", "with room", "dependency", *COSTS, title=title)
    for attribute, group in groupby(edits, key=lambda edit: edit["attribute"]):
        rows = list(group)
        for edit in rows:
            judged = attribute in JUDGED
            units = f"{edit['shift'][attribute] * deviations[attribute]:+.2f} {UNITS[attribute]}" if judged else ""
            shifts = [_bold(f"{edit['shift'][name]:+.2f}", name == attribute) for name in JUDGED]
            table.add_row(attribute, f"{edit['strength']:+g}", *shifts, units, _in_room(edit), *_costs(edit))
        if attribute in JUDGED:
            table.add_row("", "", "[dim]monotonic[/]" if is_monotonic(rows) else "[red]not monotonic[/]")
        table.add_section()
    return table


def _references(method: str, edits: Sequence[dict[str, Any]]) -> Table:
    title = f"{method}: share of the way to the reference; mean absolute change of the others, in standard deviations"
    table = Table("attribute", "share", *JUDGED, "dependency", *COSTS, title=title)
    for edit in edits:
        changes = ["" if name == edit["attribute"] else f"{edit['spread'][name]:.2f}" for name in JUDGED]
        table.add_row(edit["attribute"], _bold(f"{edit['share']:.2f}", True), *changes, *_costs(edit))
    return table


def _in_room(edit: dict[str, Any]) -> str:
    return "" if edit["in_room"] is None else f"{edit['in_room']:+.2f} of {edit['room']}"


def _costs(edit: dict[str, Any]) -> list[str]:
    return [f"{edit[name]:.2f}" for name in ("dependency", *COSTS)]


def _bold(text: str, bold: bool) -> str:
    return f"[bold]{text}[/]" if bold else text


__all__ = ["draw_grid", "is_monotonic", "print_report"]
