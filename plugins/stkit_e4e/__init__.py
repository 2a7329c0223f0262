"""The e4e inverter (Tov et al., SIGGRAPH 2021) as a plugin."""

from __future__ import annotations

from collections.abc import Sequence

from stkit.plugin import Inverter, hookimpl


@hookimpl
def register_inverters() -> Sequence[Inverter]:
    """The one inverter of this package."""
    from stkit_e4e.inverter import E4E

    return [E4E()]


__all__ = ["register_inverters"]
