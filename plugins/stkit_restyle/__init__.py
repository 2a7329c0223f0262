"""The ReStyle inverter (Alaluf et al., ICCV 2021) as a plugin."""

from __future__ import annotations

from collections.abc import Sequence

from stkit.plugin import Inverter, hookimpl


@hookimpl
def register_inverters() -> Sequence[Inverter]:
    """The one inverter of this package."""
    from stkit_restyle.inverter import ReStyle

    return [ReStyle()]


__all__ = ["register_inverters"]
