"""Computes what a plan asks for and a store has not got yet: invert, compare, edit, judge, measure sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stkit.contracts.training import SILENT, Voice
from stkit.editor.steps import files_of
from stkit.errors import StkitError, reason_of
from stkit.files import file_sha256
from stkit.jobs.evaluation.photos import compared
from stkit.jobs.evaluation.plan import Plan, PlannedEdit, System
from stkit.jobs.evaluation.store import RECONSTRUCTION, FolderStore, Store
from stkit.options import build_options
from stkit.weights import load_header

_TOGETHER = 8
KEPT = ("identity", "lpips")
"""Metrics that edits are compared by with the reconstruction that they start from."""


def stores_in(out: Path, plan: Plan, writer: str = "") -> dict[str, Store]:
    """Where in the folder `out` the results of each system are, by its label; `writer` names one of several."""
    return {system.label: FolderStore(out / "work" / system.name, writer) for system in plan.systems}


def claim_stores(plan: Plan, stores: Mapping[str, Store]) -> None:
    """Note what the results in `stores` are of. Raises UsageError where there are others."""
    for system in plan.systems:
        stores[system.label].claim(_facts(plan, system))


def run_plan(plan: Plan, stores: Mapping[str, Store], voice: Voice = SILENT, sets: bool = True) -> list[str]:
    """Compute all that is missing in `stores`, by the labels of the systems; what could not be done.

    What fails for one photo is left out, and tried again the next time. `sets`: of all photos together, too.
    Raises UsageError, OutputError.
    """
    failures: list[str] = []
    for number, system in enumerate(plan.systems, 1):
        store, photos = stores[system.label], plan.photos.names
        missing = [photo for photo in photos if not store.has_picture(RECONSTRUCTION, photo)]
        prefix = f"{number}/{len(plan.systems)} {system.label}:"
        with voice.bar(f"{prefix} inverting") as tell:
            for photo, reason in _invert(plan, system, store, missing, tell):
                failures.append(f"{system.label}: {photo} could not be inverted: {reason}")
        with voice.bar(f"{prefix} comparing") as tell:
            _compare(plan, system, store, tell)
        for edit in plan.edits_of(system):
            with voice.bar(f"{prefix} {edit.label}") as tell:
                _edit(plan, system, store, edit, tell)
        if sets:
            with voice.bar(f"{prefix} sets") as tell:
                _compare_sets(plan, system, store, tell)
        voice.say(f"{prefix} {len(inverted(plan, store))} photos")
    return failures


def inverted(plan: Plan, store: Store) -> list[str]:
    """The photos that have a reconstruction."""
    return [photo for photo in plan.photos.names if store.has_picture(RECONSTRUCTION, photo)]


def _facts(plan: Plan, system: System) -> dict[str, Any]:
    """What results depend on, so that they are never mixed with others."""
    editor = system.editor
    kinds = sorted(editor.weights.inverters().values())
    facts: dict[str, Any] = {
        "data": plan.photos.source.name,
        "generator": editor.weights.fingerprint,
        "networks": {kind: load_header(editor.weights.path(kind)).fingerprint for kind in kinds},
        "inverter": [system.inverter, json.loads(json.dumps(system.options, default=str)), *system.refine],
    }
    for edit in plan.edits_of(system):
        own = edit.editor
        files = files_of([edit.step], own.registry, own.weights, own.device)
        facts[f"edit {edit.label}"] = sorted(file_sha256(path) for path in files)
    return facts


def _invert(
    plan: Plan, system: System, store: Store, photos: Sequence[str], tell: Callable[[int, int], None]
) -> Iterator[tuple[str, str]]:
    """Invert `photos`; those that failed, with the reason."""
    done = 0
    for part in _parts(photos, _TOGETHER if system.together else 1):
        if _fault(plan, system, store, part):  # one of them: each by itself
            faults = ((photo, _fault(plan, system, store, [photo])) for photo in part)
            yield from ((photo, fault) for photo, fault in faults if fault)
        done += len(part)
        tell(done, len(photos))


def _fault(plan: Plan, system: System, store: Store, photos: Sequence[str]) -> str:
    """Invert `photos` together and keep what comes out; why that cannot be, as a plugin may fail in any way."""
    editor = system.editor
    try:
        crops = plan.photos.crops(photos, editor.domain, editor.weights.resolution)
        latents = system.invert(crops).to("cpu")
        if not torch.isfinite(latents.codes).all():
            raise StkitError("its codes are not finite")
        images = compared(editor.generate(latents), editor.domain)
    except Exception as error:
        return reason_of(error)
    for row, photo in enumerate(photos):
        store.save_codes(photo, latents.row(row))
        store.save_picture(RECONSTRUCTION, photo, images[row])  # last: it says that the photo is done
    return ""


def _compare(plan: Plan, system: System, store: Store, tell: Callable[[int, int], None]) -> None:
    """Paired metrics of each photo and its reconstruction, and what the judges see in the latter."""
    judged = plan.edits_of(system)
    missing = [photo for photo in inverted(plan, store) if _lacks(plan, store, photo, bool(judged))]
    for done, photo in enumerate(missing):
        known = store.values(RECONSTRUCTION, photo)
        images = store.pictures(RECONSTRUCTION, [photo])
        references = plan.photos.references([photo], system.editor.domain, system.editor.weights.resolution)
        values: dict[str, float] = {}
        for metric in plan.paired:
            if metric.name not in known:
                values |= plan.compute(metric, images, references, system)
        if judged and not _is_judged(plan, known):
            values |= _judge(plan, images)
        store.add(RECONSTRUCTION, photo, values)
        tell(done + 1, len(missing))


def _lacks(plan: Plan, store: Store, photo: str, judged: bool) -> bool:
    known = store.values(RECONSTRUCTION, photo)
    return (judged and not _is_judged(plan, known)) or any(metric.name not in known for metric in plan.paired)


def _is_judged(plan: Plan, known: Mapping[str, float]) -> bool:
    return all(any(name.startswith(f"{scorer.name}:") for name in known) for scorer in plan.scorers)


def _judge(plan: Plan, images: torch.Tensor) -> dict[str, float]:
    """The scores of one picture [1, 3, H, W], as SCORER:ATTRIBUTE; NaN where there is none."""
    found: dict[str, float] = {}
    for scorer in plan.scorers:
        options = build_options(scorer.Options, dict(plan.options.get(scorer.name, {})))
        scores = scorer.score(images, options)
        found |= {f"{scorer.name}:{name}": float(np.asarray(values)[0]) for name, values in scores.items()}
    return found


def _edit(plan: Plan, system: System, store: Store, edit: PlannedEdit, tell: Callable[[int, int], None]) -> None:
    missing = [
        photo
        for photo in inverted(plan, store)
        if not store.has_picture(edit.label, photo) or not _is_judged(plan, store.values(edit.label, photo))
    ]
    kept = [metric for metric in plan.paired if metric.name in KEPT]
    for done, photo in enumerate(missing):
        edited = edit.editor.apply(store.codes(photo), [edit.step])
        image = compared(system.editor.generate(edited), system.editor.domain)
        store.save_picture(edit.label, photo, image[0])
        # As the file has it, in 8 bits like what it is compared with.
        image = store.pictures(edit.label, [photo])
        before = store.pictures(RECONSTRUCTION, [photo])
        values = {metric.name: plan.compute(metric, image, before, system)[metric.name] for metric in kept}
        store.add(edit.label, photo, {**values, **_judge(plan, image)})
        tell(done + 1, len(missing))


def _compare_sets(plan: Plan, system: System, store: Store, tell: Callable[[int, int], None]) -> None:
    """Distances of all reconstructions, and of all edits at full strength, from the photos."""
    names = inverted(plan, store)
    whats = [RECONSTRUCTION, *(edit.label for edit in plan.edits_of(system) if edit.full)]
    known = store.sets(names)
    missing = [(what, m) for what in whats for m in plan.of_sets if m.name not in known.get(what, {})]
    if not missing or len(names) < 2:
        return
    photos = torch.cat([*_references(plan, system, names)])
    done = 0
    for what in whats:
        metrics = [metric for wanted, metric in missing if wanted == what]
        images = store.pictures(what, names) if metrics else photos
        for metric in metrics:
            known.setdefault(what, {}).update(plan.compute(metric, images, photos, system))
            store.save_sets(names, known)
            done += 1
            tell(done, len(missing))


def _references(plan: Plan, system: System, names: Sequence[str]) -> Iterator[torch.Tensor]:
    editor = system.editor
    for part in _parts(names, _TOGETHER):
        yield plan.photos.references(part, editor.domain, editor.weights.resolution)


def _parts(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


__all__ = ["KEPT", "claim_stores", "inverted", "run_plan", "stores_in"]
