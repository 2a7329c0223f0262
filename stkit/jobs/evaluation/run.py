"""`stkit evaluate`, from the request to the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stkit.contracts.training import SILENT, Voice
from stkit.files import locked, read_left, write_text
from stkit.jobs.evaluation.costs import measure_costs
from stkit.jobs.evaluation.figures import make_figures
from stkit.jobs.evaluation.plan import Plan, make_plan
from stkit.jobs.evaluation.plots import draw_all
from stkit.jobs.evaluation.report import write_report
from stkit.jobs.evaluation.runner import claim_stores, run_plan, stores_in
from stkit.jobs.evaluation.spread import by_engine
from stkit.jobs.request import EvaluateRequest


def evaluate(request: EvaluateRequest, voice: Voice = SILENT) -> dict[str, Any]:
    """Do what `request` asks for; the figures of report.json. Raises UsageError, StkitError, OutputError."""
    with voice.bar("reading photos and weights"):
        plan = make_plan(request)
    for note in plan.notes:
        voice.say(f"note: {note}")
    voice.say(f"{len(plan.photos)} photos of the split '{plan.photos.split}', {len(plan.systems)} inverters")
    with locked(request.out):
        claim_stores(plan, stores_in(request.out, plan))
        plan, lost = by_engine(request, plan, voice)
        stores = stores_in(request.out, plan)
        failures = [*lost, *run_plan(plan, stores, voice)]
        for failure in failures:
            voice.say(f"note: {failure}")
        costs = _costs(plan, request.out / "work" / "costs.json", voice) if plan.costs else {}
        figures = make_figures(plan, stores, costs, failures)
        with voice.bar("drawing the report"):
            pictures = draw_all(figures, plan, stores, request.out)
            write_report(figures, plan, stores, request.out, pictures)
    return figures


def _costs(plan: Plan, path: Path, voice: Voice) -> Mapping[str, Mapping[str, float]]:
    """Measured once for the same systems, since they are measured beside each other."""
    labels = [system.label for system in plan.systems]
    if path.exists() and list(known := read_left(path)) == labels:
        return known
    with voice.bar("costs") as on_progress:
        found = measure_costs(plan.systems, plan.photos, on_progress)
    write_text(path, json.dumps(found, indent=1))
    return found


__all__ = ["evaluate"]
