"""What an evaluation is to compute; whatever cannot be is found out at the start, all at once, and the rest goes on."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from stkit.contracts.inversion import Inverter
from stkit.contracts.metrics import Metric
from stkit.contracts.scoring import Scorer
from stkit.editor.editor import Editor, load
from stkit.editor.opening import open_weights
from stkit.editor.refinement import QUALITIES, parse_refinements, refine_latents, refinements_of
from stkit.editor.steps import EditStep
from stkit.errors import StkitError, UsageError, reason_of
from stkit.files import safe_name
from stkit.jobs.evaluation.photos import Photos, find_photos
from stkit.jobs.request import EvaluateRequest
from stkit.latents.latents import Latents
from stkit.options import build_options
from stkit.plugins import Registry, load_plugins

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class System:
    """One row of the table: weights and an inverter with its options, and what then refines the codes, in turn."""

    editor: Editor
    inverter: str
    options: Mapping[str, Any]
    label: str
    refine: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The label as the name of a folder."""
        return safe_name(re.sub("[/:+]", "-", self.label))

    @property
    def together(self) -> bool:
        """Whether it inverts many photos at once in less time than one by one."""
        method = self.editor.registry.inverter(self.inverter)
        return not (method.tunes or method.refines or self.refine)

    def invert(self, crops: torch.Tensor) -> Latents:
        """Latents of `crops` [B, 3, R, R]."""
        latents = self.editor.invert_crops(crops, self.inverter, self.options)
        return refine_latents(self.editor, latents, crops, self.refine)[0]


@dataclass(frozen=True, eq=False)
class PlannedEdit:
    """One edit at one strength; `editor` has the direction or whatever else it needs, for the systems' code space."""

    step: EditStep
    editor: Editor
    full: bool
    """Whether this is the strength that was asked for, or its opposite; otherwise half of it."""

    @property
    def label(self) -> str:
        """Method, attribute and strength."""
        return self.step.label


@dataclass(frozen=True, eq=False)
class Plan:
    """`edits` are by the code space that they edit; `notes` say what is left out and what to beware of."""

    photos: Photos
    systems: Sequence[System]
    metrics: Sequence[Metric[Any]]
    scorers: Sequence[Scorer[Any]]
    edits: Mapping[str, Sequence[PlannedEdit]]
    options: Mapping[str, Mapping[str, Any]]
    costs: bool
    plots: bool
    notes: Sequence[str]

    def edits_of(self, system: System) -> Sequence[PlannedEdit]:
        """The edits of what the system inverts."""
        return self.edits.get(system.editor.weights.space, ())

    @property
    def paired(self) -> list[Metric[Any]]:
        """The metrics that give each photo a value."""
        return [metric for metric in self.metrics if metric.paired]

    @property
    def of_sets(self) -> list[Metric[Any]]:
        """The metrics of all photos together."""
        return [metric for metric in self.metrics if not metric.paired]

    def compute(
        self, metric: Metric[Any], images: torch.Tensor, references: torch.Tensor, system: System
    ) -> dict[str, float]:
        """The metric's numbers, with its options; its own name is one of them."""
        options = build_options(metric.Options, dict(_metric_options(metric, self.options, system.editor)))
        device = system.editor.device
        found = metric.compute(images.to(device), references.to(device), options)
        return {name: float(value) for name, value in found.items()}


def make_plan(request: EvaluateRequest) -> Plan:
    """Check everything that `request` names. Raises UsageError, StkitError when nothing can be measured."""
    registry = load_plugins()
    notes: list[str] = []
    editors = _editors(request, notes)
    if not editors:
        raise UsageError("; ".join(notes))
    options = _split_options(request.options)
    first = editors[0]
    photos = find_photos(request, first.domain, first.weights.alignment, notes)
    systems = [
        system
        for editor in editors
        for text in request.inverters or sorted(editor.weights.inverters())
        if (system := _system(registry, editor, text, options, photos, notes)) is not None
    ]
    if len({system.name for system in systems}) < len(systems):
        raise UsageError("two of the weights have the same name, or an inverter is named twice; rename a folder")
    if not systems:
        raise UsageError("; ".join([*notes, "no inverter is left to measure"]))
    metrics = _metrics(request, registry, options, systems[0], photos, notes)
    edits = {space: _edits(request, space, systems, notes) for space in _spaces(systems)}
    scorers = _scorers(registry, options, systems[0], photos, notes) if any(edits.values()) else []
    _require_used(options, [*(system.inverter for system in systems), *registry.metrics, *registry.scorers])
    plots = importlib.util.find_spec("matplotlib") is not None
    if not plots:
        notes.append("without matplotlib there are no plots: pip install 'stkit[evaluate]'")
    return Plan(photos, systems, metrics, scorers, edits, options, request.costs, plots, notes)


def _editors(request: EvaluateRequest, notes: list[str]) -> list[Editor]:
    """One for each of the weights, all of one domain."""
    editors: list[Editor] = []
    for name in request.weights or (None,):
        try:
            editor = load(open_weights(request.domain, name), request.device)
        except StkitError as error:
            notes.append(str(error))
            continue
        if editors and editor.domain.name != editors[0].domain.name:
            theirs = f"weights '{editor.weights.name}' are for {editor.domain.name}"
            notes.append(f"{theirs}, the first for {editors[0].domain.name}: left out")
        else:
            editors.append(editor)
    return editors


