"""Photos over processes and machines by Ray Data, as a plugin."""

from __future__ import annotations

from collections.abc import Sequence

from stkit.plugin import Engine, hookimpl


@hookimpl
def register_engines() -> Sequence[Engine]:
    """The one engine of this package."""
    from stkit_ray.engine import RayEngine

    return [RayEngine()]


__all__ = ["register_engines"]
