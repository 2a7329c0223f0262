"""Inversion by optimisation of the codes and, with PTI, of the generator, as a plugin."""

from __future__ import annotations

from collections.abc import Sequence

from stkit.plugin import Inverter, hookimpl


@hookimpl
def register_inverters() -> Sequence[Inverter]:
    """The inverters of this package."""
    from stkit_optimize.optimize import Optimize
    from stkit_optimize.pti import PTI

    return [Optimize(), PTI()]


__all__ = ["register_inverters"]
