"""From what was computed to the figures of the report: means with intervals, differences, what edits did."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stkit.jobs.evaluation.costs import RUNS, budget
from stkit.jobs.evaluation.photos import COMPARED
from stkit.jobs.evaluation.plan import Plan, PlannedEdit, System
from stkit.jobs.evaluation.runner import KEPT, inverted
from stkit.jobs.evaluation.store import RECONSTRUCTION, Store
from stkit.measure.intervals import mean_interval

PREPROCESSING = (
    "Photos: centre-cropped to the shape of the model's picture, resized by Lanczos to its size; those are inverted. "
    f"Compared are the picture parts, at most {COMPARED} px wide (bilinear, antialiased), RGB in [-1, 1], "
    "reconstructions clamped and in 8 bits. Each metric resizes further as its description says."
)
TIMING = f"ms: median of up to {RUNS} alternating runs for one photo, without the picture; MACs by torch's counter."


def column(store: Store, what: str, photos: Sequence[str], name: str) -> np.ndarray:
    """One number of all photos, [N], NaN where there is none."""
    return np.array([store.values(what, photo).get(name, np.nan) for photo in photos])


def make_figures(
    plan: Plan, stores: Mapping[str, Store], costs: Mapping[str, Mapping[str, float]], failures: Sequence[str] = ()
) -> dict[str, Any]:
    """The whole report, JSON-ready, with `failures`, what could not be done. Intervals are 95%, by bootstrap."""
    first = plan.systems[0]
    return {
        "stkit": importlib.metadata.version("stkit"),
        "data": plan.photos.source.name,
        "split": plan.photos.split,
        "photos": len(plan.photos),
        "domain": first.editor.domain.name,
        "notes": [*plan.notes, *failures],
        "preprocessing": PREPROCESSING,
        "timing": TIMING,
        "metrics": {
            m.name: {"description": m.description, "higher_is_better": m.higher_is_better, "paired": m.paired}
            for m in plan.metrics
        },
        "judges": {scorer.name: scorer.description for scorer in plan.scorers},
        "systems": [_system(plan, system, stores, costs.get(system.label, {})) for system in plan.systems],
    }


def _system(plan: Plan, system: System, stores: Mapping[str, Store], costs: Mapping[str, float]) -> dict[str, Any]:
    store, first = stores[system.label], stores[plan.systems[0].label]
    photos = plan.photos.names
    means, against = {}, {}
    for metric in plan.paired:
        values = column(store, RECONSTRUCTION, photos, metric.name)
        means[metric.name] = dataclasses.asdict(mean_interval(values))
        if store is not first:
            difference = values - column(first, RECONSTRUCTION, photos, metric.name)
            against[metric.name] = dataclasses.asdict(mean_interval(difference))
    sets = store.sets(inverted(plan, store))
    return {
        "name": system.label,
        "weights": system.editor.weights.name,
        "inverter": system.inverter,
        "options": {name: str(value) for name, value in system.options.items()},
        "refine": list(system.refine),
        "generator": system.editor.weights.fingerprint[:12],
        "resolution": system.editor.weights.resolution,
        "budget": dict(budget(system)),
        "costs": dict(costs),
        "means": means,
        "sets": sets.get(RECONSTRUCTION, {}),
        "against_first": against,
        "edits": [_edit(plan, edit, store, sets.get(edit.label, {})) for edit in plan.edits_of(system)],
    }


def _edit(plan: Plan, edit: PlannedEdit, store: Store, sets: Mapping[str, float]) -> dict[str, Any]:
    """What an edit changed, in standard deviations of each judge over the reconstructions."""
    photos, attribute = plan.photos.names, edit.step.attribute
    judged: dict[str, dict[str, Any]] = {}
    for key in sorted({name for photo in photos for name in store.values(RECONSTRUCTION, photo) if ":" in name}):
        before, after = (column(store, what, photos, key) for what in (RECONSTRUCTION, edit.label))
        deviation = float(np.nanstd(before)) if np.isfinite(before).sum() > 1 else 0.0
        if deviation:
            change = (after - before) / deviation
            judged[key] = {
                "attribute": key.partition(":")[2],
                "shift": dataclasses.asdict(mean_interval(change)),
                "spread": mean_interval(np.abs(change)).mean,
                "deviation": deviation,
            }
    others = [values["spread"] for values in judged.values() if values["attribute"] != attribute]
    kept = {name: dataclasses.asdict(mean_interval(column(store, edit.label, photos, name))) for name in KEPT
            if np.isfinite(column(store, edit.label, photos, name)).any()}  # fmt: skip
    return {
        "name": edit.label,
        "method": edit.step.method,
        "attribute": attribute,
        "strength": edit.step.strength,
        "judged": judged,
        "dependency": float(np.mean(others)) if others else None,
        "kept": kept,
        "sets": dict(sets),
    }


__all__ = ["PREPROCESSING", "TIMING", "column", "make_figures"]