def _split_options(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{"optimize.steps": 5} as {"optimize": {"steps": 5}}. Raises UsageError."""
    split: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        name, dot, option = key.partition(".")
        if not dot or not option:
            raise UsageError(f"option '{key}' is not like optimize.steps: name the inverter or the metric before a dot")
        split.setdefault(name, {})[option] = value
    return split


def _require_used(options: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> None:
    for name in options:
        if name not in names:
            raise UsageError(f"options of '{name}', which is none of what is measured: {', '.join(sorted(set(names)))}")


def _system(
    registry: Registry, editor: Editor, text: str, options: Mapping[str, Mapping[str, Any]], photos: Photos,
    notes: list[str],
) -> System | None:  # fmt: skip
    """The inverter of `text`, tried on one photo; None with a note where it cannot be used.

    It is like "optimize:100", "psp+optimize:50+pti" where others refine what it gives, or a quality like "best".
    """
    label = f"{editor.weights.name}/{text}"

    def attempt() -> System:
        first, *refine = text.split("+")
        if text in QUALITIES:
            first = editor.weights.own_inverter()
            refine = list(refinements_of(registry, text, None, editor.weights.resolution))
        name, colon, steps = first.partition(":")
        inverter = registry.inverter(name)
        given = {**options.get(name, {}), **({"steps": steps} if colon else {})}
        chosen = build_options(inverter.Options, given).model_dump(exclude_unset=True)
        system = System(editor, name, chosen, label, tuple(refine))
        quick = tuple(f"{method}:1" for method, _ in parse_refinements(registry, refine))
        trial = dataclasses.replace(system, options={**chosen, **_quick(inverter)}, refine=quick)
        editor.generate(trial.invert(photos.crops(photos.names[:1], editor.domain, editor.weights.resolution)))
        return system

    return _tried(attempt, f"{label} is left out", notes)


def _quick(inverter: Inverter[Any]) -> dict[str, Any]:
    """Options for a try: one step of whatever steps there are."""
    return {name: 1 for name in inverter.Options.model_fields if name == "steps" or name.endswith("_steps")}


def _metrics(
    request: EvaluateRequest, registry: Registry, options: Mapping[str, Mapping[str, Any]], system: System,
    photos: Photos, notes: list[str],
) -> list[Metric[Any]]:  # fmt: skip
    names = list(registry.metrics) if "all" in request.metrics else list(request.metrics)
    editor, kept = system.editor, []
    images = photos.references(photos.names[:2], editor.domain, editor.weights.resolution)
    for name in names:

        def attempt(name: str = name) -> Metric[Any]:
            metric = registry.metric(name)
            _require_domain(metric.domains, editor)
            own = build_options(metric.Options, dict(_metric_options(metric, options, editor)))
            metric.compute(images.flip(0), images, own)
            return metric

        metric = _tried(attempt, f"metric {name} is left out", notes)
        kept += [metric] if metric is not None else []
    if not kept:
        raise UsageError("; ".join([*notes, "no metric is left"]))
    return kept


def _metric_options(metric: Metric[Any], options: Mapping[str, Mapping[str, Any]], editor: Editor) -> Mapping[str, Any]:
    """Its options; one called `template` is how the weights frame their crops."""
    known = {"template": editor.weights.alignment.kind} if "template" in metric.Options.model_fields else {}
    return {**known, **options.get(metric.name, {})}


def _scorers(
    registry: Registry, options: Mapping[str, Mapping[str, Any]], system: System, photos: Photos, notes: list[str]
) -> list[Scorer[Any]]:
    """The judges of edits: all that know what the photos show."""
    editor, kept = system.editor, []
    images = photos.references(photos.names[:1], editor.domain, editor.weights.resolution)
    for name, scorer in registry.scorers.items():
        if scorer.domains and editor.domain.name not in scorer.domains:
            continue

        def attempt(scorer: Scorer[Any] = scorer) -> Scorer[Any]:
            scorer.score(images, build_options(scorer.Options, dict(options.get(scorer.name, {}))))
            return scorer

        known = _tried(attempt, f"judge {name} is left out", notes)
        kept += [known] if known is not None else []
    if not kept:
        notes.append(f"nothing judges edits of {editor.domain.name}: only how far they are from the photos is measured")
    return kept


def _require_domain(domains: Sequence[str], editor: Editor) -> None:
    if domains and editor.domain.name not in domains:
        raise UsageError(f"it is for {', '.join(domains)}, and these photos show {editor.domain.name}")


def _spaces(systems: Sequence[System]) -> list[str]:
    return list(dict.fromkeys(system.editor.weights.space for system in systems))


def _edits(request: EvaluateRequest, space: str, systems: Sequence[System], notes: list[str]) -> list[PlannedEdit]:
    """The edits of codes of one space, which any weights of that space may have the direction for."""
    editors = list(dict.fromkeys(s.editor for s in systems if s.editor.weights.space == space))
    planned = []
    for text in request.edits:
        faults = []
        for editor in editors:
            try:
                step = editor.parse_step(text)
                if not step.strength:
                    raise UsageError(f"--edit '{text}' changes nothing; give a strength")
                if editor.registry.editing_method(step.method).needs_reference:
                    raise UsageError(f"'{text}' needs a reference photo, which evaluations do not give")
                editor.try_steps([step])
            except StkitError as error:
                faults.append(str(error))
                continue
            for share in (-1.0, -0.5, 0.5, 1.0):
                moved = dataclasses.replace(step, strength=share * step.strength)
                planned.append(PlannedEdit(moved, editor, abs(share) == 1))
            break
        else:
            notes.append(f"edit {text} of {editors[0].weights.name} is left out: {faults[0]}")
    return planned


def _tried(attempt: Callable[[], T], what: str, notes: list[str]) -> T | None:
    """What `attempt` gives; None with a note when it fails, as a plugin may in any way."""
    try:
        return attempt()
    except StkitError as error:
        notes.append(f"{what}: {error}")
    except Exception as error:
        notes.append(f"{what}: it raised {type(error).__name__}: {reason_of(error)}")
    return None


__all__ = ["Plan", "PlannedEdit", "System", "make_plan"]
