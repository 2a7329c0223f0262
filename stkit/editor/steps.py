"""Edits in a row: each works on the codes that the one before it gave, and one picture is made at the end."""

from __future__ import annotations

import difflib
import logging
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stkit.contracts.editing import EditContext, EditingMethod
from stkit.errors import StkitError, UsageError
from stkit.files import marked_name, safe_name
from stkit.options import LatentSpace, LayerRange, build_options, edit_strength
from stkit.plugins import load_plugins

if TYPE_CHECKING:
    from stkit.latents.latents import Latents
    from stkit.plugins import Registry
    from stkit.weights import Weights

logger = logging.getLogger("stkit")


@dataclass(frozen=True)
class EditStep:
    """One edit: a method by name, and what `stkit edit` would tell it. Raises UsageError for no finite strength."""

    method: str
    attribute: str | None = None
    strength: float = 1.0
    layers: LayerRange | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise UsageError(f"the strength {self.strength} of {self.attribute or self.method} is no finite number")

    @property
    def name(self) -> str:
        """Method and attribute as part of a file name."""
        name = "-".join(filter(None, [self.method, self.attribute]))
        plain = re.sub(r"[^\w.+-]", "-", name)
        return safe_name(name) if plain == name else marked_name(plain, name)

    @property
    def label(self) -> str:
        """The edit as part of a file name."""
        return f"{self.name}{self.strength:+g}" + (f"-layers{self.layers}" if self.layers else "")

    @property
    def caption(self) -> str:
        """The edit as people read it."""
        return f"{self.attribute or self.method} {self.strength:+g}"


def parse_step(
    text: str,
    registry: Registry,
    weights: Weights,
    device: torch.device,
    references: Latents | None = None,
    layers: LayerRange | None = None,
) -> EditStep:
    """The edit of `ATTRIBUTE=STRENGTH` or `METHOD:ATTRIBUTE=STRENGTH` (`METHOD=STRENGTH` where it takes no attribute).

    An attribute without a method is that of the first method that has it for these weights: those that
    are preferred, then the others by name, methods that need a reference last and only when there is one.
    Raises UsageError, with near names where there are any.
    """
    name, strength = edit_strength(text, "--edit")
    method, colon, attribute = name.partition(":")
    if colon and method in registry.editing_methods:
        return EditStep(method, attribute, strength, layers)
    if colon and method.isidentifier():
        registry.editing_method(method)  # says what is near
    context = EditContext(weights, device, references=references)
    known: dict[str, list[str]] = {}
    for candidate in _lookup_order(registry, references is not None):
        attributes = _attribute_names(candidate, context)
        if name in attributes:
            logger.info("'%s' is edited with method %s", name, candidate.name)
            return EditStep(candidate.name, name, strength, layers)
        if name == candidate.name and not attributes:
            return EditStep(name, None, strength, layers)
        known[candidate.name] = attributes
    raise UsageError(_unknown(name, known))


def files_of(steps: Sequence[EditStep], registry: Registry, weights: Weights, device: torch.device) -> list[Path]:
    """The files, besides the generator, that decide what `steps` do: directions, a classifier, ..."""
    files = []
    for step in steps:
        context = EditContext(weights, device, step.attribute)
        files += [path for path in registry.editing_method(step.method).files(context) if path.exists()]
    return files


def apply_steps(
    latents: Latents,
    steps: Sequence[EditStep],
    registry: Registry,
    weights: Weights,
    device: torch.device,
    references: Latents | None = None,
    seed: int = 0,
) -> Latents:
    """The codes of all rows after `steps`, in order; the edits are noted in their provenance.

    Methods edit w_plus: codes of w are taken there, where they give the same images. Raises UsageError, LatentsError,
    WeightsError; nothing is computed before every step has been checked.
    """
    latents.require_generator(weights.space, weights.name)
    checked = []
    space = latents.space
    for step in steps:
        method = registry.editing_method(step.method)
        if space is LatentSpace.W_PLUS and method.space is LatentSpace.W:
            raise UsageError(f"method '{step.method}' edits {method.space} codes, and these are {space}")
        space = method.space
        if method.needs_reference and references is None:
            raise UsageError(f"method '{step.method}' needs a reference photo; give one with --ref")
        if step.layers:
            step.layers.indices(weights.num_ws)
        if not math.isfinite(step.strength):
            raise UsageError(f"strength {step.strength} is not a number to edit by; give one like 1.5")
        context = EditContext(weights, device, step.attribute, step.strength, step.layers, references, seed)
        options = build_options(method.Options, dict(step.options))
        _warn_outside_safe_range(method, context)
        checked.append((method, options, context))
    for method, options, context in checked:
        if method.space is LatentSpace.W_PLUS:
            latents = latents.broadcast(weights.num_ws)
        latents = method.edit(latents, options, context)
        if not torch.isfinite(latents.codes).all():
            raise StkitError(f"method '{method.name}' gave codes that are not finite; try a smaller strength")
    return latents


def chain_label(steps: Sequence[EditStep]) -> str:
    """All edits as part of a file name, of at most 120 bytes."""
    return safe_name("_".join(step.label for step in steps), 120)


def _lookup_order(registry: Registry, with_references: bool) -> list[EditingMethod]:
    methods = [m for m in registry.editing_methods.values() if with_references or not m.needs_reference]
    return sorted(methods, key=_rank)


def _rank(method: EditingMethod) -> tuple[int, int, str]:
    return int(method.needs_reference), -method.preference, method.name


def _attribute_names(method: EditingMethod, context: EditContext) -> list[str]:
    try:
        return [attribute.name for attribute in method.attributes(context)]
    except StkitError:  # these weights have nothing that this method can use
        return []


def _unknown(name: str, known: Mapping[str, Iterable[str]]) -> str:
    names = {attribute: method for method, attributes in known.items() for attribute in reversed(list(attributes))}
    near = [f"{names[other]}:{other}" for other in difflib.get_close_matches(name, names, n=3)]
    there = "; ".join(f"{method} has {_few(attributes)}" for method, attributes in known.items() if attributes)
    mend = (f"did you mean {' or '.join(near)}? " if near else "") + (there or "no method has any; see `stkit methods`")
    return f"no method has an attribute '{name}' with these weights: {mend}"


def _few(attributes: Iterable[str]) -> str:
    names = list(attributes)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _warn_outside_safe_range(method: EditingMethod, context: EditContext) -> None:
    for attribute in method.attributes(context):
        low, high = attribute.safe_range
        if attribute.name == context.attribute and not low <= context.strength <= high:
            logger.warning(
                "strength %g is outside the range of %g to %g in which '%s' is known to look well",
                context.strength,
                low,
                high,
                attribute.name,
            )


def __getattr__(name: str) -> Any:
    if name != "PREFERRED":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"{__name__}.PREFERRED is now the `preference` of each method; the old name goes away with the next version",
        DeprecationWarning,
        stacklevel=2,
    )
    methods = load_plugins().editing_methods.values()
    return tuple(method.name for method in sorted(methods, key=_rank) if method.preference)


__all__ = ["EditStep", "apply_steps", "chain_label", "files_of", "parse_step"]
