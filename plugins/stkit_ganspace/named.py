"""Components that somebody has looked at and named, as the paper's are: "rotation" is component 1 in layers 0 to 2."""

from __future__ import annotations

import re

from stkit.plugin import Direction, LatentSpace, LayerRange, UnknownNameError, Weights
from stkit_ganspace.activations import count_activations, load_activations
from stkit_ganspace.components import load_components

KIND = "component"
_NUMBERED = re.compile(r"(pc|act)([1-9][0-9]*)")


def parse_number(name: str) -> tuple[str, int] | None:
    """("pc", 3) for pc3, ("act", 1) for act1: the names that all components have; None for any other."""
    match = _NUMBERED.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def name_component(
    weights: Weights, number: str, name: str, layers: LayerRange | None = None, flip: bool = False
) -> Direction:
    """Component `number` (pc1, act1, ...), the other way round if `flip`, as the direction `name` for `layers`.

    Raises UnknownNameError, and UsageError for layers that the generator does not have.
    """
    if layers:
        layers.indices(weights.num_ws)
    parsed = parse_number(number)
    components = load_components(weights)
    counts = {"pc": len(components.stds), "act": count_activations(weights)}
    if parsed is None or parsed[1] > counts[parsed[0]]:
        raise UnknownNameError("component", number, [f"{kind}{i + 1}" for kind in counts for i in range(counts[kind])])
    index = parsed[1] - 1
    if parsed[0] == "pc":
        vector, unit, limits = components.directions[index], components.stds[index], components.limits[index]
    else:
        activations = load_activations(weights)
        vector, unit, limits = activations.directions[index], activations.units[index], activations.limits[index]
    low, high = (round(float(limit), 1) for limit in limits)
    return Direction(
        name=name,
        description=f"component {'-' if flip else ''}{number}" + (f" in layers {layers}" if layers else ""),
        vector=-vector if flip else vector,
        space=LatentSpace.W,
        generator=weights.space,
        unit=float(unit),
        safe_range=(-high, -low) if flip else (low, high),
        layers=layers,
    )


__all__ = ["KIND", "name_component", "parse_number"]
