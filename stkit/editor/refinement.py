"""Refinement: after an encoder, inverters that go on from its codes, and what each of them gained."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from stkit.contracts.inversion import InversionContext, ignore_latents, ignore_progress
from stkit.editor.results import Gain
from stkit.errors import UsageError
from stkit.options import build_options
from stkit.plugins import load_plugins
from stkit.weights import load_header

if TYPE_CHECKING:
    import torch

    from stkit.latents.latents import Latents
    from stkit.plugins import Registry
    from stkit.weights import Weights

_log = logging.getLogger("stkit")

EDIT_QUALITY = "edit_quality"

QUALITIES = ("fast", "balanced", "best")
"""What `--quality` can be: the first refines nothing, the others what inverters say (`Inverter.quality_steps`)."""


def quality_refinements(quality: str, refine: Sequence[str] | None) -> tuple[str, ...]:
    """Deprecated: `refinements_of` does it."""
    text = f"{__name__}.quality_refinements is now refinements_of, which takes a registry first; the old name goes away"
    warnings.warn(f"{text} with the next version", DeprecationWarning, stacklevel=2)
    return refinements_of(load_plugins(), quality, refine)


def refinements_of(
    registry: Registry, quality: str, refine: Sequence[str] | None, resolution: int = 1024
) -> tuple[str, ...]:
    """What `--refine` names, otherwise what `--quality` stands for, with a generator of `resolution` px.

    Raises UsageError for an unknown quality.
    """
    if quality not in QUALITIES:
        raise UsageError(f"quality '{quality}' is not one of {', '.join(QUALITIES)}")
    if refine or quality == QUALITIES[0]:
        return tuple(refine or ())
    inverters = sorted(registry.inverters.values(), key=lambda inverter: (inverter.tunes, inverter.name))
    steps = {inverter.name: inverter.quality_steps(quality, resolution) for inverter in inverters}
    return tuple(f"{name}:{count}" for name, count in steps.items() if count)


def edit_quality(weights: Weights) -> str:
    """With which quality photos are inverted that are to be edited, where nothing says otherwise.

    `edit_quality` in the notes of the weights' inverter, where what it gives alone is too far from the photo for an
    edit to be put back into it; by default "fast".
    """
    path = weights.path("inverter")
    if not path.exists():
        return QUALITIES[0]
    noted = load_header(path).notes.get(EDIT_QUALITY, QUALITIES[0])
    return noted if noted in QUALITIES else QUALITIES[0]


class Measuring(Protocol):
    """What a refinement needs of an `Editor`, which needs the refinement."""

    weights: Weights
    registry: Registry
    device: torch.device

    def generate(self, latents: Latents) -> torch.Tensor:
        """Images [B, 3, R, R]."""

    def errors(self, images: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Errors [B] by their names."""


def refine_latents(
    editor: Measuring,
    latents: Latents,
    crops: torch.Tensor,
    refinements: Sequence[str],
    on_progress: Callable[[int, int], None] = ignore_progress,
    on_latents: Callable[[Callable[[], Latents]], None] = ignore_latents,
) -> tuple[Latents, list[Gain]]:
    """`latents` of `crops` [B, 3, R, R] after each of `refinements` ("optimize:100": inverter and steps) in turn.

    `on_progress` and `on_latents` are as in `InversionContext`.
    Raises UsageError for an inverter that cannot refine, or that is not there.
    """
    chosen = parse_refinements(editor.registry, refinements)  # all of them before the first begins
    if not chosen:
        return latents, []
    gains = []
    before = _errors(editor, latents, crops)
    for text, (name, values) in zip(refinements, chosen, strict=True):
        inverter = editor.registry.inverter(name)
        taken = [0]

        def count(done: int, total: int, taken: list[int] = taken) -> None:
            taken[0] = done
            on_progress(done, total)

        start = time.perf_counter()
        context = InversionContext(
            editor.weights, editor.device, start=latents, on_progress=count, on_latents=on_latents
        )
        latents = inverter.invert(crops.to(editor.device), build_options(inverter.Options, values), context)
        seconds = time.perf_counter() - start
        after = _errors(editor, latents, crops)
        gains.append(Gain(text, taken[0], seconds, before, after))
        _log.info("%s", gains[-1])
        before = after
    return latents, gains


def parse_refinements(registry: Registry, refinements: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Inverter and options of each. Raises UsageError for one that cannot refine, or that is not there."""
    return [_parse(registry, text) for text in refinements]


def _parse(registry: Registry, text: str) -> tuple[str, dict[str, Any]]:
    name, colon, steps = text.partition(":")
    inverter = registry.inverter(name)
    if not inverter.refines:
        able = sorted(name for name, known in registry.inverters.items() if known.refines)
        raise UsageError(f"inverter '{name}' cannot refine codes; those that can: {', '.join(able) or 'none'}")
    if not colon:
        return name, {}
    if not steps.isdecimal() or int(steps) < 1:
        raise UsageError(f"--refine '{text}' is not like {name} or {name}:100")
    values = {"steps": int(steps)}
    build_options(inverter.Options, values)
    return name, values


def _errors(editor: Measuring, latents: Latents, crops: torch.Tensor) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in editor.errors(editor.generate(latents), crops).items()}


__all__ = [
    "EDIT_QUALITY",
    "QUALITIES",
    "Gain",
    "Measuring",
    "edit_quality",
    "parse_refinements",
    "quality_refinements",
    "refine_latents",
    "refinements_of",
]
